"""How much faster sparse kernels can make a model at the most, before anybody prunes (Amdahl, 1967).

If layers that take a share ``p`` of the time get ``x`` times faster, the model gets ``1 / ((1 - p) + p / x)`` times
faster, and no more than ``1 / (1 - p)`` however fast they get. The shares are measured by ONNX Runtime's profiler, or
estimated from operations and bytes (Williams, Waterman and Patterson, *Roofline*, 2009) without running the model.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from prunec.exporters.bench.candidates import Candidate, Feeds, Inputs, feeds_of, open_candidates
from prunec.exporters.bench.layers import assign, is_compute
from prunec.exporters.bench.machine import measure_machine
from prunec.exporters.bench.profile import run_profiled
from prunec.exporters.bench.results import Machine
from prunec.exporters.bench.sessions import CPU, Setting
from prunec.exporters.bench.work import Work, find_work, named
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData

KERNEL = 2.0
"""How much faster a 2:4 kernel is at the most: it does half of the multiplications."""
RUNS = 20
COVERED = 0.98
"""Share of the multiplications whose kernels have to be known."""

RENAMES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Ops that leave the numbers where they are."""

Source = Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShare:
    """One layer, or one kind of op that multiplies nothing.

    Attributes:
        name: of the node; of the op for those that multiply nothing.
        op: of the node.
        share: of the model's time.
        eligible: whether a sparse kernel can run it, given 2:4 weights.
        profitable: whether it is large enough to gain by that.
        why_not: why it cannot run sparse or does not gain, or None.
        alone: how much faster the model gets if this layer alone runs sparse.
    """

    name: str
    op: str
    share: float
    eligible: bool
    profitable: bool
    why_not: str | None
    alone: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What a faster kernel for sparse weights can do for a model, at the most.

    Attributes:
        model: name of the model.
        batch: samples of one run.
        source: whether the shares of time are measured or estimated.
        kernel: how much faster the kernel is.
        share: of the time in layers that can run sparse.
        speedup: of the model, if all of these do.
        limit: of the model, if these took no time at all.
        worthwhile: of the model, if only those run sparse that are large enough to gain.
        layers: those that take longest first.
    """

    model: str
    batch: int
    source: Source
    kernel: float
    share: float
    speedup: float
    limit: float
    worthwhile: float
    layers: tuple[LayerShare, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.share:
            return f"2:4 cannot make {self.model} faster: no layer can run sparse"
        how = "of the time" if self.source == "measured" else "of the estimated time"
        return (
            f"2:4 can make {self.model} at most {self.speedup:.2f}x faster at batch {self.batch}: {self.share:.0%} "
            f"{how} is in layers that can run sparse, {self.kernel:g}x faster at most"
        )


def amdahl(share: float, kernel: float) -> float:
    """How much faster a whole gets if a share of it gets ``kernel`` times faster.

    >>> round(amdahl(0.55, 2.0), 2)
    1.38
    """
    return 1 / ((1 - share) + share / kernel)


def ceiling(
    model: Module | str | os.PathLike[str],
    *,
    kernel: float = KERNEL,
    batch: int = 1,
    threads: int = 1,
    machine: Machine | None = None,
    estimate: bool = False,
    data: CalibrationData | Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Ceiling:
    """Predict how much faster 2:4 can make a model at the most.

    Args:
        model: file or module; it need not be sparse.
        kernel: how much faster sparse kernels are than dense ones.
        batch: samples of one run; a model that fixes its batch keeps it.
        threads: for one op; 0 lets ONNX Runtime choose.
        machine: for an estimate: the machine; None: this one, as measured.
        estimate: compute shares from operations and bytes instead of running the model.
        data: inputs to use instead of random ones.
        sizes: of random inputs, by name of a free dimension.
        seed: of random inputs.

    Raises:
        UserError: the model does not load or run, or ``kernel`` is below 1.
    """
    if not kernel >= 1:
        raise UserError(
            f"a kernel that is {kernel:g}x faster is none", help=["a 2:4 kernel is at most 2x faster"]
        )
    with tempfile.TemporaryDirectory(prefix="prunec-bench-") as folder:
        (candidate,) = open_candidates([model], Path(folder))
        module = named(candidate.module)
        samples = None if data is None else CalibrationData.of(data)
        feeds = feeds_of(candidate, batch, Inputs(data=samples, sizes=sizes or {}, seed=seed))
        work = find_work(module, feeds[0])
        if estimate:
            times = roofline(work, machine or measure_machine(threads))
        else:
            setting = Setting(threads=threads, providers=(CPU,), timeout=120.0)
            times = _profiled(candidate, feeds, module, work, setting, batch=candidate.batch or batch)
        shares = layer_shares(times, work, kernel)
    return summarize(
        shares, model=candidate.name, batch=candidate.batch or batch, kernel=kernel, estimated=estimate
    )


def _profiled(
    candidate: Candidate,
    feeds: Sequence[Feeds],
    module: Module,
    work: Mapping[str, Work],
    setting: Setting,
    *,
    batch: int,
) -> list[tuple[str, str, float]]:
    """Name, op and measured seconds of every kernel.

    Where ONNX Runtime fuses layers into kernels that no longer say which layers they are (attention), it is told to
    leave them apart.
    """
    times: list[tuple[str, str, float]] = []
    for level in ("all", "basic"):
        kernels = run_profiled(candidate, feeds, setting, batch=batch, runs=RUNS, level=level).kernels
        nodes = assign(kernels, module, work)
        times = [(node or k.name, k.op, k.seconds) for k, node in zip(kernels, nodes, strict=True)]
        found = sum(work[name].macs for name in {name for name, _, _ in times} if name in work)
        if found >= COVERED * sum(w.macs for w in work.values()):
            break
    return times


def roofline(work: Mapping[str, Work], machine: Machine) -> list[tuple[str, str, float]]:
    """Name, op and estimated seconds of every node: the longest of computing, moving bytes, and starting.

    Ops that are fused into the layer before them, and ops that only rename the axes of a tensor, take nothing.
    """
    return [
        (
            name,
            w.op,
            max(
                2 * w.macs / machine.operations,
                (w.weight_bytes + w.activation_bytes) / machine.bandwidth,
                machine.node,
            ),
        )
        for name, w in work.items()
        if w.op not in RENAMES and not w.fused
    ]


def layer_shares(
    times: Iterable[tuple[str, str, float]], work: Mapping[str, Work], kernel: float
) -> tuple[LayerShare, ...]:
    """Shares of the time, those of ops that multiply nothing added up by op; the largest first.

    Args:
        times: name, op and seconds of every kernel.
        work: what nodes do, by name.
        kernel: how much faster sparse kernels are.
    """
    seconds: dict[tuple[str, str], float] = {}
    for name, op, taken in times:
        multiplies = name in work and work[name].macs > 0
        key = (name, work[name].op) if multiplies else (op, op)
        seconds[key] = seconds.get(key, 0.0) + taken
    total = sum(seconds.values()) or 1.0
    rows = [_share(name, op, taken / total, work.get(name), kernel) for (name, op), taken in seconds.items()]
    return tuple(sorted(rows, key=lambda row: -row.share))


def _share(name: str, op: str, share: float, work: Work | None, kernel: float) -> LayerShare:
    found = None if work is None or not work.macs else work.eligibility
    eligible = found is not None and found.eligible
    return LayerShare(
        name=name,
        op=op,
        share=share,
        eligible=eligible,
        profitable=found is not None and found.profitable,
        why_not=found.why_not if found is not None else _no_layer(op),
        alone=amdahl(share, kernel) if eligible else 1.0,
    )


def _no_layer(op: str) -> str:
    return "several layers in one kernel" if is_compute(op) else "multiplies nothing"


def summarize(
    layers: tuple[LayerShare, ...], *, model: str, batch: int, kernel: float, estimated: bool
) -> Ceiling:
    """Amdahl's law over the layers."""
    share = min(1.0, sum(layer.share for layer in layers if layer.eligible))
    gains = min(1.0, sum(layer.share for layer in layers if layer.profitable))
    return Ceiling(
        model=model,
        batch=batch,
        source="estimated" if estimated else "measured",
        kernel=kernel,
        share=share,
        speedup=amdahl(share, kernel),
        limit=1 / max(1 - share, 1e-9),
        worthwhile=amdahl(gains, kernel),
        layers=layers,
    )
