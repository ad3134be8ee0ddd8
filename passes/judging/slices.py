"""Slices of samples: which samples, what is demanded of them, and what is done to their inputs first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prunec.ir.source import SourceText
from prunec.passes.judging.perturb import Perturbation
from prunec.passes.judging.thresholds import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some of the samples, and what is demanded of them.

    Attributes:
        name: of the slice.
        where: a predicate over columns in the words of SQL; empty means all samples.
        limits: thresholds.
        metric: its own metric, as text; None means that of the whole evaluation.
        perturbation: what is done to the inputs first, or None.
    """

    name: str
    where: str = ""
    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    perturbation: Perturbation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFile:
    """All slices of a file; see :mod:`prunec.passes.judging.slice_file`.

    Attributes:
        source: its text, for messages.
        slices: in their order; the whole set first if it has thresholds, perturbed ones last.
        sets: values by the name of the set.
        metric: of slices that name no other, as text; None leaves it to the caller.
        undecided: what becomes of thresholds that the samples do not decide.
    """

    source: SourceText
    slices: tuple[Slice, ...] = ()
    sets: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    metric: str | None = None
    undecided: Literal["pass", "fail"] = "pass"

    @property
    def has_thresholds(self) -> bool:
        """Whether anything is demanded of a slice."""
        return any(item.limits != Limits() for item in self.slices)
