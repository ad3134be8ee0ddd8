"""What pruning and quantising cost together: dense, pruned, quantised, and both.

Each alone may be harmless and both together not: pruning leaves fewer channels to average rounding errors out. With
drops ``d`` against the dense model the interaction is ``d(both) - d(pruned) - d(quantised)``: what is lost beyond
what each loses by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import UserError
from prunec.passes.manager import run
from prunec.passes.pipeline import Pipeline
from prunec.passes.quantize import Quantize

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.base import Pass
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.calibration.required import Data
    from prunec.passes.judging.metrics import Metric
    from prunec.passes.manager import Progress, Result
    from prunec.passes.plan import Plan

PRUNING = frozenset({"masked", "sparse"})
"""Contracts of passes that remove something."""
KEPT = frozenset({"same", "quantised"})
"""Contracts of passes that the variant without pruning keeps."""
HELP = (
    "calibrate on the pruned model: `quantize{mode=static}` behind the pruning passes, with samples like those that "
    "the model will meet",
    "leave the layers that lose most in float (`ignore=`), or take one scale for each channel",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationTable:
    """A metric of four models: the dense one, pruned, quantised, and both.

    Attributes:
        metric: its text, such as ``top1``.
        higher_is_better: whether a larger value is a better model.
        data: name of the samples.
        samples: their number.
        dense: the metric of the model as it was given.
        pruned: of the pipeline without ``quantize``.
        quantised: of the pipeline without the passes that remove something, and those that repair what they did.
        both: of the whole pipeline.
        limit: largest interaction without a warning: in the metric where it is a share (from 0 to 1), or else a
            share of the dense model's value.
        seed: of the runs.
    """

    metric: str
    higher_is_better: bool
    data: str
    samples: int
    dense: float
    pruned: float
    quantised: float
    both: float
    limit: float
    seed: int = 0

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share, such as an accuracy, so that differences are points."""
        values = (self.dense, self.pruned, self.quantised, self.both)
        return self.higher_is_better and all(0 <= value <= 1 for value in values)

    def drop(self, value: float) -> float:
        """What a model loses against the dense one, positive where it is worse: in the metric where it is a share, or
        else as a share of the dense model's value.
        """
        lost = self.dense - value if self.higher_is_better else value - self.dense
        return lost if self.is_share else lost / max(abs(self.dense), 1e-12)

    @property
    def interaction(self) -> float:
        """What is lost beyond what each loses by itself; negative where errors cancel."""
        return self.drop(self.both) - self.drop(self.pruned) - self.drop(self.quantised)

    @property
    def warning(self) -> str | None:
        """What to be warned of, or None."""
        if self.interaction <= self.limit:
            return None
        return (
            f"pruning and quantising together lose {self.amount(self.interaction)} of {self.metric} more than each by "
            f"itself, the limit is {self.amount(self.limit)} (`warn`)"
        )

    def amount(self, lost: float) -> str:
        """A loss in words: points of a share, or per cent of the dense model's value."""
        percent = round(100 * lost, 2) + 0.0  # no minus before a zero
        return f"{percent:.2f} points" if self.is_share else f"{percent:.2f} %"

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        values = ("dense", "pruned", "quantised", "both")
        return {
            "schema": "prunec.quantization/1",
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "data": self.data,
            "samples": self.samples,
            **{name: getattr(self, name) for name in values},
            "interaction": self.interaction,
            "limit": self.limit,
            "warning": self.warning,
            "seed": self.seed,
        }


def prunes_and_quantises(pipeline: Pipeline) -> bool:
    """Whether there is something to compare."""
    passes = pipeline.expand()
    return any(p.contract == "quantised" for p in passes) and any(p.contract in PRUNING for p in passes)


def quantization_table(
    module: Module,
    pipeline: str | Pipeline,
    data: Data,
    *,
    calibration: Data | None = None,
    metric: Metric | str | None = None,
    result: Result | None = None,
    limit: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationTable:
    """Measure what pruning and quantising cost together.

    Args:
        module: the dense model.
        pipeline: with ``quantize`` and passes that prune.
        data: samples to judge on, with a ``label`` if there are labels.
        calibration: samples for the passes of the pipeline; by default those to judge on.
        metric: a metric or its text; by default what labels and outputs tell, else ``agreement``.
        result: what the pipeline made of the module, where it has run already.
        limit: see :class:`QuantizationTable`; by default option ``warn`` of the pass.
        seed: as in ``prunec.run``.
        progress: told what begins.

    Raises:
        UserError: the pipeline does not prune and quantise, or the data do not fit the model or the metric.
        PassFailure: a pass failed.

    Example:
        >>> import numpy as np, prunec
        >>> module = prunec.load("examples/digits.onnx")
        >>> with np.load("examples/digits.npz") as file:
        ...     table = prunec.quantization_table(module, "fold-norm, prune-channels{ratio=50%}, quantize", file)
        >>> table.metric, table.samples, abs(table.interaction) < 0.01
        ('top1', 450, True)
    """
    from prunec.ir.module import require_module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.judging.default import metric_of
    from prunec.passes.judging.evaluate import evaluate

    require_module(module)
    parsed = Pipeline.of(pipeline)
    if not prunes_and_quantises(parsed):
        help = [f"pipeline: {parsed}"]
        raise UserError("nothing to compare: the pipeline does not both prune and quantise", help=help)
    known = CalibrationData.of(data)
    chosen = metric_of(metric, known, module).metric
    variants = _Variants(
        dense=module,
        passes=parsed.expand(),
        data=known if calibration is None else CalibrationData.of(calibration),
        seed=seed,
        progress=progress or (lambda _: None),
    )
    values = {
        name: evaluate(variant, known, chosen, reference=module, seed=seed).value
        for name, variant in variants.make(result).items()
    }
    return QuantizationTable(
        metric=str(chosen),
        higher_is_better=chosen.higher_is_better,
        data=known.name,
        samples=known.count,
        limit=variants.limit if limit is None else limit,
        seed=seed,
        **values,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variants:
    """A model and what parts of a pipeline make of it.

    Attributes:
        dense: the model.
        passes: of the whole pipeline.
        data: samples for the passes.
        seed: of the runs.
        progress: told what begins.
    """

    dense: Module
    passes: tuple[Pass, ...]
    data: CalibrationData
    seed: int
    progress: Progress

    @property
    def limit(self) -> float:
        """What the pass that quantises warns of."""
        return next(pass_.warn for pass_ in self.passes if isinstance(pass_, Quantize))

    def make(self, whole: Result | None) -> dict[str, Module]:
        """The models by the name of their column; ``whole`` is what all passes made, where they have run already."""
        both = whole or self._run("pruned and quantised", lambda _: True)
        return {
            "dense": self.dense,
            "pruned": self._run("pruned alone", lambda p: p.contract != "quantised", both.plan).module,
            "quantised": self._run("quantised alone", lambda p: p.contract in KEPT).module,
            "both": both.module,
        }

    def _run(self, name: str, keep: Callable[[Pass], bool], replay: Plan | None = None) -> Result:
        self.progress(f"the model {name}")
        pipeline = Pipeline(passes=tuple(filter(keep, self.passes)))
        data = self.data if any(pass_.needs_data for pass_ in pipeline.expand()) else None
        return run(self.dense, pipeline, verify=False, seed=self.seed, data=data, replay=replay)
