"""ONNX Runtime's profile of a model: the kernels that ran, what each took, and what it read and wrote."""

from __future__ import annotations

import json
import re
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prunec.exporters.bench.candidates import Candidate, Feeds
from prunec.exporters.bench.sessions import Setting, open_session
from prunec.exporters.bench.work import named
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.runtime import session_options
from prunec.ir.save import save
from prunec.ir.scopes import walk

WARM_UP = 3
SUFFIX = "_kernel_time"
BLOCKED = re.compile(r"_nchwc(_token_\d+)?$")
"""How ONNX Runtime names kernels that work on blocks of channels."""
LEAST = 0.1
"""Share of a kernel's time that is its own, whatever the profiler took."""
TRIMMED = 0.25
"""Share of the fastest, and of the slowest runs of a kernel that its mean leaves out; one tick is a microsecond."""


Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One node of the optimised graph.

    Attributes:
        name: as the profile has it, without its suffix.
        op: what ran, such as ``Conv`` or ``ReorderOutput``.
        seconds: of one run of the model; of all of its iterations where it is in a loop.
        bytes: of activations read and written, and of weights that were not packed beforehand.
    """

    name: str
    op: str
    seconds: float
    bytes: int

    @property
    def blocked(self) -> bool:
        """Whether it works on blocks of channels."""
        return BLOCKED.search(self.name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What ONNX Runtime's profiler wrote about a model.

    Attributes:
        kernels: in the order in which they first ran.
        run: seconds of one run that nothing interrupts, what the profiler takes included.
    """

    kernels: tuple[Kernel, ...]
    run: float


def run_profiled(
    candidate: Candidate,
    feeds: Sequence[Feeds],
    setting: Setting,
    *,
    batch: int,
    runs: int,
    level: str = "all",
) -> Profile:
    """Run a model under ONNX Runtime's profiler.

    Args:
        candidate: the model.
        feeds: what it runs on, in turn.
        setting: threads and providers.
        batch: their batch size.
        runs: runs that count.
        level: ``all`` optimisations, or ``basic`` ones, which keep most nodes apart.

    Raises:
        UserError: the model does not run.
    """
    import onnxruntime as ort

    options = session_options(optimize=True, threads=setting.threads)
    options.enable_profiling = True
    if level == "basic":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="prunec-bench-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        opened = open_session(_with_names(candidate, Path(folder)), setting, options)
        call = opened.call(feeds)
        opened.first_run(feeds[0], batch, setting.timeout)
        for _ in range(WARM_UP - 1 + runs):
            call()
        text = Path(opened.session.end_profiling()).read_text(encoding="utf-8")
    return read_profile(text, warm_up=WARM_UP, file=candidate.name)


def _with_names(candidate: Candidate, folder: Path) -> Candidate:
    """The model with a name for every node, since kernels are told apart by names."""
    if all(node.name for node in walk(candidate.module.graph)):
        return candidate
    file = folder / "named.onnx"
    save(named(candidate.module), file)
    return replace(candidate, file=file)


def read_profile(text: str, *, warm_up: int = 0, file: str = "<profile>") -> Profile:
    """The kernels of a profile, and what a run took.

    Args:
        text: the JSON that ONNX Runtime wrote.
        warm_up: first runs that are left out.
        file: what messages call the profile.

    Raises:
        UserError: the text is no profile, or holds no run after the warm-up.
    """
    try:
        events = json.loads(text)
        runs = sorted((float(e["ts"]), float(e["dur"])) for e in events if e.get("name") == "model_run")
        nodes = [e for e in events if e.get("cat") == "Node" and str(e["name"]).endswith(SUFFIX)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"this is no profile of ONNX Runtime: {error}", place=Place(file=file)) from error
    if len(runs) <= warm_up:
        raise UserError(
            f"the profile holds {len(runs)} runs, {warm_up} of them to warm up", place=Place(file=file)
        )
    counted = runs[warm_up:]
    ran = sorted((e for e in nodes if float(e["ts"]) >= counted[0][0]), key=lambda e: float(e["ts"]))
    kernels = tuple(_kernels(ran, len(counted)))
    return Profile(kernels=kernels, run=sum(k.seconds for k in kernels) + _between(ran, counted))


def without_profiler(profile: Profile, latency: float) -> Profile:
    """A profile less what the profiler itself took, whose times add up to those of a run without it.

    It takes a microsecond or two for each kernel, most of it between kernels: what the profiled run is longer than one
    without the profiler comes off there first, and then off all kernels alike. What still differs, such as the clock of
    the processor in the meantime, is in proportion.

    Args:
        profile: as it was measured.
        latency: seconds of a run without the profiler.
    """
    kernels = sum(kernel.seconds for kernel in profile.kernels)
    excess = max(0.0, profile.run - latency)
    between = max(0.0, profile.run - kernels - excess)
    each = max(0.0, excess - (profile.run - kernels)) / max(1, len(profile.kernels))
    left = tuple(replace(k, seconds=max(k.seconds - each, LEAST * k.seconds)) for k in profile.kernels)
    total = sum(k.seconds for k in left) + between
    scale = latency / total if total else 1.0
    return Profile(kernels=tuple(replace(k, seconds=k.seconds * scale) for k in left), run=latency)


def _key(event: Event) -> tuple[str, str]:
    """What tells a kernel from all others."""
    return event["name"], str(event["args"].get("node_index"))


def _kernels(events: Iterable[Event], runs: int) -> Iterator[Kernel]:
    seen: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        seen[_key(event)].append(event)
    for (name, _), found in seen.items():
        first = found[0]["args"]
        sizes = (int(first.get(key, 0) or 0) for key in ("activation_size", "output_size", "parameter_size"))
        yield Kernel(
            name=name.removesuffix(SUFFIX),
            op=str(first.get("op_name", "")),
            seconds=_typical([float(e["dur"]) for e in found]) * len(found) / runs,
            bytes=sum(sizes),
        )


def _between(events: Iterable[Event], runs: Sequence[tuple[float, float]]) -> float:
    """Seconds of a run before, between and behind kernels.

    Each gap is added up by itself, so that what is interrupted, of which a long run has some always, does not count.

    Args:
        events: kernels in the order in which they ran.
        runs: begin and duration of each run.
    """
    begins = [begin for begin, _ in runs]
    gaps: dict[object, list[float]] = defaultdict(list)
    ends = list(begins)  # of the last kernel of each run so far
    for event in events:
        begin = float(event["ts"])
        run = bisect_right(begins, begin) - 1
        gaps[_key(event)].append(max(0.0, begin - ends[run]))
        ends[run] = max(ends[run], begin + float(event["dur"]))
    gaps["end"] = [max(0.0, begin + lasted - end) for (begin, lasted), end in zip(runs, ends, strict=True)]
    return sum(_typical(found) * len(found) / len(runs) for found in gaps.values())


def _typical(durations: Sequence[float]) -> float:
    """The mean of the middle half, in seconds: what is interrupted does not count, and whole ticks average out."""
    ordered = np.sort(np.asarray(durations))
    cut = int(len(ordered) * TRIMMED)
    return float(ordered[cut : len(ordered) - cut].mean()) * 1e-6
