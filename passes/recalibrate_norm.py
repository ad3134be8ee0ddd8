"""The pass ``recalibrate-norm``: batch norms get the statistics that their inputs have now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Context, Contract, Outcome, Pass, option

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrateNorm(Pass):
    """Give every BatchNormalization the mean and variance that its inputs have on data.

    After a cut (or `sparsify`) the inputs of a norm are distributed otherwise than in training. Norm by norm, each
    with inputs from the norms that are right already. What `fold-norm` has folded cannot be estimated again: put
    it behind this pass.
    """

    name: ClassVar[str] = "recalibrate-norm"
    contract: ClassVar[Contract] = "repaired"

    ignore: tuple[str, ...] = option((), help="leave norms of these names alone (globs or paths)")

    @property
    def needs_data(self) -> bool:
        """Always: statistics are those of samples."""
        return True

    def run(self, module: Module, context: Context) -> Outcome:
        """Measure and write the statistics."""
        from prunec.passes.compensation.norms import Recalibration

        norms = self._norms(module, context)
        if not norms:
            return Outcome(changed=False)
        assert context.data is not None, "the manager sees to it"
        facts = context.analyses.facts()
        feeds = context.data.bind(module)
        repaired, moved = Recalibration(module=module, norms=norms, feeds=feeds, facts=facts).run()
        for node, distance in moved.items():
            label = node.name or node.outputs[0].name
            message = f"`{label}`: means move by up to {distance:.2g} standard deviations"
            context.remarks.analysis(self.name, message, node=label)
        context.remarks.passed(
            self.name, f"{len(norms)} batch norms have the statistics of {feeds.samples} samples"
        )
        return Outcome(changed=True, repaired=repaired, statistics={"norms": len(norms)})

    def _norms(self, module: Module, context: Context) -> list[onnx_ir.Node]:
        """The norms whose statistics can be written, in graph order."""
        from prunec.ir.dialect import ATEN
        from prunec.passes.compensation.norms import NotFixed, check_norm
        from prunec.passes.folding.constants import Constants
        from prunec.passes.pruning.filters import matches, warn_unmatched

        found = [node for node in module.graph if node.op_type == "BatchNormalization" and not node.domain]
        names = {node: node.name or node.outputs[0].name or "" for node in found}
        warn_unmatched(self.ignore, set(names.values()), context.remarks, self.name)
        constants, norms = Constants(module.model), []
        for node in found:
            if matches([names[node]], self.ignore):
                continue
            try:
                check_norm(node, constants)
            except NotFixed as why:
                what = f"`{names[node]}` keeps its statistics"
                context.remarks.missed(self.name, what, reason=str(why), node=names[node])
            else:
                norms.append(node)
        if not norms:
            reason = "no BatchNormalization is left" if found else "the model has no BatchNormalization"
            help = None if found else "put `recalibrate-norm` in front of `fold-norm`"
            if ATEN in module.graph.opset_imports:
                reason = "a torch program takes statistics from its inputs in training mode"
                help = "run result.to_torch().train() on some batches, under torch.no_grad()"
            context.remarks.missed(
                self.name, "no statistics are estimated", reason=reason, help=help, urgent=True
            )
        return norms
