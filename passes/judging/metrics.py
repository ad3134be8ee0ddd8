"""What a metric is, which there are, and how they are written: ``top1``, ``perplexity{label=ids shift=1}``.

A metric observes outputs run by run and keeps a few numbers a sample; its value is computed from the numbers of
any samples. So a slice is a selection of rows, and so is a bootstrap resample: the model runs once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.ir.callables import names_callable
from prunec.ir.diagnostics import UserError, nearest
from prunec.passes.base import option
from prunec.passes.registry import Registry
from prunec.passes.text.options import format_options
from prunec.passes.text.single import parse_single

Array = NDArray[Any]
Floats = NDArray[np.float64]
Arrays = Mapping[str, Array]


class Metric(Protocol):
    """A number that says how good a model is on samples."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better model."""

    @property
    def needs_labels(self) -> bool:
        """Whether it reads a column of right answers."""

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with the outputs of the dense model."""

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """Sufficient statistics of some samples.

        Args:
            outputs: of the model, by name, each [samples, ...].
            columns: all arrays of the data, by name, each [samples, ...].
            reference: outputs of the dense model, where there is one.

        Returns:
            [samples, k], one row a sample.

        Raises:
            UserError: what it reads is not there or has the wrong shape.
        """

    def value(self, observations: Floats) -> float:
        """The metric of any rows of statistics; NaN where nothing was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMetric(ABC):
    """Base of the built-in metrics; their fields are their options, as those of a pass are."""

    noun: ClassVar[str] = "metric"
    takes_body: ClassVar[bool] = False
    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    is_share: ClassVar[bool] = False
    """Whether it is between 0 and 1."""

    output: str = option("", help="graph output that is judged; by default the first", metavar="name")

    @abstractmethod
    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """See :class:`Metric`."""

    @abstractmethod
    def value(self, observations: Floats) -> float:
        """See :class:`Metric`."""

    def of_rows(self, observations: Floats, rows: NDArray[np.int64]) -> Floats:
        """The metric of several selections of rows.

        Args:
            observations: [samples, k].
            rows: [n, rows of one selection], with repetition.

        Returns:
            [n].
        """
        return np.array([self.value(observations[selected]) for selected in rows], np.float64)

    def judged(self, outputs: Arrays) -> tuple[str, Array]:
        """Name and array [samples, ...] of the output that is judged.

        Raises:
            UserError: there is none of that name.
        """
        if self.output and self.output not in outputs:
            raise _missing(f"metric `{self}` reads output `{self.output}`, which the model does not have",
                           self.output, outputs, "outputs")  # fmt: skip
        name = self.output or next(iter(outputs))
        return name, outputs[name]

    def of_reference(self, reference: Arrays | None, name: str, shape: Sequence[int]) -> Array:
        """The dense model's output of the same name, or at the same place, and of the same shape.

        Raises:
            UserError: there is none, or it has another shape.
        """
        if reference is None:
            raise UserError(
                f"metric `{self}` compares with the dense model, and none is given",
                help=["on the command line: --against DENSE.onnx; in Python: reference=module"],
            )
        array = reference.get(name, next(iter(reference.values())))
        if array.shape != tuple(shape):
            shapes = f"{list(shape)}, that of the dense model {list(array.shape)}"
            raise UserError(f"output `{name}` is {shapes}: they cannot be compared")
        return array

    def __str__(self) -> str:
        options = format_options(self)
        return f"{self.name}{{{options}}}" if options else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SumMetric(NamedMetric):
    """Base of the metrics that follow from sums over samples: of what was found, and of what was counted."""

    def value(self, observations: Floats) -> float:
        """What follows from the sums."""
        return float(self.of_sums(observations.sum(axis=0)[None])[0])

    def of_sums(self, sums: Floats) -> Floats:
        """The metric of sums [n, 2], [n]: the first by the second, a mean over all that was counted."""
        return sums[:, 0] / np.where(sums[:, 1], sums[:, 1], np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledMetric(NamedMetric):
    """Base of the metrics that compare with right answers."""

    needs_labels: ClassVar[bool] = True
    skips_negative: ClassVar[bool] = False
    """Whether negative labels do not count."""

    label: str = option("label", help="array of the data with the right answers", metavar="name")

    def labels(self, columns: Arrays) -> Array:
        """The right answers [samples, ...].

        Raises:
            UserError: the data have no such array.
        """
        if self.label not in columns:
            raise _missing(f"metric `{self}` needs labels, and no array is named `{self.label}`",
                           self.label, columns, "arrays")  # fmt: skip
        return columns[self.label]


def _missing(message: str, name: str, among: Arrays, what: str) -> UserError:
    close = nearest(name, among)
    help = [f"did you mean `{close}`?"] if close else []
    if what == "arrays":
        help.append("add labels, write METRIC{label=NAME}, or use agreement, which needs none")
    return UserError(message, notes=[f"{what}: {', '.join(among)}"], help=help)


METRICS = Registry(
    table={
        "agreement": "prunec.passes.judging.classification:Agreement",
        "cosine": "prunec.passes.judging.regression:Cosine",
        "f1": "prunec.passes.judging.classification:F1",
        "mae": "prunec.passes.judging.regression:Mae",
        "perplexity": "prunec.passes.judging.classification:Perplexity",
        "rmse": "prunec.passes.judging.regression:Rmse",
        "top1": "prunec.passes.judging.classification:Top1",
        "top5": "prunec.passes.judging.classification:Top5",
    },
    base=NamedMetric,
    listing="metrics",
)


def parse_metric(text: str, *, file: str = "<metric>") -> Metric:
    """The metric that a text means.

    Args:
        text: a name with options in braces, such as ``top1`` or ``rmse{output=depth}``, or
            ``package.module:function`` (see :mod:`prunec.passes.judging.custom`).
        file: what messages call the text.

    Raises:
        UserError: there is no such metric, or it does not take these options.
    """
    if names_callable(text):
        from prunec.passes.judging.custom import custom_metric

        return custom_metric(text)
    metric: NamedMetric = parse_single(text, METRICS, file=file)
    return metric
