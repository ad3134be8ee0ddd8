"""The broadcast contract: an elementwise op broadcasts on exactly the axes on which it broadcast before.

A skip path that shrinks to one channel, or keeps its old width of one, does not fail in any runtime: it
broadcasts.
"""

from __future__ import annotations

import onnx_ir

from prunec.ir.diagnostics import Place, VerificationError
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.ops.elementwise import Elementwise
from prunec.ir.registry import find_op
from prunec.ir.scopes import walk


def check_broadcasts(pass_name: str, before: Module, after: Module, facts: Facts, old_facts: Facts) -> int:
    """Compare the broadcasting of every elementwise op of ``after`` with that of the same op of ``before``.

    Args:
        pass_name: the pass, for messages.
        before: the module before the pass.
        after: the module after it.
        facts: facts of ``after``.
        old_facts: facts of ``before``.

    Returns:
        How many ops were compared.

    Raises:
        VerificationError: an op broadcasts on an axis on which it did not.
    """
    old = {n.outputs[0].name: broadcast_axes(n, old_facts) for n in walk(before.graph) if _is_elementwise(n)}
    compared = 0
    for node in walk(after.graph):
        known = old.get(node.outputs[0].name) if _is_elementwise(node) else None
        if known is None:
            continue
        compared += 1
        for position, axis in broadcast_axes(node, facts) - known:
            raise _violation(pass_name, node, position, axis, facts, after.source.name)
    return compared


def _is_elementwise(node: onnx_ir.Node) -> bool:
    return isinstance(find_op(node), Elementwise) and len(node.inputs) > 1


def broadcast_axes(node: onnx_ir.Node, facts: Facts) -> set[tuple[int, int]]:
    """The (input, axis counted from the right) pairs on which an input of size 1 is stretched."""
    result = facts.shape(node.outputs[0])
    if result is None:
        return set()
    pairs = set()
    for position, value in enumerate(node.inputs):
        shape = facts.shape(value)
        for back in range(1, len(shape or ()) + 1):
            if shape is not None and shape[-back] == 1 and result[-back] > 1:
                pairs.add((position, back))
    return pairs


def _violation(
    pass_name: str, node: onnx_ir.Node, position: int, back: int, facts: Facts, file: str
) -> VerificationError:
    shapes = [f"%{v.name} {list(facts.shape(v) or ())} {_producer(v)}" for v in node.inputs if v is not None]
    result = facts.shape(node.outputs[0]) or ()
    return VerificationError(
        f"`{node.op_type}` broadcasts 1 channel to {result[-back]} after `{pass_name}`, unlike before",
        code="V012",
        place=Place(file=file, node=node.name or None),
        notes=[
            f"input {position} shrank to 1 on axis {len(result) - back}; its inputs are {'; '.join(shapes)}"
        ],
        help=["keep more channels with `min-channels`, and report this: the coupling of this op is wrong"],
    )


def _producer(value: onnx_ir.Value) -> str:
    producer = value.producer()
    return (
        f"from `{producer.name or producer.op_type}`" if producer is not None else "(a constant or an input)"
    )
