"""Geometry of charts: what is drawn where, in per cent of the width or in the units of a view box."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A linear axis from ``low`` to ``high``."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], *, zero: bool = False, margin: float = 0.06) -> Scale:
        """An axis with all finite values and a margin; with ``zero`` it begins there."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = (0.0 if zero else min(finite)), max(finite)
        pad = (high - low or abs(high) or 1.0) * margin
        return cls(low=low if zero else low - pad, high=high + pad)

    def percent(self, value: float) -> float:
        """Where a value is, in per cent of the axis, within its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self, count: int = 4) -> list[float]:
        """Round numbers on the axis, about as many as asked for."""
        step = _round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9) * step
        return [round(first + i * step, 10) for i in range(int((self.high - first) / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The inside of a chart in units of its view box."""

    width: float = 240.0
    height: float = 96.0
    pad: float = 6.0

    def points(self, x: Scale, y: Scale, values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Values as points; the vertical axis points up."""
        inner = (self.width - 2 * self.pad, self.height - 2 * self.pad)
        return [
            (
                round(self.pad + inner[0] * x.percent(a) / 100, 1),
                round(self.height - self.pad - inner[1] * y.percent(b) / 100, 1),
            )
            for a, b in values
        ]


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Points as the attribute of a ``polyline``."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)
