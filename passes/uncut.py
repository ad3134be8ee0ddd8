"""The model as it was before channels were cut, for passes that repair what the cut has done to the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from prunec.ir.diagnostics import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prunec.ir.module import Module
    from prunec.passes.base import Outcome, Pass

    Slots = Mapping[str, Mapping[int, NDArray[np.int64]]]
    """Per value, by name, and axis that lost slots: those that are left, as places in the value before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncut:
    """A model before its channels were cut, and what became of its values.

    Attributes:
        module: the model; it must not be changed.
        kept: per value that lost slots the places of those that are left.
    """

    module: Module
    kept: Slots = field(default_factory=dict)

    def then(self, kept: Slots) -> Uncut:
        """The same model, seen from behind one more cut."""
        merged = {name: dict(axes) for name, axes in self.kept.items()}
        for name, axes in kept.items():
            before = merged.setdefault(name, {})
            for axis, slots in axes.items():
                before[axis] = before[axis][slots] if axis in before else slots
        return replace(self, kept=merged)


@dataclass(slots=True)
class UncutRecord:
    """Keeps the model before the first cut for as long as a later pass wants it.

    Attributes:
        passes: all passes of the run, in order.
        uncut: the model before the cuts so far; None where there were none, or where another pass has rewritten
            the model since.
    """

    passes: Sequence[Pass]
    uncut: Uncut | None = None
    _rewriter: str | None = None
    _before: Module | None = None

    def __post_init__(self) -> None:
        for number, pass_ in enumerate(self.passes):
            if pass_.needs_uncut and not any(
                earlier.contract == "masked" for earlier in self.passes[:number]
            ):
                raise UserError(
                    f"`{pass_}` repairs what a cut has changed, and no pass before it cuts channels",
                    help=[f"put it behind one that does: prune-channels{{ratio=30%}}, {pass_}"],
                )

    def open(self, number: int, module: Module) -> Uncut | None:
        """What the pass of this number (from 1), which is about to run on a module, may know.

        Raises:
            UserError: a pass between the cut and this one, which asks about it, has rewritten the model.
        """
        pass_ = self.passes[number - 1]
        wanted = any(later.needs_uncut for later in self.passes[number:])
        cuts = pass_.contract == "masked" and self.uncut is None
        self._before = module.clone() if wanted and cuts else None
        if not pass_.needs_uncut:
            return None
        if self._rewriter is not None:
            raise UserError(
                f"`{self._rewriter}` changed the model between the cut and `{pass_}`, so that layers cannot be "
                "compared with those before the cut any more",
                help=[
                    f"put `{pass_.name}` straight behind the pass that cuts, and `{self._rewriter}` elsewhere"
                ],
            )
        return self.uncut

    def close(self, number: int, outcome: Outcome) -> None:
        """Note what the pass did."""
        pass_ = self.passes[number - 1]
        if not outcome.changed or pass_.contract == "repaired":
            return
        if outcome.kept is None:
            self._rewriter = pass_.name if self.uncut is not None else self._rewriter
            self.uncut = None
        elif self.uncut is not None:
            self.uncut = self.uncut.then(outcome.kept)
        elif self._before is not None:
            self.uncut, self._rewriter = Uncut(module=self._before, kept=outcome.kept), None
