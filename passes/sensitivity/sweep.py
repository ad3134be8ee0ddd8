"""The sweep: mask a share of one layer's channels, measure, restore, layer by layer.

What is measured is the verifier's masked reference, so that a point of the curve is what the cut model is worth. It is
fast because three things are not done: nothing is cut, saved or loaded; nothing in front of the first changed op is
run again (its live values are kept for all samples); and sessions have one thread each, on all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.control import make_names_unique
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import ATEN
from prunec.ir.execute import Runner
from prunec.ir.fx.entry import onnx_only
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.calibration.stream import runner_between
from prunec.passes.cleanup import inline_functions
from prunec.passes.coupling import analyse
from prunec.passes.coupling.options import CouplingOptions, Unit
from prunec.passes.coupling.transfer import transferred
from prunec.passes.judging.default import metric_of
from prunec.passes.judging.evaluate import evaluate
from prunec.passes.judging.outputs import per_sample
from prunec.passes.pruning.importance import Criterion
from prunec.passes.sensitivity.candidates import Candidate, Candidates
from prunec.passes.sensitivity.dense import DenseOutputs
from prunec.passes.sensitivity.prefix import LiveValues, Prefix
from prunec.passes.verifier.masked import mask

if TYPE_CHECKING:
    from prunec.passes.judging.metrics import Metric

Array = NDArray[Any]

DENSE_SHARE = 8
"""Of the memory for live values, this part more is for outputs of the model as it is, where the metric reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a sweep is done.

    Attributes:
        ratios: shares of the units of a layer that are masked, each in (0, 1).
        criterion: what makes a unit important; the least important ones are masked.
        unit: what attention loses: whole heads, or the same positions of every head.
        seed: of a random criterion.
        batch: samples of one run, where the model leaves that open.
        memory: bytes of live values that are kept at a time, by all threads together.
    """

    ratios: tuple[float, ...] = (0.2,)
    criterion: Criterion = "l2"
    unit: Unit = "head"
    seed: int = 0
    batch: int = 64
    memory: int = 2 << 30

    def __post_init__(self) -> None:
        if not self.ratios or not all(0 < ratio < 1 for ratio in self.ratios):
            shown = ", ".join(f"{ratio:g}" for ratio in self.ratios) or "none"
            raise UserError(f"ratios of a sensitivity sweep lie between 0 and 1, got {shown}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A sweep as it is sent to another process.

    Attributes:
        model: the model's bytes.
        arrays: the samples and columns.
        data_name: what they are called.
        metric: the metric, as text where it was given as text.
        settings: how it is done.
    """

    model: bytes = field(repr=False)
    arrays: Mapping[str, Array] = field(repr=False)
    data_name: str
    metric: Metric | str
    settings: Settings

    def prepare(self) -> Sweep:
        """The sweep again."""
        import onnx

        module = load(onnx.ModelProto.FromString(self.model))
        return Sweep(module, CalibrationData.of(self.arrays, name=self.data_name), self.metric, self.settings)


