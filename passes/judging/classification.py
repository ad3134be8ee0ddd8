"""Metrics over classes: which one a model chooses, and how probable it takes the right one to be.

Outputs are ``[samples, *positions, classes]`` or ``[samples, classes, *positions]`` beside labels
``[samples, *positions]`` (no positions: one class a sample), or the chosen classes themselves, as whole numbers.
Negative labels are left out, as padding and unknown pixels are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.passes.base import option
from prunec.passes.judging.metrics import Array, Arrays, Floats, LabelledMetric, SumMetric
from prunec.passes.text.options import at_least

Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]

PROBABILITIES = 1e-3
"""How near to 1 the scores of a position sum up if they are probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """Scores beside labels, both brought to one order of axes.

    Attributes:
        scores: [samples, *positions, classes].
        labels: [samples, *positions].
        counted: which labels count, [samples, *positions].
    """

    scores: Array
    labels: Labels
    counted: Mask


class _ClassMetric(LabelledMetric):
    """What metrics over classes have in common."""

    __slots__ = ()

    skips_negative: ClassVar[bool] = True

    def answers(self, outputs: Arrays, columns: Arrays) -> _Answers:
        """Scores beside labels.

        Raises:
            UserError: labels are missing, no whole numbers, of another shape, or no classes of the output.
        """
        name, output = self.judged(outputs)
        labels = _whole(self.label, _squeezed(self.labels(columns)))
        scores = _squeezed(output)
        if scores.ndim == labels.ndim and scores.dtype.kind in "iub":
            scores = scores[..., None] == np.arange(max(int(scores.max()), int(labels.max())) + 1)
        elif scores.shape[:-1] != labels.shape and scores.ndim > 1:
            scores = np.moveaxis(scores, 1, -1)
        if scores.shape[:-1] != labels.shape:
            shapes = f"{list(output.shape)}, `{self.label}` is {list(self.labels(columns).shape)}"
            help = [
                "outputs are [samples, classes] beside labels [samples], or have further positions in both",
                "choose them: METRIC{output=NAME label=NAME}",
                "where labels are amounts and not classes, use rmse or mae",
            ]
            raise UserError(f"output `{name}` is {shapes}: they do not go together", help=help)
        if labels.max(initial=-1) >= scores.shape[-1]:
            raise UserError(
                f"label {labels.max()} is beyond the {scores.shape[-1]} classes of output `{name}`",
                help=["classes are numbered from 0"],
            )
        return _Answers(scores=scores, labels=labels, counted=labels >= 0)


def _squeezed(array: Array) -> Array:
    """The array without axes of size 1 behind the samples."""
    return array.reshape(len(array), *(size for size in array.shape[1:] if size != 1))


