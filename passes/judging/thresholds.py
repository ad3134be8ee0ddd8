"""What a user demands of a slice, and whether that holds, seen how few samples may speak.

A threshold is judged by the interval and not by the value alone: it *fails* only if even the favourable end of the
95 % interval is beyond it, it *holds* if even the unfavourable end keeps it, and in between it is *undecided*; so it is
where samples are too few for an interval. Drops against the dense model are paired: of the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prunec.ir.diagnostics import counted
from prunec.passes.judging.bootstrap import Interval

Status = Literal["holds", "undecided", "fails"]

ORDER: tuple[Status, ...] = ("holds", "undecided", "fails")
"""From good to bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is demanded of one slice.

    Attributes:
        minimum: of a metric of which more is better.
        maximum: of a metric of which less is better.
        max_drop: how much worse than the dense model it may be, in the metric's unit or as a share of the dense
            model's value.
        relative: whether ``max_drop`` is a share.
        min_size: samples that the slice must have.
    """

    minimum: float | None = None
    maximum: float | None = None
    max_drop: float | None = None
    relative: bool = False
    min_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One threshold and what became of it.

    Attributes:
        name: as it is written: ``min``, ``max``, ``max-drop`` or ``min-size``.
        limit: the number that must be kept.
        status: whether it is.
        why: the numbers, in words.
        demand: the threshold, in words.
    """

    name: str
    limit: float
    status: Status
    why: str
    demand: str


def worst(statuses: Iterator[Status]) -> Status:
    """The worst of some statuses; ``holds`` where there are none."""
    return max(statuses, key=ORDER.index, default="holds")


def checks_of(
    limits: Limits,
    *,
    size: int,
    value: float,
    interval: Interval,
    drop: float | None,
    drop_interval: Interval,
) -> Iterator[Check]:
    """Every threshold of a slice against what was measured.

    Args:
        limits: what is demanded.
        size: samples of the slice.
        value: of the metric.
        interval: of the value.
        drop: how much worse than the dense model, in the unit that the limit has; None without a dense model.
        drop_interval: of the drop, paired.
    """
    if size < limits.min_size:
        why = f"is measured on {counted(size, 'sample')}, at least {limits.min_size:,} are needed"
        yield _check("min-size", limits.min_size, "fails", why)
    if limits.minimum is not None:
        status = _status(-limits.minimum, (-interval[0], -interval[1]), known=not math.isnan(value))
        why = f"is {_between(value, interval)}, at least {limits.minimum:g} is demanded"
        yield _check("min", limits.minimum, status, why)
    if limits.maximum is not None:
        status = _status(limits.maximum, (interval[1], interval[0]), known=not math.isnan(value))
        why = f"is {_between(value, interval)}, at most {limits.maximum:g} is allowed"
        yield _check("max", limits.maximum, status, why)
    if limits.max_drop is not None and drop is not None:
        status = _status(limits.max_drop, (drop_interval[1], drop_interval[0]), known=not math.isnan(drop))
        unit = " of the dense model's" if limits.relative else ""
        why = f"drops by {_between(drop, drop_interval)}{unit}, at most {limits.max_drop:g} is allowed"
        yield _check("max-drop", limits.max_drop, status, why, relative=limits.relative)


def _check(name: str, limit: float, status: Status, why: str, *, relative: bool = False) -> Check:
    shown = f"{100 * limit:g} %" if relative else f"{limit:g}"
    return Check(name=name, limit=limit, status=status, why=why, demand=f"{name} {shown}")


def _status(limit: float, ends: Interval, *, known: bool) -> Status:
    """Whether a limit from above is kept by the unfavourable and the favourable end of the interval of a value."""
    unfavourable, favourable = ends
    if not known:
        return "fails"
    if unfavourable <= limit:
        return "holds"
    return "fails" if favourable > limit else "undecided"


def _between(value: float, interval: Interval) -> str:
    if any(map(math.isnan, interval)):
        return f"{value:.4g} (too few samples for an interval)"
    return f"{value:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"
