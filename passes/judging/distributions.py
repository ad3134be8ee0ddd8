"""How numbers and classes are spread over samples, small enough to store, and how far others have drifted from it.

Two measures: the population stability index ``sum((p - q) ln(p / q))`` over the deciles of the stored numbers or over
classes, and the Kolmogorov-Smirnov distance, the largest gap between the cumulative shares. Where nothing drifts,
the index of ``n`` and ``m`` samples in ``b`` bins is about ``(1/n + 1/m)`` times a chi-squared number of ``b - 1``
degrees of freedom (Yurdakul 2018, theorem 3.1): few samples alone make it large, and that is taken into account. Every
bin counts half a sample more, so that an empty one has a logarithm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunec.passes.judging.bootstrap import FEW
from prunec.passes.judging.columns import column, column_names
from prunec.passes.judging.metrics import Arrays, Floats

Array = NDArray[Any]

CLASSES = 50
"""Whole numbers or words of at most so many different values are classes."""
POINTS = 101
"""Quantiles that are stored of numbers: every percent."""
BINS = 10
NOTABLE, LARGE = 0.1, 0.25
"""The index that is usually taken for a notable and for a large shift."""
CHANCE = 0.999
"""How sure it must be that an index is not chance: many distributions are looked at together."""

DriftStatus = Literal["stable", "notable", "drifted", "too few"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far samples are from a stored distribution.

    Attributes:
        name: of the distribution.
        psi: population stability index.
        chance: the index that few samples alone may reach.
        ks: Kolmogorov-Smirnov distance; None for classes.
        limit: the index from which on it counts as drifted.
        samples: that were compared.
    """

    name: str
    psi: float
    chance: float
    ks: float | None
    limit: float
    samples: int

    @property
    def status(self) -> DriftStatus:
        """What the index means; ``too few`` where so few samples reach one beyond the limit by chance."""
        if self.samples < FEW or self.limit < self.psi <= self.chance:
            return "too few"
        if self.psi <= max(self.chance, min(NOTABLE, self.limit)):
            return "stable"
        return "drifted" if self.psi > self.limit else "notable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How a number or a class is spread over samples; make it with :meth:`of`.

    Attributes:
        name: what is spread.
        samples: their number.
        quantiles: of numbers, every percent; empty for classes.
        shares: of classes, by name; empty for numbers.
    """

    name: str
    samples: int
    quantiles: tuple[float, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, values: Array) -> Distribution:
        """The distribution of [samples]; what is NaN is left out."""
        known = _known(values)
        found, counts = np.unique(known, return_counts=True)
        if values.dtype.kind != "f" and (len(found) <= CLASSES or values.dtype.kind not in "iu"):
            shares = {
                str(value): float(count / len(known)) for value, count in zip(found, counts, strict=True)
            }
            return cls(name=name, samples=len(known), shares=shares)
        quantiles = np.quantile(known, np.linspace(0, 1, POINTS)) if len(known) else np.zeros(0)
        return cls(name=name, samples=len(known), quantiles=tuple(map(float, quantiles)))

    def drift(self, values: Array, *, limit: float = LARGE) -> Drift:
        """How far other samples are from this.

        Args:
            values: [samples].
            limit: the index from which on it counts as drifted.
        """
        known = _known(values)
        if not self.quantiles and known.dtype.kind == "f" and (known == np.round(known)).all():
            known = known.astype(np.int64)  # a table with gaps has classes as floating-point numbers
        stored, found, ks = self._numbers(known) if self.quantiles else self._classes(known)
        p, q = _smoothed(found, len(known)), _smoothed(stored, self.samples)
        return Drift(
            name=self.name,
            psi=float(((p - q) * np.log(p / q)).sum()),
            chance=_chance(len(p), self.samples, len(known)),
            ks=ks,
            limit=limit,
            samples=len(known),
        )

    def _numbers(self, values: Array) -> tuple[Floats, Floats, float]:
        """Stored and found shares of bins, and the largest gap between the cumulative shares."""
        points = np.array(self.quantiles)
        edges = np.unique(points[:: (POINTS - 1) // BINS][1:-1])
        stored = _cumulative(points[1:], edges)  # a hundred points of one percent each
        found = _cumulative(values, edges)
        gaps = np.abs(_cumulative(values, points) - _cumulative(points[1:], points))
        return _binned(stored), _binned(found), float(gaps.max())

    def _classes(self, values: Array) -> tuple[Floats, Floats, None]:
        names = [str(value) for value in values.tolist()]
        every = sorted({*self.shares, *names})
        found, counts = np.unique(names, return_counts=True)
        shares = dict(zip(found.tolist(), (counts / max(len(names), 1)).tolist(), strict=True))
        return (
            np.array([self.shares.get(name, 0.0) for name in every]),
            np.array([shares.get(name, 0.0) for name in every]),
            None,
        )

    def to_json(self) -> dict[str, Any]:
        """The distribution as plain data."""
        content: dict[str, Any] = {"name": self.name, "samples": self.samples}
        return content | (
            {"quantiles": list(self.quantiles)} if self.quantiles else {"shares": dict(self.shares)}
        )


def _known(values: Array) -> Array:
    return values[~np.isnan(values)] if values.dtype.kind == "f" else values


def _cumulative(values: Array, at: Array) -> Floats:
    """Share of the values that are at most each point."""
    return np.searchsorted(np.sort(values), at, side="right") / max(len(values), 1)


def _binned(cumulative: Floats) -> Floats:
    return np.diff(cumulative, prepend=0.0, append=1.0)


def _smoothed(shares: Floats, samples: int) -> Floats:
    """Shares with half a sample more in each bin: of an empty one the logarithm is known, too."""
    return (shares * samples + 0.5) / (samples + 0.5 * len(shares))


def _chance(bins: int, one: int, other: int) -> float:
    from scipy.stats import chi2

    if bins < 2 or not one or not other:
        return 0.0
    return float(chi2.ppf(CHANCE, bins - 1) * (1 / one + 1 / other))


def input_features(arrays: Arrays) -> Iterator[tuple[str, Array]]:
    """What is watched of the data: every column, and length or mean and spread of the other arrays."""
    for name in column_names(arrays):
        yield name, column(arrays, name)


def output_features(outputs: Arrays) -> Iterator[tuple[str, Array]]:
    """What is watched of outputs [samples, ...]: of scores the class and how far it is ahead, else mean and spread."""
    for name, array in outputs.items():
        if array.dtype.kind not in "fiub":
            continue
        if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f":
            best = np.partition(array.astype(np.float64), -2, axis=1)[:, -2:]
            yield f"class of {name}", array.argmax(axis=1)
            yield f"margin of {name}", best[:, 1] - best[:, 0]
            continue
        flat = array.reshape(len(array), -1)
        if flat.shape[1] == 1:
            yield name, flat[:, 0]
            continue
        yield f"mean of {name}", flat.mean(axis=1, dtype=np.float64)
        yield f"spread of {name}", flat.std(axis=1, dtype=np.float64)
