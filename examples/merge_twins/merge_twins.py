"""A pass with a mistake in it: docs/debugging.md finds out which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Context, Contract, Outcome, Pass

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeTwins(Pass):
    """Compute once what several nodes compute alike (common subexpressions)."""

    name: ClassVar[str] = "merge-twins"
    contract: ClassVar[Contract] = "same"

    def run(self, module: Module, context: Context) -> Outcome:
        """Let the readers of a node read an earlier one instead, if that is its twin."""
        from onnx_ir.convenience import replace_all_uses_with

        first, merged = {}, 0
        for node in list(module.graph):
            computed = tuple(
                value for value in node.inputs if value is not None and value.const_value is None
            )
            twin = first.setdefault((node.op_type, computed), node)
            if twin is not node:
                replace_all_uses_with(node.outputs, twin.outputs, replace_graph_outputs=True)
                module.graph.remove(node, safe=True)
                context.remarks.passed(
                    self.name, f"`{node.name}` is merged into `{twin.name}`", node=node.name
                )
                merged += 1
        return Outcome(changed=merged > 0, statistics={"merged": merged})
