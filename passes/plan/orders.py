"""Between orders of a group's units and the steps of a plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunec.ir.diagnostics import UserError
from prunec.ir.rule import Index
from prunec.passes.coupling.exchange import STAYS, Exchange, Ranks, exchange_classes
from prunec.passes.coupling.groups import Coupling, Group, Member
from prunec.passes.plan.schema import GroupOrder, Step, TensorOrder
from prunec.passes.plan.steps import axis_labels, known_part, operands_by_name, uses_of


def make_order_step(
    pass_name: str, exchange: Exchange, groups: Sequence[Group], orders: Sequence[Index]
) -> Step:
    """Write orders of units down as a step; groups that keep theirs are left out.

    Args:
        pass_name: the pass.
        exchange: what the orders do to every axis.
        groups: the groups.
        orders: per group which unit comes to the places of which.
    """
    moving = [
        _group_order(exchange, group, order)
        for group, order in zip(groups, orders, strict=True)
        if not np.array_equal(order, np.arange(group.units))
    ]
    return Step(pass_name=pass_name, orders=tuple(moving))


def _group_order(exchange: Exchange, group: Group, order: Index) -> GroupOrder:
    moved = np.flatnonzero(order != np.arange(group.units))
    return GroupOrder(
        id=group.id,
        units=group.units,
        order=tuple(order[moved].tolist()),
        tensors=tuple(_tensor_order(exchange, member, moved) for member in group.members),
    )


def _tensor_order(exchange: Exchange, member: Member, moved: Index) -> TensorOrder:
    numbers = exchange.ranks.coupling.relations.table.operands[member.operand]
    slots = exchange.slots(numbers[member.axis])
    assert slots is not None
    order = slots[np.isin(member.units, moved)]
    return TensorOrder(
        name=member.name, axis=member.axis, order=tuple(order.tolist()), uses=uses_of(member.operand)
    )


def orders_of(step: Step, coupling: Coupling, ranks: Ranks | None = None) -> list[Index]:
    """Per prunable group the order of its units that a step makes.

    Args:
        step: the step, in positions of the tensors as they are now.
        coupling: the analysis of the graph that it is to be made in.
        ranks: of this coupling, where they are at hand.

    Raises:
        UserError: the graph has no such tensor, axis or index, units are tied together in another way than
            the step says, or an exchange would change what the graph computes.
    """
    ranks = ranks or Ranks.of(coupling)
    step = known_part(step, coupling) if step.partial else step
    content = _content(step, coupling)
    number, owner, kind = (np.full(len(content), STAYS) for _ in range(3))
    classes = exchange_classes(coupling, coupling.prunable, ranks)
    for position, (group, of_units) in enumerate(zip(coupling.prunable, classes, strict=True)):
        number[group.components] = np.arange(group.units)
        owner[group.components], kind[group.components] = position, of_units
    moved = np.flatnonzero(content != np.arange(len(content)))
    alike = (owner[moved] == owner[content[moved]]) & (kind[moved] == kind[content[moved]])
    if not (alike & (kind[moved] != STAYS)).all():
        raise _misfit("it exchanges channels that are not alike here")
    orders = [number[content[group.components]] for group in coupling.prunable]
    exchange = Exchange.of(ranks, coupling.prunable, orders)
    _check_complete(step, make_order_step(step.pass_name, exchange, coupling.prunable, orders))
    return orders


def _content(step: Step, coupling: Coupling) -> Index:
    """Per component the one that comes to its places."""
    content = np.arange(len(coupling.components.free))
    known = np.zeros(len(content), bool)
    operands = operands_by_name(coupling)
    for tensor in (tensor for group in step.orders for tensor in group.tensors):
        labels = axis_labels(tensor, operands, coupling)
        slots = np.array(tensor.order, np.int64)
        places, coming = labels[np.sort(slots)], labels[slots]
        if (known[places] & (content[places] != coming)).any():
            raise _misfit(f"axis {tensor.axis} of '{tensor.name}' is coupled to one that moves otherwise")
        content[places], known[places] = coming, True
        if (content[places] != coming).any():
            raise _misfit(f"it tears apart what is coupled on axis {tensor.axis} of '{tensor.name}'")
    if not np.array_equal(np.sort(content), np.arange(len(content))):
        raise _misfit("it brings one channel to the places of two")
    return content


def _check_complete(given: Step, needed: Step) -> None:
    """The step has to name all that moves, and each of it as the coupling says."""
    named, moving = _moves(given), _moves(needed)
    for key in sorted(named if given.partial else moving.keys() | named.keys()):
        if key not in named or key not in moving or not np.array_equal(named[key], moving[key]):
            raise _misfit(f"what it moves on axis {key[1]} of '{key[0]}' is not all that is coupled")


def _moves(step: Step) -> dict[tuple[str, int, tuple[str, ...]], Index]:
    """Per tensor axis the places where something else comes, and what: ``[2, places]``."""
    found: dict[tuple[str, int, tuple[str, ...]], list[Index]] = {}
    for tensor in (tensor for group in step.orders for tensor in group.tensors):
        slots = np.array(tensor.order, np.int64)
        found.setdefault((tensor.name, tensor.axis, tensor.uses), []).append(
            np.stack([np.sort(slots), slots])
        )
    moves = {key: np.concatenate(parts, axis=1) for key, parts in found.items()}
    return {key: move[:, np.argsort(move[0], kind="stable")] for key, move in moves.items()}


def _misfit(why: str) -> UserError:
    return UserError(f"the plan does not fit this graph: {why}", help=["make a new plan for this graph"])
