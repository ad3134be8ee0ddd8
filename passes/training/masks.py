"""The masks of a plan, as they are when all of its steps are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.passes.plan.positions import Positions
from prunec.passes.plan.schema import Plan, Step, require_plan

if TYPE_CHECKING:
    from prunec.ir.fx.entry import Masks, NnModule

Bools = NDArray[np.bool_]


def keep_masks(module: NnModule, plan: Plan) -> Masks:
    """Keep the zeros that ``sparsify`` made, whatever trains the module from now on.

    The weights are zeroed at once, behind every step of any ``torch`` optimizer, and when a state dict is
    loaded; their gradients are zeroed as they come. Nothing of it shows in the module's parameters or state dict.

    Args:
        module: the module that the plan was made of, cut as the plan says (``apply_to``, ``to_torch``).
        plan: has masks of a ``sparsify``.

    Returns:
        The masks: ``remove()`` lets the weights go, and so does the end of a ``with`` block; ``broken()`` counts
        what is not zero.

    Raises:
        UserError: the plan has no masks, or does not fit the module; nothing is changed.
    """
    from prunec.ir.fx.entry import hold_masks

    require_plan(plan)
    keep = final_masks(plan.steps)
    if not keep:
        none_gained = (
            "`sparsify` took no layer, the remarks of the run say why; sparsify{layers=all} takes every one"
        )
        raise UserError(
            "the plan has no masks to keep",
            help=[none_gained if "sparsify" in plan.pipeline else "make some with the pass `sparsify`"],
        )
    return hold_masks(module, keep)


def final_masks(steps: tuple[Step, ...]) -> dict[str, Bools]:
    """Per tensor what stays of it, in its shape behind the last step."""
    positions, masks = Positions(), dict[str, Bools]()
    for original in steps:
        step = positions.to_current(original)
        for name in masks:
            masks[name] = _moved(name, masks[name], step)
        positions.record(original)
        for mask in step.masks:
            keep = mask.keep()
            masks[mask.name] = keep & masks[mask.name] if mask.name in masks else keep
    return masks


def _moved(name: str, keep: Bools, step: Step) -> Bools:
    """A mask after its tensor was cut and reordered."""
    removed: dict[int, set[int]] = {}
    for cut in (cut for group in step.groups for cut in group.tensors):
        if cut.name == name:
            removed.setdefault(cut.axis, set()).update(cut.removed)
    for axis, slots in removed.items():
        keep = np.delete(keep, sorted(slots), axis)
    for order in (order for group in step.orders for order in group.tensors):
        if order.name == name:
            keep, coming = keep.copy(), np.array(order.order, np.int64)
            rows = np.moveaxis(keep, order.axis, 0)
            rows[np.sort(coming)] = rows[coming]
    return keep
