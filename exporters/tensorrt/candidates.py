"""The layers of a model that sparse tensor cores could compute, and those that could not, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir

from prunec.ir.facts import Facts, infer_facts
from prunec.ir.module import Module, opset_of
from prunec.ir.op import Op
from prunec.ir.registry import find_op
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site
from prunec.ir.sparsity import Pattern, follows

GROUP = 4
"""Consecutive input channels of which at most two may be other than zero."""
TYPES = ("FLOAT16", "BFLOAT16", "INT8", "FLOAT8E4M3FN")
"""Element types that sparse tensor cores multiply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A layer with a weight.

    Attributes:
        name: name of its node.
        op: type of its node.
        weight: name of the weight.
        shape: of the weight.
        reasons: why it cannot use sparse kernels; empty where it can.
        is_sparse: whether the weight has the 2:4 pattern.
    """

    name: str
    op: str
    weight: str
    shape: tuple[int, ...]
    reasons: tuple[str, ...]
    is_sparse: bool

    @property
    def is_eligible(self) -> bool:
        """Whether nothing but its weights can keep it from sparse kernels."""
        return not self.reasons


def find_candidates(module: Module) -> tuple[Candidate, ...]:
    """The contractions of a model's main graph that have a weight, in graph order."""
    facts = infer_facts(module.model)
    return tuple(_candidates(module.graph, facts))


def _candidates(graph: onnx_ir.Graph, facts: Facts) -> Iterator[Candidate]:
    for node in graph:
        op = find_op(node)
        if op is None or not op.linear or all(value in facts.constant for value in node.outputs):
            continue
        try:
            rule = op.rule(Site(node, facts, opset_of(graph, node.domain)))
        except RuleError:
            continue
        for position, axis in _weights(node, op, rule, facts):
            yield _candidate(node, position, axis)


def _weights(node: onnx_ir.Node, op: Op, rule: Rule, facts: Facts) -> Iterator[tuple[int, int]]:
    """Positions of the weights of a contraction, each with its axis of input channels."""
    data = {f for value, operand in zip(node.inputs, rule.inputs, strict=True) if value not in facts.constant
            for term in operand or () for f in term}  # fmt: skip
    for position, operand in enumerate(rule.inputs):
        value = node.inputs[position]
        if (
            value is None
            or value not in facts.constant
            or onnx_ir.convenience.get_const_tensor(value) is None
        ):
            continue
        channels = [
            axis for axis, term in enumerate(operand or ()) if term and set(term) <= rule.reduced & data
        ]
        if channels and op.role(position) in ("weight", "operand"):
            yield position, channels[0]


def _candidate(node: onnx_ir.Node, position: int, axis: int) -> Candidate:
    value = node.inputs[position]
    assert value is not None
    tensor = onnx_ir.convenience.get_const_tensor(value)
    assert tensor is not None
    shape = tuple(tensor.shape.numpy())
    reasons = []
    if shape[axis] % GROUP:
        reasons.append(f"{shape[axis]} input channels are no multiple of {GROUP}")
    if tensor.dtype.name not in TYPES:
        reasons.append(f"its weights are {tensor.dtype.name.lower()}, not float16, bfloat16 or int8")
    return Candidate(
        name=node.name or "",
        op=node.op_type,
        weight=value.name or "",
        shape=shape,
        reasons=tuple(reasons),
        is_sparse=follows(tensor.numpy(), Pattern(2, GROUP, axis)),
    )
