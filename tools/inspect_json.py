"""What ``prunec inspect --json`` prints; a key, once there, keeps its meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunec.ir.scopes import walk
from prunec.passes.coupling.axes import node_label

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.module import Module
    from prunec.passes.coupling.groups import Group
    from prunec.passes.survey import GroupFacts, LayerFacts, Survey

SCHEMA = "prunec.inspect/1"


def as_json(module: Module, survey: Survey) -> dict[str, Any]:
    """Everything about a model, as JSON holds it."""
    facts = {g.group.id: g for g in survey.groups}
    cost = survey.cost
    return {
        "schema": SCHEMA,
        "model": _model(module),
        "cost": {
            "parameters": cost.parameters,
            "bytes": cost.bytes,
            "macs": cost.macs,
            "prunable": survey.prunable,
        },
        "groups": [_group(group, facts.get(group.id)) for group in survey.coupling.groups],
        "pinned": [
            {
                "reason": p.reason,
                "groups": list(p.groups),
                "tensors": list(p.tensors),
                "locked": p.locked,
                "help": p.help,
                "alone": p.alone,
            }
            for p in survey.pinned
        ],
        "layers": [_layer(layer) for layer in survey.layers],
        "unknown_ops": dict(survey.unknown_ops),
    }


def _model(module: Module) -> dict[str, Any]:
    graph, source = module.graph, module.source
    return {
        "name": source.name,
        "sha256": source.sha256,
        "size": source.size,
        "opsets": dict(graph.opset_imports),
        "producer": module.model.producer_name,
        "producer_version": module.model.producer_version,
        "nodes": sum(1 for _ in walk(graph)),
        "inputs": [_value(v) for v in graph.inputs if not v.is_initializer()],
        "outputs": [_value(v) for v in graph.outputs],
    }


def _value(value: onnx_ir.Value) -> dict[str, Any]:
    shape = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return {"name": value.name, "type": value.dtype.name if value.dtype else None, "shape": shape}


def _group(group: Group, facts: GroupFacts | None) -> dict[str, Any]:
    members = [
        {
            "tensor": member.name,
            "axis": member.axis,
            "size": len(member.units),
            "slots": int((member.units >= 0).sum()),
            "used_by": node_label(member.operand.use[0]) if member.operand.use else None,
        }
        for member in group.members
    ]
    common = {"id": group.id, "units": group.units, "width": group.width, "statistic": group.statistic}
    if facts is None:
        frozen = group.frozen
        return {
            **common,
            "frozen": frozen.text if frozen else None,
            "cause": frozen.node if frozen else None,
            "members": members,
        }
    return {
        **common,
        "frozen": None,
        "unit_parameters": facts.unit_parameters,
        "parameters": facts.parameters,
        "writers": [node_label(node) for node in facts.writers],
        "readers": [node_label(node) for node in facts.readers],
        "members": members,
    }


def _layer(layer: LayerFacts) -> dict[str, Any]:
    cost = layer.cost
    weight = None if cost.weight is None else {"name": cost.weight[0], "shape": list(cost.weight[1])}
    return {
        "name": cost.name,
        "output": cost.output,
        "op": cost.op_type,
        "weight": weight,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "output_groups": [group.id for group in layer.outputs],
        "input_groups": [group.id for group in layer.inputs],
        "prunable": layer.prunable,
        "sparsity": _sparsity(layer),
        "eligibility": _eligibility(layer),
    }


def _sparsity(layer: LayerFacts) -> dict[str, Any] | None:
    """The zeros of a layer's weight; ``axis`` is the one of the input channels, where 2:4 runs along it."""
    found = layer.sparsity
    if found is None:
        return None
    pattern = found.pattern
    return {
        "zeros": found.zeros,
        "pattern": None if pattern is None else f"{pattern.n}:{pattern.m}",
        "axis": None if pattern is None else pattern.axis,
    }


def _eligibility(layer: LayerFacts) -> dict[str, Any] | None:
    """What sparse tensor cores can make of a layer with 2:4 weights."""
    found = layer.eligibility
    if found is None:
        return None
    return {
        "eligible": found.eligible,
        "profitable": found.profitable,
        "reasons": list(found.reasons),
        "small": found.small,
    }
