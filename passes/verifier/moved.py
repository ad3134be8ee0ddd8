"""Where the slots of intermediate values are after a step that puts slots in another order.

It is worked out from the plan and the graph before the step; the outputs of the graph never move.
"""

from __future__ import annotations

from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.passes.coupling import analyse
from prunec.passes.coupling.exchange import Exchange, Ranks
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.plan import Step
from prunec.passes.plan.orders import orders_of
from prunec.passes.verifier.compare import Moved


def moved_slots(
    module: Module, step: Step, options: CouplingOptions | None = None, facts: Facts | None = None
) -> Moved:
    """Per value, by axis, the slot that comes to every place; values inside fused chains are left out.

    Args:
        module: the module before the step.
        step: what changes places.
        options: of the dependency analysis that the step was made with.
        facts: facts of the module, where they are at hand already.

    Raises:
        UserError: the step does not fit the module.
    """
    coupling = analyse(module.model, facts, options=options)
    ranks = Ranks.of(coupling)
    exchange = Exchange.of(ranks, coupling.prunable, orders_of(step, coupling, ranks))
    operands = coupling.relations.table.operands
    return {o.value.name: exchange.axes(o) for o in operands if o.use is None and o.value.name}
