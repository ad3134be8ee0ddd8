"""What may watch a run without being part of it: printers, dump folders, timers, reproducers.

An instrument is called around every pass. It may read all that it is given and change none of it; what a
pipeline computes never depends on who watches. With no instruments nothing of this runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.analyses import Analyses
    from prunec.passes.base import Outcome, Pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pass of a run, at the moment in which an instrument is called.

    Attributes:
        number: its place in the run, from 1; what ``repeat`` repeats counts each time.
        passes: all passes of the run, in order.
        analyses: cached analyses of the module as it is now.
        before: the module before the pass; None where no instrument keeps it.
        seed: of the run.
    """

    number: int
    passes: Sequence[Pass]
    analyses: Analyses
    before: Module | None = None
    seed: int = 0

    @property
    def pass_(self) -> Pass:
        """The pass itself."""
        return self.passes[self.number - 1]

    @property
    def module(self) -> Module:
        """The module as it is now."""
        return self.analyses.module

    @property
    def remaining(self) -> Sequence[Pass]:
        """This pass and those behind it."""
        return self.passes[self.number - 1 :]


class Instrument:
    """Base of all instruments: watches nothing.

    Class attributes:
        keeps_before: whether stages must carry the module as it was before the pass (a clone that shares all
            weights, milliseconds).
    """

    keeps_before: ClassVar[bool] = False

    def allows(self, stage: Stage) -> bool:
        """Whether a pass may run at all; if any instrument says no, it is passed over."""
        del stage
        return True

    def before_pass(self, stage: Stage) -> None:
        """A pass is about to run."""

    def after_pass(self, stage: Stage, outcome: Outcome) -> None:
        """A pass has run and has been verified."""

    def failed(self, stage: Stage, error: BaseException) -> None:
        """A pass, or its verification, raised; the error goes on to the caller afterwards.

        An instrument may add notes and help to a ``PrunecError``.
        """
