"""Writing a plan: JSON with a line of its own for every group and mask, so that plans compare line by line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from prunec.passes.plan.masks import WeightMask, encode
from prunec.passes.plan.schema import SCHEMA, GroupCut, GroupOrder, Plan, Step, TensorCut, TensorOrder


def plan_text(plan: Plan) -> str:
    """A plan as JSON (see ``Plan.to_json``)."""
    source = {"name": plan.source_name, "sha256": plan.source_sha256}
    lines = [
        f'  "schema": {_dump(SCHEMA)},',
        f'  "source": {json.dumps(source, ensure_ascii=False)},',
        f'  "pipeline": {_dump(plan.pipeline)},',
        f'  "steps": {_block([_step_text(step) for step in plan.steps], indent="    ")}',
    ]
    return "\n".join(["{", *lines, "}", ""])


def _step_text(step: Step) -> str:
    fields = [f'"pass": {_dump(step.pass_name)}', *(['"partial": true'] if step.partial else [])]
    for key, items in (
        ("groups", [_group_data(group) for group in step.groups]),
        ("orders", [_order_data(group) for group in step.orders]),
        ("masks", [_mask_data(mask) for mask in step.masks]),
    ):
        if items or (key == "groups" and not step.orders):
            fields.append(f'"{key}": {_block([_dump(item) for item in items], indent="      ")}')
    return f"{{{', '.join(fields)}}}"


def _block(items: Sequence[str], *, indent: str) -> str:
    """A JSON list with one item a line."""
    if not items:
        return "[]"
    separator = f",\n{indent}"
    return f"[\n{indent}{separator.join(items)}\n{indent[2:]}]"


def _group_data(group: GroupCut) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": group.id,
        "units": group.units,
        "removed": group.removed,
        "equivalence": group.equivalence,
    }
    if group.reason is not None:
        data["reason"] = group.reason
    return data | {"tensors": [_tensor_data(tensor) for tensor in group.tensors]}


def _order_data(group: GroupOrder) -> dict[str, Any]:
    tensors = [_tensor_data(tensor) for tensor in group.tensors]
    return {"id": group.id, "units": group.units, "order": group.order, "tensors": tensors}


def _tensor_data(tensor: TensorCut | TensorOrder) -> dict[str, Any]:
    slots = {"removed": tensor.removed} if isinstance(tensor, TensorCut) else {"order": tensor.order}
    data: dict[str, Any] = {"name": tensor.name, "axis": tensor.axis} | slots
    return data | ({"uses": tensor.uses} if tensor.uses else {})


def _mask_data(mask: WeightMask) -> dict[str, Any]:
    data: dict[str, Any] = {"name": mask.name, "shape": mask.shape, "pattern": mask.pattern}
    data |= {"zeros": mask.zeros, "updated": mask.updated} if mask.updated else {"zeros": mask.zeros}
    return data | {"keep": encode(mask.bits)}


def _dump(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
