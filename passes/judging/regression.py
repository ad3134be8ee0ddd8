"""Metrics over numbers: errors against labels, and the angle between outputs and those of the dense model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.ir.diagnostics import UserError
from prunec.passes.judging.metrics import Array, Arrays, Floats, LabelledMetric, SumMetric


class _ErrorMetric(SumMetric, LabelledMetric):
    """What errors against labels have in common."""

    __slots__ = ()

    higher_is_better: ClassVar[bool] = False

    def errors(self, outputs: Arrays, columns: Arrays) -> Floats:
        """Output less label, [samples, numbers].

        Raises:
            UserError: labels are missing, no numbers, or of another size.
        """
        name, output = self.judged(outputs)
        labels = self.labels(columns)
        if labels.dtype.kind not in "iubf":
            raise UserError(f"array `{self.label}` is of type {labels.dtype}, not of numbers")
        if _flat(labels).shape != _flat(output).shape:
            shapes = f"{list(output.shape)}, `{self.label}` is {list(labels.shape)}"
            help = ["choose them: METRIC{output=NAME label=NAME}"]
            if labels.dtype.kind == "f":
                help.append(
                    f"`{self.label}` is {labels.dtype}; where it names classes, number them from 0 and use top1"
                )
            raise UserError(f"output `{name}` is {shapes}: they do not go together", help=help)
        return _flat(output).astype(np.float64) - _flat(labels).astype(np.float64)


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _sums(numbers: Floats) -> Floats:
    """[samples, 2]: sum and count of every sample."""
    return np.stack([numbers.sum(axis=1), np.full(len(numbers), float(numbers.shape[1]))], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mae(_ErrorMetric):
    """The mean absolute error against the labels."""

    name: ClassVar[str] = "mae"

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """Absolute errors summed up, and their number, of every sample."""
        del reference
        return _sums(np.abs(self.errors(outputs, columns)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rmse(_ErrorMetric):
    """The root of the mean squared error against the labels."""

    name: ClassVar[str] = "rmse"

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """Squared errors summed up, and their number, of every sample."""
        del reference
        return _sums(np.square(self.errors(outputs, columns)))

    def of_sums(self, sums: Floats) -> Floats:
        """The root of the mean."""
        return np.sqrt(SumMetric.of_sums(self, sums))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine(SumMetric):
    """The mean cosine of the angle between a sample's output and that of the dense model; it needs no labels."""

    name: ClassVar[str] = "cosine"
    needs_reference: ClassVar[bool] = True

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> Floats:
        """The cosine of every sample; 1 where both outputs are zero."""
        del columns
        name, output = self.judged(outputs)
        one = _flat(output).astype(np.float64)
        other = _flat(self.of_reference(reference, name, output.shape)).astype(np.float64)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        zero = ~one.any(axis=1) & ~other.any(axis=1)
        cosines = np.clip((one * other).sum(axis=1) / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0)
        return _sums(np.where(zero, 1.0, cosines)[:, None])