def _whole(name: str, labels: Array) -> Labels:
    """Labels as int64."""
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        help = ["leave these samples out, or give them a negative label: those do not count"]
        raise UserError(f"array `{name}` has samples without a label (NaN)", help=help)
    if labels.dtype.kind not in "iubf" or (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
        raise UserError(
            f"array `{name}` is of type {labels.dtype} and holds more than whole numbers, so that it names no classes",
            help=["number the classes from 0; for regression, use rmse or mae"],
        )
    return labels.astype(np.int64)


def _counts(hits: Mask, counted: Mask) -> Floats:
    """[samples, 2]: hits and counted positions of every sample."""
    axes = tuple(range(1, counted.ndim))
    return np.stack([(hits & counted).sum(axis=axes), counted.sum(axis=axes)], axis=1).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Top1(SumMetric, _ClassMetric):
    """The share of samples (or positions) whose class has the highest score."""

    name: ClassVar[str] = "top1"
    is_share: ClassVar[bool] = True

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """Hits and labels of every sample."""
        del reference
        answers = self.answers(outputs, columns)
        return _counts(answers.scores.argmax(axis=-1) == answers.labels, answers.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Top5(SumMetric, _ClassMetric):
    """The share of samples (or positions) whose class is among the five highest scores."""

    name: ClassVar[str] = "top5"
    is_share: ClassVar[bool] = True

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """Hits and labels of every sample; a class is among the five if fewer than five score higher."""
        del reference
        answers = self.answers(outputs, columns)
        own = np.take_along_axis(answers.scores, np.maximum(answers.labels, 0)[..., None], axis=-1)
        return _counts((answers.scores > own).sum(axis=-1) < 5, answers.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class F1(_ClassMetric):
    """The mean over classes of the harmonic mean of precision and recall (macro F1), for one label a sample.

    Classes that are neither labels nor chosen do not count.
    """

    name: ClassVar[str] = "f1"
    is_share: ClassVar[bool] = True

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """The chosen and the right class of every sample."""
        del reference
        answers = self.answers(outputs, columns)
        if answers.labels.ndim > 1:
            raise UserError(f"metric `{self}` takes one label a sample", help=["use top1 for many positions"])
        return np.stack([answers.scores.argmax(axis=-1), answers.labels], axis=1).astype(np.float64)

    def value(self, observations: Floats) -> float:
        """``mean over classes of 2 hits / (chosen + right)``."""
        return float(self.of_rows(observations, np.arange(len(observations))[None])[0])

    def of_rows(self, observations: Floats, rows: NDArray[np.int64]) -> Floats:
        """The same of several selections of rows."""
        known, numbers = np.unique(observations.astype(np.int64), return_inverse=True)
        chosen, right = numbers.reshape(observations.shape).T
        counts = observations[:, 1] >= 0

        def tally(classes: Labels, counted: Mask) -> Labels:
            """How often each class comes up in each selection, [n, classes]."""
            flat = classes[rows] + len(known) * np.arange(len(rows))[:, None]
            tallied = np.bincount(flat[counted[rows]], minlength=len(known) * len(rows))
            return tallied.reshape(len(rows), len(known))

        hits, counted = tally(right, counts & (chosen == right)), tally(chosen, counts) + tally(right, counts)
        there = (counted > 0).sum(axis=1)
        total: Floats = (2 * hits / np.maximum(counted, 1)).sum(axis=1)
        return total / np.where(there, there, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity(SumMetric, _ClassMetric):
    """How many equally likely tokens a language model wavers between: ``exp(mean of -log p(right token))``.

    Scores are logits, unless they are probabilities (not negative, sum 1). ``perplexity{label=ids shift=1}``
    judges a decoder by the next token of its own input.
    """

    name: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False

    shift: int = option(
        0, help="how many positions a label stands behind the scores that predict it", check=at_least(0)
    )

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """``-log p`` summed up, and the number of tokens, of every sample."""
        del reference
        name, scores = self.judged(outputs)
        labels = self.labels(columns)
        if self.shift:
            if labels.ndim < 2 or scores.ndim < 3 or labels.shape[1] <= self.shift:
                shapes = f"`{self.label}` {list(labels.shape)} and `{name}` {list(scores.shape)}"
                raise UserError(f"{shapes} have no positions to shift by {self.shift}")
            scores, labels = scores[:, : -self.shift], labels[:, self.shift :]
        answers = self.answers({**outputs, name: scores}, {**columns, self.label: labels})
        loss = np.where(answers.counted, _surprise(answers), 0.0)
        axes = tuple(range(1, loss.ndim))
        return np.stack([loss.sum(axis=axes), answers.counted.sum(axis=axes)], axis=1).astype(np.float64)

    def of_sums(self, sums: Floats) -> Floats:
        """The exponential of the mean surprise, up to e^700, which is finite."""
        return np.exp(np.minimum(SumMetric.of_sums(self, sums), 700.0))


def _surprise(answers: _Answers) -> Floats:
    """``-log p`` of every label, [samples, *positions]."""
    scores = answers.scores.astype(np.float32, copy=False)
    own = np.take_along_axis(scores, np.maximum(answers.labels, 0)[..., None], axis=-1)[..., 0]
    totals = scores.sum(axis=-1)
    if scores.min() >= 0 and np.allclose(totals, 1, atol=PROBABILITIES):
        logs: Floats = np.log(np.maximum(own, np.finfo(np.float32).tiny), dtype=np.float64)
        return -logs
    highest = scores.max(axis=-1)
    rest = np.exp(scores - highest[..., None]).sum(axis=-1)
    surprise: Floats = np.log(rest, dtype=np.float64) + highest - own
    return surprise


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(SumMetric):
    """The share of samples (or positions) on which the model chooses the class that the dense model chooses.

    It needs no labels. Classes are on the last axis, in outputs of four axes and more on axis 1, unless ``axis``
    says otherwise.
    """

    name: ClassVar[str] = "agreement"
    is_share: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    axis: int | None = option(None, help="axis of the classes", check=at_least(1))

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """Equal choices and choices of every sample."""
        del columns
        name, output = self.judged(outputs)
        dense = self.of_reference(reference, name, output.shape)
        own, other = self._chosen(name, output), self._chosen(name, dense)
        return _counts(own == other, np.ones(own.shape, np.bool_))

    def _chosen(self, name: str, output: Array) -> Array:
        if output.dtype.kind in "iub":
            return output
        axis = self.axis or (1 if output.ndim >= 4 else output.ndim - 1)
        if not 0 < axis < output.ndim or output.shape[axis] < 2:
            help = ["use cosine, which compares numbers, or say METRIC{axis=N}"]
            raise UserError(
                f"output `{name}` of shape {list(output.shape)} has no axis of classes", help=help
            )
        chosen: Array = output.argmax(axis=axis)
        return chosen
