"""Bring a graph into its simplest form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import at_least

if TYPE_CHECKING:
    from collections import Counter

    from prunec.ir.module import Module

_LISTED = "listed initializers"
_MESSAGES = {
    _LISTED: "{} initializers are no graph inputs any more, so that no caller can override them",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonicalize(Pass):
    """Fold constants, turn computed shapes into literals, and remove what does nothing.

    Shapes that a graph computes although they never change become numbers; nodes that read nothing but
    constants are computed; nodes that hand their input on are taken out; local functions are inlined; dead
    code goes. Weights that survive keep their names, and so do graph inputs and outputs. Quantised weights
    stay quantised, and a weight that two layers share stays shared.
    """

    name: ClassVar[str] = "canonicalize"
    contract: ClassVar[Contract] = "same"

    fold_constants: bool = option(True, help="compute nodes that read nothing but constants")
    limit: int = option(
        64 * 2**20,
        help="bytes that folded constants may add to the model",
        check=at_least(0),
        metavar="bytes",
    )
    inline: bool = option(True, help="put the bodies of local functions in the place of their calls")

    def run(self, module: Module, context: Context) -> Outcome:
        """Simplify the main graph."""
        from collections import Counter

        from prunec.ir.load import sort
        from prunec.passes.cleanup import drop_overridable_initializers, remove_dead_code
        from prunec.passes.literals import freeze_shape_arithmetic
        from prunec.passes.simplify import Simplifier

        sort(module.model)
        counts = Counter({"functions inlined": self._inline(module, context)})
        counts[_LISTED] = drop_overridable_initializers(module.model)
        facts = context.analyses.facts()
        counts["computed shapes frozen"] = freeze_shape_arithmetic(module.model, facts)
        counts += remove_dead_code(module.model)
        simplifier = Simplifier(module.model, facts, self.fold_constants, self.limit)
        simplifier.run()
        counts += simplifier.counts + remove_dead_code(module.model)
        self._report(counts, simplifier.refused, context)
        return Outcome(changed=bool(counts), statistics=counts)

    def _inline(self, module: Module, context: Context) -> int:
        from prunec.passes.cleanup import inline_functions

        if not self.inline or not module.model.functions:
            return 0
        inlined = inline_functions(module.model)
        if inlined:
            context.analyses.keep_only(frozenset())
        for function in module.model.functions.values():
            context.remarks.missed(
                self.name,
                f"local function `{function.name}` stays a function",
                reason="it recurses, is called with a graph, or is written for another version of its ops",
                help="export the model again with one version of every domain",
            )
        return inlined

    def _report(self, counts: Counter[str], refused: list[int], context: Context) -> None:
        for kind, count in counts.items():
            context.remarks.passed(self.name, _MESSAGES.get(kind, f"{{}} {kind}").format(count))
        if refused:
            context.remarks.missed(
                self.name,
                f"{len(refused)} nodes that read only constants stay",
                reason=f"the smallest adds {min(refused):,} bytes, and `limit` is {self.limit:,} in all",
                help="raise `limit`",
            )
