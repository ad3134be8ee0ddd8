"""Run passes several times in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import within
from prunec.passes.pipeline import Pipeline

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat(Pass):
    """Run the passes in the parentheses several times, for pruning in small steps.

    Every round sees what the round before left: three rounds of `prune-channels{ratio=0.2}` keep about
    0.8 * 0.8 * 0.8 of every group. Each inner pass is verified and recorded as if it stood in the pipeline.
    """

    name: ClassVar[str] = "repeat"
    contract: ClassVar[Contract] = "none"
    takes_body: ClassVar[bool] = True

    times: int = option(3, help="how often", check=within(1, 1000))
    body: Pipeline

    def expand(self) -> tuple[Pass, ...]:
        """The passes of the body, ``times`` times over."""
        return self.body.expand() * self.times

    def run(self, module: Module, context: Context) -> Outcome:
        """Not called: whoever runs passes runs those that :meth:`expand` gives."""
        del module, context
        raise TypeError("`repeat` does nothing by itself: run the passes of `expand()`")