class Sweep:
    """One model, its samples and its candidates, ready to be measured; threads may share it.

    Args:
        module: the model; it stays as it is.
        data: the samples.
        metric: what is measured.
        settings: how.

    Raises:
        UserError: the model does not run in ONNX Runtime, nothing of it can be pruned, or the data do not fit it.
    """

    def __init__(
        self, module: Module, data: CalibrationData, metric: Metric | str | None, settings: Settings
    ) -> None:
        if ATEN in module.graph.opset_imports:
            raise onnx_only("a sweep", module.source.name)
        self.module = module.clone()
        inline_functions(self.module.model, ruled=False)  # as a pipeline that prunes begins
        make_names_unique(self.module.graph, self.module.opset(""))
        self.data = data
        self.metric = metric_of(metric, data, module).metric
        self.settings = settings
        self._given = metric if isinstance(metric, str) else self.metric
        coupling = analyse(self.module.model, options=CouplingOptions(unit=settings.unit))
        self._coupling = coupling
        self.candidates = Candidates(self.module, coupling, settings.criterion, settings.seed)
        if not self.candidates.rows:
            help = ["`prunec inspect MODEL` lists every group and what pins it"]
            place = Place(file=module.source.name)
            raise UserError("nothing can be pruned in this model", place=place, help=help)
        self._live = LiveValues(self.module.graph, coupling.facts)
        self._outputs = [value.name or "" for value in self.module.graph.outputs]
        self._feeds = data.bind(self.module, batch=settings.batch, every=True)
        self._dense_outputs = DenseOutputs(self.module, self._feeds, memory=settings.memory // DENSE_SHARE)
        positions = self.candidates.positions
        self._macs_at = np.zeros(len(self.module.graph) + 1)
        for node, rule in coupling.relations.rules.items():
            self._macs_at[positions[node]] += coupling.relations.ops[node].macs(rule) + 1

    def job(self) -> Job:
        """The sweep for another process.

        Raises:
            UserError: the model is too large for one message.
        """
        import onnx_ir

        try:
            model = onnx_ir.to_proto(self.module.model).SerializeToString()
        except ValueError as error:
            raise UserError("the model is larger than 2 GiB, which no message to a cluster may be") from error
        arrays = {name: np.asarray(array) for name, array in self.data.arrays.items()}
        return Job(
            model=model,
            arrays=arrays,
            data_name=self.data.name,
            metric=self._given,
            settings=self.settings,
        )

    def work(self, candidate: Candidate) -> float:
        """About how much a candidate takes: the multiply-accumulates of the ops that run again."""
        return float(self._macs_at[candidate.position :].sum())

    def dense(self) -> float:
        """The metric of the model as it is.

        Raises:
            UserError: the metric does not fit the model or the data, or is not a number.
        """
        reference = self.module if self.metric.needs_reference else None
        value = evaluate(self.module, self.data, self.metric, reference=reference).value
        if not np.isfinite(value):
            raise UserError(
                f"metric `{self.metric}` of the model as it is is {value}, so that nothing can drop"
            )
        return value

    def run_span(
        self,
        span: Sequence[Candidate],
        report: Callable[[str, int, float | None], None],
        *,
        memory: int | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Measure candidates one after the other.

        Args:
            span: the candidates, by rising position.
            report: takes each measurement.
            memory: bytes of live values to keep; by default all that the settings allow.
            stop: whether to end before all is measured.
        """
        allowed = self.settings.memory if memory is None else memory
        prefix = Prefix(self.module, self._feeds, self._live, memory=allowed)
        for candidate in span:
            prefix.move(candidate.position)
            value = self._measure(candidate, prefix, stop)
            if stop():
                return
            report(candidate.row, candidate.removed, value)

    def _measure(self, candidate: Candidate, prefix: Prefix, stop: Callable[[], bool]) -> float | None:
        masked = self.module.clone()
        mask(masked.model, transferred(self._coupling, masked.graph), candidate.gone)
        judged = self._rest(masked, prefix)
        dense = self._dense(prefix) if self.metric.needs_reference else None
        rows = []
        for run in range(len(self._feeds)):
            if stop():
                return None
            outputs = judged(run)
            if any(a.dtype.kind == "f" and np.isnan(a).any() for a in outputs.values()):
                return None
            rows.append(self._observed(run, outputs, None if dense is None else dense(run)))
        value = self.metric.value(np.concatenate(rows))
        return value if np.isfinite(value) else None

    def _dense(self, prefix: Prefix) -> Callable[[int], dict[str, Array]]:
        """What the model as it is computes, per run: kept from the first candidate on, as far as memory allows."""
        rest = self._rest(self.module, prefix)

        def dense(run: int) -> dict[str, Array]:
            kept = self._dense_outputs.of(run)
            return rest(run) if kept is None else kept

        return dense

    def _rest(self, module: Module, prefix: Prefix) -> Callable[[int], dict[str, Array]]:
        """What a model computes behind a prefix, per run the outputs by name."""
        runners: dict[tuple[str, ...], Runner] = {}

        def rest(run: int) -> dict[str, Array]:
            known = prefix.of(run)
            values = {**self._feeds[run], **known}
            missing, cut = [name for name in self._outputs if name not in values], tuple(known)
            if missing and cut not in runners:
                runners[cut] = runner_between(module, cut, missing, self._live.types, threads=1)
            if missing:
                values |= runners[cut].run(values)
            return {name: values[name] for name in self._outputs}

        return rest

    def _observed(
        self, run: int, outputs: dict[str, Array], dense: dict[str, Array] | None
    ) -> NDArray[np.float64]:
        begin = run * self._feeds.batch
        count = min(self._feeds.batch, self._feeds.samples - begin)
        columns = {name: array[begin : begin + count] for name, array in self.data.arrays.items()}
        reference = None if dense is None else per_sample(dense, self._feeds, count)
        try:
            return self.metric.observe(per_sample(outputs, self._feeds, count), columns, reference)
        except UserError as error:
            error.place = error.place or Place(file=self.data.name)
            raise
