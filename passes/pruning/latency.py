"""How long the layers of a model take on this machine, and what that says about a cut.

For each layer the nodes that its channels run through are taken out of the model, and timed as they are and with half
of the channels gone, in turns. That gives the seconds that a multiply-accumulate of the layer is worth here; what a cut
saves is then a function of kept units, as the multiply-accumulates are (:mod:`prunec.passes.pruning.cut_cost`), and
everything else (what is pinned, what a session costs) is a rest that stays. Tables are kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.atomic import replace_file
from prunec.ir.diagnostics import PrunecError
from prunec.ir.execute import Runner
from prunec.ir.extract import extract
from prunec.ir.facts import Facts
from prunec.ir.fingerprint import fingerprint
from prunec.ir.module import Module
from prunec.ir.scopes import walk
from prunec.ir.timing import take_turns
from prunec.ir.version import VERSION
from prunec.passes.coupling import analyse
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.cutting import Cutter
from prunec.passes.pruning.selection import removed_components

Array = NDArray[Any]
Counts = NDArray[np.int64]

SCHEMA = "prunec.latency-table/1"
SECONDS = 0.15
"""For timing one layer."""
RUNS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLatency:
    """One layer as it is, and with half of its channels.

    Attributes:
        tensor: the first axis that loses channels, ``name:axis``.
        seconds: of the nodes that its channels run through, all channels there.
        halved: the same with half of them.
        macs: multiply-accumulates that go with that half.
        failure: why these nodes could not be timed alone; nothing is known to be gained then.
    """

    tensor: str
    seconds: float
    halved: float
    macs: int
    failure: str | None = None

    @property
    def seconds_a_mac(self) -> float:
        """What one multiply-accumulate is worth; 0 where nothing is gained."""
        return max(self.seconds - self.halved, 0.0) / max(self.macs, 1)


class CannotTime(Exception):
    """The nodes of a layer do not run alone, or not with half of its channels; the text says why."""


def latency_table(
    module: Module,
    coupling: Coupling,
    groups: Sequence[Group],
    clusters: Sequence[Sequence[int]],
    options: CouplingOptions,
    *,
    threads: int,
) -> list[LayerLatency]:
    """The latencies of all layers on this machine, from the cache where they were measured before.

    Layers that could not be timed are in the table with their ``failure``; these are tried again next time.

    Args:
        module: the model.
        coupling: its analysis.
        groups: the groups that may lose units.
        clusters: positions of the groups of each layer.
        options: of the analysis.
        threads: threads of one op.
    """
    path = _cache(module, options, threads)
    known = _read(path)
    tensors = [_name(groups[members[0]]) for members in clusters]
    if missing := [number for number, tensor in enumerate(tensors) if tensor not in known]:
        positions = _positions(module, coupling)
        cost = CutCost(module.model, coupling, groups)
        for number in missing:
            found = _measured(
                module, coupling.facts, groups, clusters[number], cost, positions, options, threads
            )
            known[tensors[number]] = found
        _write(path, [row for row in known.values() if row.failure is None])
    return [known[tensor] for tensor in tensors]


def clock_of(threads: int) -> Callable[[], float]:
    """The clock for sessions of so many threads: with one, that of the thread itself, so that what other processes do
    in between does not count.
    """
    return thread_time if threads == 1 else perf_counter


class LatencyCost:
    """Seconds of one inference as a function of kept units.

    Args:
        cost: of the model in multiply-accumulates.
        table: the latency of each layer.
        clusters: positions of the groups of each layer.
        seconds: of the model as it is.
    """

    def __init__(
        self, cost: CutCost, table: Sequence[LayerLatency], clusters: Sequence[Sequence[int]], seconds: float
    ) -> None:
        worth = {g: row.seconds_a_mac for row, members in zip(table, clusters, strict=True) for g in members}
        self._cost = cost
        self._weights = cost.weights_by_group(worth)
        self._rest = max(seconds - cost.weighted(None, cost.full, self._weights), 0.0)

    def total(self, kept: Counts) -> float:
        """Seconds of one inference."""
        return self._rest + self._cost.weighted(None, kept, self._weights)

    def touching(self, groups: Collection[int], kept: Counts) -> float:
        """The part of them that depends on some groups."""
        return self._cost.weighted(groups, kept, self._weights)


def _measured(
    module: Module,
    facts: Facts,
    groups: Sequence[Group],
    members: Sequence[int],
    cost: CutCost,
    positions: Mapping[int, set[int]],
    options: CouplingOptions,
    threads: int,
) -> LayerLatency:
    """Time the nodes of one layer."""
    tensor = _name(groups[members[0]])
    less = cost.full.copy()
    less[list(members)] -= less[list(members)] // 2
    macs = int(cost.macs_touching(members, cost.full) - cost.macs_touching(members, less))
    around = set().union(
        *(positions.get(component, set()) for i in members for component in groups[i].components.tolist())
    )
    part = extract(module, around, facts)
    try:
        half = _halved(part, tensor, options)
        whole, rest = _seconds((part, half), _feeds(part, facts), threads)
    except CannotTime as error:
        return LayerLatency(tensor=tensor, seconds=0.0, halved=0.0, macs=macs, failure=str(error))
    return LayerLatency(tensor=tensor, seconds=whole, halved=rest, macs=macs)


def _seconds(modules: Sequence[Module], feeds: Mapping[str, Array], threads: int) -> list[float]:
    """Median time of each of some models, in turns."""
    try:
        runners = [Runner(module, optimize=True, threads=threads) for module in modules]
        calls = [partial(runner.run, feeds) for runner in runners]
        turns = take_turns(calls, RUNS, warm_up=3, seconds=SECONDS, clock=clock_of(threads))
    except PrunecError as error:  # what ONNX Runtime refuses
        raise CannotTime(error.message) from error
    return [float(seconds) for seconds in np.median(turns, axis=1)]


def _halved(part: Module, tensor: str, options: CouplingOptions) -> Module:
    """The part with the first half of the layer's channels."""
    half = part.clone()
    coupling = analyse(half.model, options=options)
    found = [
        group for group in coupling.prunable if any(f"{m.name}:{m.axis}" == tensor for m in group.members)
    ]
    if not found:
        raise CannotTime("its channels reach the border of what runs alone")
    chosen = [np.arange(group.units // 2) for group in found]
    Cutter(half.model, coupling, removed_components(coupling, found, chosen)).run()
    return half


def _feeds(part: Module, facts: Facts) -> dict[str, Array]:
    """Inputs of a part, of the sizes that its values have in the model."""
    shapes = {v.name: shape for v, shape in facts.shapes.items()}
    rng = np.random.default_rng(0)
    feeds = {}
    for value in part.graph.inputs:
        shape, dtype = shapes.get(value.name), value.dtype
        if shape is None or dtype is None:
            raise CannotTime(f"shape or type of `{value.name}` is unknown")
        kind = dtype.numpy()
        feeds[value.name or ""] = (
            rng.standard_normal(shape).astype(kind) if dtype.is_floating_point() else np.ones(shape, kind)
        )
    return feeds


def _positions(module: Module, coupling: Coupling) -> dict[int, set[int]]:
    """Per component the positions of the nodes of the main graph that its slots run through."""
    found: dict[int, set[int]] = {}
    relations = coupling.relations
    place = {inner: n for n, node in enumerate(module.graph) for inner in walk([node])}
    for node, rule in relations.rules.items():
        for side, position, terms in rule.operands():
            first = relations.numbers.get((node, side, position))
            for axis in range(len(terms) if first is not None else 0):
                labels = coupling.labels((first or 0) + axis)
                for component in () if labels is None else np.unique(labels).tolist():
                    found.setdefault(component, set()).add(place[node])
    for last, chain in relations.chains.items():
        for positions in found.values():
            if place[last] in positions:
                positions.update(place[node] for node in chain.nodes)
    return found


def _name(group: Group) -> str:
    return f"{group.members[0].name}:{group.members[0].axis}"


# -- cache ------------------------------------------------------------


def _cache(module: Module, options: CouplingOptions, threads: int) -> Path:
    """The file for one model on one machine with one number of threads."""
    import onnxruntime as ort

    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    machine = [platform.machine(), *_cpu(), str(os.cpu_count()), ort.__version__, VERSION]
    key = hashlib.sha256(
        " ".join([fingerprint(module.model, weights=False), *machine, str(threads), options.unit]).encode()
    )
    return Path(home) / "prunec" / "latency" / f"{key.hexdigest()[:32]}.json"


def _cpu() -> Iterator[str]:
    info = Path("/proc/cpuinfo")
    if info.exists():
        yield next((line for line in info.read_text().splitlines() if line.startswith("model name")), "")
    yield platform.processor()


def _read(path: Path) -> dict[str, LayerLatency]:
    """A table; an empty one where the file is not there or of no use."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = data["layers"] if data["schema"] == SCHEMA else []
        return {row["tensor"]: LayerLatency(**row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(path: Path, table: Sequence[LayerLatency]) -> None:
    """Keep a table; where that is not possible, it is measured again next time."""
    rows = [asdict(row) for row in table]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"schema": SCHEMA, "layers": rows}, indent=1).encode()
        replace_file(path, lambda stream: stream.write(content))
    except OSError:
        return
