"""Between components of an analysis and the steps of a plan.

A plan speaks of tensors, axes and indices, so that it can be read, checked and replayed without the analysis
that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError, nearest
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling, Group, Member
from prunec.passes.coupling.solve import Bools
from prunec.passes.plan.schema import GroupCut, GroupOrder, Step, TensorCut, TensorOrder

Units = NDArray[np.int64]
_OTHER_WAY = "this graph ties channels that the other does not: make the plan of this one, and transfer that"
Cut = TypeVar("Cut", GroupCut, GroupOrder)


def make_step(pass_name: str, groups: Sequence[Group], chosen: Sequence[Units]) -> Step:
    """Write a choice of units down as a step; groups that lose nothing are left out."""
    cuts = [_group_cut(group, units) for group, units in zip(groups, chosen, strict=True) if len(units)]
    return Step(pass_name=pass_name, groups=tuple(cuts))


def _group_cut(group: Group, units: Units) -> GroupCut:
    gone = np.zeros(group.units + 1, bool)  # the last one for slots that belong to no unit (-1)
    gone[units] = True
    return GroupCut(
        id=group.id,
        units=group.units,
        removed=tuple(units.tolist()),
        equivalence="masked-kept-statistics" if group.statistic else "masked",
        tensors=tuple(_tensor_cut(member, gone) for member in group.members),
    )


def _tensor_cut(member: Member, gone: Bools) -> TensorCut:
    return TensorCut(
        name=member.name,
        axis=member.axis,
        removed=tuple(np.flatnonzero(gone[member.units]).tolist()),
        uses=uses_of(member.operand),
    )


def uses_of(operand: Operand) -> tuple[str, ...]:
    """The use that an operand stands for, as plans write it; empty where it stands for all of them."""
    if operand.use is None:
        return ()
    node, index = operand.use
    return (f"{node.outputs[0].name}:{index}",)


def replayed(step: Step, coupling: Coupling) -> tuple[Step, Bools]:
    """A step of a plan as it is made in a graph, complete, and the components that it removes.

    Raises:
        UserError: as :func:`components_of`; or the graph has no tensor of a group.
    """
    if not step.partial:
        return step, components_of(step, coupling)
    removed = components_of(known_part(step, coupling), coupling)
    groups = coupling.prunable
    chosen = [np.flatnonzero(removed[group.components]) for group in groups]
    return make_step(step.pass_name, groups, chosen), removed


def known_part(step: Step, coupling: Coupling) -> Step:
    """A partial step with only the tensors that the graph has (a norm may be folded by now).

    Raises:
        UserError: none of a group's is left.
    """
    operands = operands_by_name(coupling)

    def known(group: Cut) -> Cut:
        tensors = tuple(t for t in group.tensors if (t.name, t.uses) in operands)
        if not tensors:
            names = ", ".join(f"'{t.name}'" for t in group.tensors)
            raise UserError(
                f"the plan names of group {group.id} {names}, which this graph does not have any more"
            )
        return replace(group, tensors=tensors)

    return replace(step, groups=tuple(map(known, step.groups)), orders=tuple(map(known, step.orders)))


def components_of(step: Step, coupling: Coupling) -> Bools:
    """The components that a step removes.

    Raises:
        UserError: the graph has no such tensor, axis or index, nothing would stay of an axis, or a removal
            would take slots along that the step does not name.
    """
    operands = operands_by_name(coupling)
    removed = np.zeros(len(coupling.components.free), bool)
    for cut in (cut for group in step.groups for cut in group.tensors):
        labels = axis_labels(cut, operands, coupling)
        removed[labels[list(cut.removed)]] = True
    for cut, named in _named(step).items():
        _check_complete(cut, named, removed[axis_labels(cut, operands, coupling)], partial=step.partial)
    if (removed & ~coupling.components.free).any():
        component = int(np.flatnonzero(removed & ~coupling.components.free)[0])
        reason = coupling.components.reasons[component]
        raise UserError(f"the plan removes slots that are pinned here: {reason.text}")
    _check_not_empty(coupling, removed)
    return removed


def _check_not_empty(coupling: Coupling, removed: Bools) -> None:
    """Something must stay of every axis, also of a value that no tensor of the plan shares its size with."""
    for operand, axis, root in coupling.relations.table.axes():
        labels = coupling.labels(root)
        if labels is not None and removed[labels].all():
            raise UserError(
                f"the plan removes all {len(labels)} slots of axis {axis} of '{operand.value.name}'"
            )


def operands_by_name(coupling: Coupling) -> dict[tuple[str, tuple[str, ...]], Operand]:
    """The operands of a coupling by what plans call them: tensor and uses."""
    return {(o.value.name or "", uses_of(o)): o for o in coupling.relations.table.operands}


def axis_labels(
    tensor: TensorCut | TensorOrder,
    operands: Mapping[tuple[str, tuple[str, ...]], Operand],
    coupling: Coupling,
) -> NDArray[np.int64]:
    """Component of every slot of the axis that a plan names.

    Raises:
        UserError: the graph has no such tensor, axis or slot, or the axis is pinned.
    """
    cut = isinstance(tensor, TensorCut)
    slots = tensor.removed if isinstance(tensor, TensorCut) else tensor.order
    operand = operands.get((tensor.name, tensor.uses))
    if operand is None:
        hint = nearest(tensor.name, (name for name, _ in operands))
        suffix = f" (did you mean '{hint}'?)" if hint else ""
        raise UserError(
            f"the plan names tensor '{tensor.name}', which this graph does not have{suffix}",
            help=[
                "a plan of another export of the network (a torch module and its ONNX file) has to be translated: "
                "--replay-from MODEL, in Python plan.transfer(its_module, this_module)"
            ],
        )
    numbers = coupling.relations.table.operands[operand]
    if tensor.axis >= len(numbers):
        raise UserError(
            f"the plan {'cuts' if cut else 'reorders'} axis {tensor.axis} of '{tensor.name}', "
            f"which has {len(numbers)} axes"
        )
    size = coupling.relations.table.sizes[numbers[tensor.axis]]
    if max(slots, default=-1) >= size:
        raise UserError(
            f"the plan {'removes' if cut else 'moves'} index {max(slots)} of axis {tensor.axis} of "
            f"'{tensor.name}', which has size {size}"
        )
    labels = coupling.labels(numbers[tensor.axis])
    if labels is None:
        reason = coupling.relations.table.pinned[coupling.relations.table.find(numbers[tensor.axis])]
        raise UserError(
            f"axis {tensor.axis} of '{tensor.name}' cannot be {'cut' if cut else 'reordered'}: {reason.text}"
        )
    return labels


def _named(step: Step) -> dict[TensorCut, set[int]]:
    """Per tensor axis that a step cuts (as its first cut there) the indices that any of its groups names."""
    first: dict[tuple[str, int, tuple[str, ...]], TensorCut] = {}
    named: dict[TensorCut, set[int]] = {}
    for cut in (cut for group in step.groups for cut in group.tensors):
        key = first.setdefault((cut.name, cut.axis, cut.uses), cut)
        named.setdefault(key, set()).update(cut.removed)
    return named


def _check_complete(cut: TensorCut, named: set[int], removed: Bools, *, partial: bool) -> None:
    """Every slot that goes on this axis must be named by some group of the step."""
    extra = sorted(set(np.flatnonzero(removed).tolist()) - named)
    if extra:
        raise UserError(
            f"the plan does not fit this graph: index {extra[0]} of axis {cut.axis} of '{cut.name}' is "
            "coupled to a removed one",
            help=[_OTHER_WAY if partial else "make a new plan for this graph"],
        )
