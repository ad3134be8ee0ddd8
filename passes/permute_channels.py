"""Put channels into an order in which an N:M pattern keeps more magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import Check
from prunec.passes.sparsity.patterns import NM, NMOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prunec.ir.module import Module
    from prunec.passes.coupling.exchange import Ranks
    from prunec.passes.coupling.groups import Coupling, Group
    from prunec.passes.coupling.options import CouplingOptions
    from prunec.passes.sparsity.stripes import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteChannels(Pass):
    """Reorder input channels so that an N:M pattern keeps more of the weights' magnitude.

    An N:M pattern keeps N of every M neighbouring input channels, so it matters which are neighbours. A new order
    costs nothing at run time: the layers that make the channels make them in this order, by way of the same channel
    groups that pruning cuts, and the model computes what it did. Groups that reach a graph input or output keep their
    order.
    """

    name: ClassVar[str] = "permute-channels"
    contract: ClassVar[Contract] = "same"
    planned: ClassVar[bool] = True

    for_: NMOption = option(NM(2, 4), help="the pattern that the order is for")
    unit: Literal["head", "head-dim"] = option(
        "head-dim", help="what moves in attention: whole heads, or the same positions of every head"
    )
    ignore: tuple[str, ...] = option(
        (), help="leave groups alone that touch nodes or tensors of these names (globs or paths)"
    )
    only: tuple[str, ...] = option(
        (), help="reorder only groups that touch nodes or tensors of these names (globs or paths)"
    )
    seconds: float | None = option(
        None,
        help="end the search after about so long; what it finds then depends on the machine",
        check=Check("above 0", lambda seconds: bool(seconds > 0)),
    )

    @property
    def coupling_options(self) -> CouplingOptions:
        """The unit of attention."""
        from prunec.passes.coupling.options import CouplingOptions

        return CouplingOptions(unit=self.unit)

    def run(self, module: Module, context: Context) -> Outcome:
        """Search an order for every group (or take it from the plan being replayed) and apply it."""
        from prunec.passes.coupling.exchange import Exchange, Ranks
        from prunec.passes.plan.orders import make_order_step, orders_of
        from prunec.passes.slicing import Constants

        coupling = context.analyses.coupling(self.coupling_options)
        ranks = Ranks.of(coupling)
        statistics: dict[str, float] = {}
        if context.replay is not None:
            groups, orders = list(coupling.prunable), orders_of(context.replay, coupling, ranks)
        else:
            found = list(self._search(coupling, ranks, context))
            groups, orders = [group for group, _ in found], [of_group.order for _, of_group in found]
            possible = sum(of_group.possible for _, of_group in found)
            gain = sum(of_group.gain for _, of_group in found)
            statistics["efficacy"] = 100 * gain / possible if possible else 0.0
        exchange = Exchange.of(ranks, groups, orders)
        step = make_order_step(self.name, exchange, groups, orders)
        if step.is_empty:
            return Outcome(changed=False)
        constants = Constants(module.model, coupling, exchange.axes)
        constants.take()
        return Outcome(
            changed=True,
            step=step,
            copies=constants.copies,
            options=self.coupling_options,
            statistics={
                "groups": len(step.orders),
                "units": sum(len(g.order) for g in step.orders),
                **statistics,
            },
        )

    def _groups(self, coupling: Coupling, context: Context) -> list[Group]:
        from prunec.passes.pruning.filters import GroupFilter

        accept = GroupFilter(coupling, ignore=self.ignore, only=self.only)
        accept.warn_unmatched(context.remarks, self.name)
        return [group for group in coupling.prunable if accept(group)]

    def _search(self, coupling: Coupling, ranks: Ranks, context: Context) -> Iterator[tuple[Group, Found]]:
        """The groups that layers of the pattern read, each with what was found."""
        from prunec.passes.sparsity.reorder import find_orders

        layers = context.analyses.layers().layers
        groups = self._groups(coupling, context)
        read = False
        for group, found in find_orders(
            coupling,
            groups,
            layers,
            self.for_.n,
            self.for_.m,
            ranks=ranks,
            seed=context.seed,
            seconds=self.seconds,
        ):
            read = True
            self._report(group, found, context)
            yield group, found
        if not read:
            context.remarks.missed(
                self.name,
                "no channels can be reordered in this model",
                reason=f"no group that may move is read by a layer with a multiple of {self.for_.m} input channels",
                help="`prunec inspect MODEL` lists every group and what pins it",
            )

    def _report(self, group: Group, found: Found, context: Context) -> None:
        what = group.title
        if found.gain > 0:
            context.remarks.passed(
                self.name,
                f"{what}: {self.for_} keeps {100 * found.gain / found.kept:.2f} % more magnitude of what reads it "
                f"(efficacy 0.0 % before, {found.efficacy:.1f} % after)",
                node=group.members[0].name,
                group=group.id,
                numbers=(("units", group.units), ("efficacy", float(found.efficacy))),
            )
        else:
            context.remarks.missed(
                self.name,
                f"{what} keeps its order",
                reason="no better one is found, or a layer that reads it has the pattern already",
                node=group.members[0].name,
                group=group.id,
                numbers=(("units", group.units),),
            )
