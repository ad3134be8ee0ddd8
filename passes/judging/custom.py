"""The user's own metric: ``package.module:name``.

A function ``score(outputs, columns)`` gives one number a sample, and the metric is their mean. Its attributes may say
more: ``score.higher_is_better = False``; with ``score.needs_reference = True`` it gets the dense model's outputs as
a third argument. An object (or a class without arguments) with the methods of
:class:`prunec.passes.judging.metrics.Metric` is used as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunec.ir.callables import check_takes, load_callable, type_of, user_code
from prunec.ir.diagnostics import UserError
from prunec.passes.judging.metrics import Arrays, Floats

_ONE = ("give one number a sample: an array [samples]",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """A metric of the user's; see :class:`prunec.passes.judging.metrics.Metric`.

    Attributes:
        name: ``package.module:name``.
        higher_is_better: whether a larger value is a better model.
        needs_labels: whether it says that it reads labels.
        needs_reference: whether it compares with the dense model.
        scores: gives the numbers of some samples.
        summary: gives the metric of rows of numbers.
        is_mean: whether that is the mean of one number a sample.
    """

    name: str
    higher_is_better: bool
    needs_labels: bool
    needs_reference: bool
    scores: Callable[..., Any]
    summary: Callable[[Floats], Any]
    is_mean: bool

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """What the user's code makes of some samples, [samples, k].

        Raises:
            UserError: it fails, or gives something else than numbers a sample.
        """
        count = len(next(iter(outputs.values())))
        if self.needs_reference and reference is None:
            raise UserError(
                f"metric {self.name} compares with the dense model, and none is given",
                help=["on the command line: --against DENSE.onnx; in Python: reference=module"],
            )
        with user_code(f"metric {self.name}"):
            rows = _numbers(self.name, self.scores(outputs, columns, reference))
        if rows.ndim not in (1, 2) or len(rows) != count:
            raise UserError(
                f"metric {self.name} gives shape {list(rows.shape)} for {count} samples",
                help=_ONE,
            )
        return rows.reshape(count, -1)

    def value(self, observations: Floats) -> float:
        """The metric of these rows.

        Raises:
            UserError: the user's code fails.
        """
        with user_code(f"metric {self.name}"):
            return float(self.summary(observations))

    def __str__(self) -> str:
        return self.name


def custom_metric(text: str) -> Custom:
    """The metric that ``package.module:name`` names.

    Raises:
        UserError: it cannot be imported or is no metric.
    """
    found = load_callable(text)
    with user_code(text):
        made = found() if isinstance(found, type) else found
    whole = callable(getattr(made, "observe", None)) and callable(getattr(made, "value", None))
    if not whole and not callable(made):
        raise UserError(
            f"{text} is {type_of(made)}, no metric",
            help=["name a function score(outputs, columns) that gives one number a sample"],
        )
    compares = bool(getattr(made, "needs_reference", False))
    extra = ("reference",) if whole or compares else ()
    check_takes(text, made.observe if whole else made, ("outputs", "columns", *extra))
    return Custom(
        name=text,
        higher_is_better=bool(getattr(made, "higher_is_better", True)),
        needs_labels=bool(getattr(made, "needs_labels", False)),
        needs_reference=compares,
        scores=made.observe if whole else _function(made, compares=compares),
        summary=made.value if whole else _mean,
        is_mean=not whole,
    )


def _numbers(name: str, made: Any) -> Floats:
    """What a metric gives, as numbers; words that look like numbers are none."""
    array = np.asarray(made)
    if array.dtype.kind in "USmM":
        raise UserError(f"metric {name} gives an array of type {array.dtype}, not of numbers", help=_ONE)
    return np.asarray(array, np.float64)


def _function(score: Callable[..., Any], *, compares: bool) -> Callable[..., Any]:
    def scores(outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Any:
        return score(outputs, columns, reference) if compares else score(outputs, columns)

    return scores


def _mean(observations: Floats) -> float:
    return float(observations[:, 0].mean()) if len(observations) else float("nan")
