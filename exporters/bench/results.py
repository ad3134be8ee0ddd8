"""What a bench found, as data: one frozen report, which prints, and is JSON.

Times are in seconds, sizes in bytes. Ratios are seconds of the first model over seconds of another: above 1 where the
other is faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prunec.ir.timing import Latency, Ratio

SCHEMA = "prunec.bench/1"

Kind = Literal["zeros", "channels", "small products", "memory", "other ops", "overhead"]
"""What keeps a model from being as fast as its operations promise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak memory of a process that does nothing but run one model.

    Attributes:
        peak: resident bytes at the most, of loading the model and a few runs.
        before: resident bytes at the most before the model was loaded: Python and ONNX Runtime themselves.
    """

    peak: int
    before: int

    @property
    def model(self) -> int:
        """What the model added."""
        return max(0, self.peak - self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model that was measured.

    Attributes:
        name: what the report calls it: the name of its file.
        path: where it came from.
        sha256: of its file; None for a model made in memory.
        size: bytes of its files.
        parameters: elements of its weights.
        macs: multiply-accumulates of one sample, zeros included.
        nonzero_macs: the same without those of weights that are zero: what the model costs on paper.
        fixed_batch: the only batch it takes, None where it takes any.
        load: seconds to create a session.
        memory: what it needs at the first batch size, None where that was not measured.
    """

    name: str
    path: str
    sha256: str | None
    size: int
    parameters: int
    macs: int
    nonzero_macs: int
    fixed_batch: int | None
    load: Latency
    memory: Memory | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One model at one batch size.

    Attributes:
        model: its name.
        batch: samples of one run.
        latency: seconds of one run.
        throughput: samples a second, at the median.
        ratio: how much faster it is than the first model; None for that one.
        runs: timed runs.
        rounds: sessions that they were spread over.
    """

    model: str
    batch: int
    latency: Latency
    throughput: float
    ratio: Ratio | None
    runs: int
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that keeps a model from being as fast as its operations promise.

    Attributes:
        kind: what kind of thing.
        message: with its numbers, one line.
        help: what to do about it.
        seconds: of one run that it accounts for, as far as that can be told.
        layers: which layers it is about, those that take longest first.
    """

    kind: Kind
    message: str
    help: str
    seconds: float
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One layer of a model as ONNX Runtime ran it.

    Attributes:
        name: of the node in the model; of the kernel where that is of no node, or of several.
        op: what ran, such as ``Conv``.
        layout: ``blocked`` where the kernel is one for blocks of channels, else empty.
        seconds: of one run.
        macs: multiply-accumulates of the batch.
        bytes: activations read and written, and weights read.
        zeros: share of zeros in its weight; None where it has none that could hold any.
        channels: summed inputs (without kernel positions) and outputs; None where it has no weight.
    """

    name: str
    op: str
    layout: str
    seconds: float
    macs: int
    bytes: int
    zeros: float | None
    channels: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Where the time of a model goes at one batch size, from ONNX Runtime's profiler.

    Attributes:
        model: its name.
        batch: samples of one run.
        layers: in the order in which they ran.
        run: seconds of a whole run that nothing interrupts.
    """

    model: str
    batch: int
    layers: tuple[LayerTime, ...]
    run: float

    @property
    def kernels(self) -> float:
        """Seconds in kernels."""
        return sum(layer.seconds for layer in self.layers)

    def named(self) -> dict[str, LayerTime]:
        """Layers that multiply, by name."""
        return {layer.name: layer for layer in self.layers if layer.macs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one thread setting of this machine can do, in ONNX Runtime's own kernels.

    Attributes:
        operations: a second, of a large matrix product (a multiply-accumulate is two).
        bandwidth: bytes a second that a product of a vector with a large matrix reads.
        node: seconds that it takes to run an op that does nothing.
    """

    operations: float
    bandwidth: float
    node: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one model is not as fast at a batch size as its operations promise.

    Attributes:
        model: its name.
        batch: samples of one run.
        promise: how much faster it would be if time followed operations.
        reasons: those that account for most time first.
    """

    model: str
    batch: int
    promise: float
    reasons: tuple[Reason, ...]

    @property
    def title(self) -> str:
        """What is explained."""
        none = "" if self.reasons else ": nothing in its profile says so"
        what = f"not {self.promise:.2f}x faster" if self.promise > 1.05 else "slower"
        return f"why {self.model} is {what} at batch {self.batch}{none}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """Models side by side.

    Attributes:
        models: what was measured; the first is what the others are compared with.
        timings: for each batch size and model.
        verdicts: in words, a line each.
        explanations: why models with fewer operations are not faster.
        profiles: where the time goes; of what an explanation needed, or of all where they were asked for.
        machine: what this machine can do; None where no profile was made.
        notes: what differs from what was asked for.
        inputs: ``random``, or the name of the data.
        threads: for one op; 0: as many as ONNX Runtime chose.
        providers: of ONNX Runtime, as the sessions had them.
        seed: of inputs and resampling.
        versions: of prunec, onnxruntime and Python, and the processor.
    """

    models: tuple[ModelFacts, ...]
    timings: tuple[Timing, ...]
    verdicts: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    profiles: tuple[ModelProfile, ...]
    machine: Machine | None
    notes: tuple[str, ...]
    inputs: str
    threads: int
    providers: tuple[str, ...]
    seed: int
    versions: Mapping[str, str]

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes that were measured."""
        return tuple(dict.fromkeys(timing.batch for timing in self.timings))

    def timing(self, model: str, batch: int) -> Timing:
        """The timing of one model at one batch size."""
        return next(t for t in self.timings if (t.model, t.batch) == (model, batch))

    def to_json(self) -> dict[str, Any]:
        """The report as JSON holds it, with its schema."""
        found = {"schema": SCHEMA, **asdict(self), "versions": dict(self.versions)}
        for timing in found["timings"]:
            ratio = timing["ratio"]
            timing["ratio"] = None if ratio is None else {**ratio._asdict(), "verdict": ratio.verdict}
        return found

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from self.verdicts
        for explanation in self.explanations:
            yield explanation.title
            for reason in explanation.reasons:
                yield f"  {reason.message}"
                yield f"    = help: {reason.help}"
