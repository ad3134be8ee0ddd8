"""What a model costs: parameters, their bytes, and multiply-accumulates.

The multiply-accumulates of a contraction are the product of all factors of its rule, so that no op needs a
formula of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.scopes import bodies, walk
from prunec.ir.sizes import open_inputs
from prunec.ir.tensors import byte_size
from prunec.passes.coupling.groups import Coupling, is_parameter
from prunec.passes.literals import COMPUTED


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one node.

    Attributes:
        name: of the node; may be empty.
        output: name of its first output, which tells it from every other node.
        op_type: of the node.
        weight: name and shape of its largest constant, None where it has none.
        parameters: elements of the weights that it reads, as they are or dequantised (a shared tensor counts
            at its first reader).
        macs: multiply-accumulates of one execution at the sizes of the analysis.
    """

    name: str
    output: str
    op_type: str
    weight: tuple[str, tuple[int, ...]] | None
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a model.

    Attributes:
        parameters: elements of all constants that hold data.
        bytes: bytes of the same constants.
        macs: multiply-accumulates of one inference at the sizes of the analysis (batch 1 where the batch is
            symbolic), each body of an ``If``, ``Loop`` or ``Scan`` counted once.
        layers: per node that has parameters or multiplies, in graph order, those of bodies behind the node
            that holds them.
        batch: samples of that inference: of the example inputs of a captured program, or what the file fixes.
    """

    parameters: int
    bytes: int
    macs: int
    layers: tuple[LayerCost, ...]
    batch: int = 1


def measure(model: onnx_ir.Model, coupling: Coupling) -> Cost:
    """Add up the cost of a model: its main graph, and each body in it as if it ran once."""
    facts = coupling.facts
    seen: set[onnx_ir.Value] = set()
    layers = []
    total_bytes = 0
    for node in walk(model.graph):
        fresh = {v: n for v in weights_of(node, facts) if v not in seen and (n := weight_size(v, facts))}
        seen.update(fresh)
        total_bytes += sum(byte_size(onnx_ir.DataType(facts.types[v]), n) for v, n in fresh.items())
        op, rule = coupling.relations.ops.get(node), coupling.relations.rules.get(node)
        macs = op.macs(rule) if op is not None and rule is not None else 0
        if macs or fresh:
            largest = max(fresh, key=lambda v: fresh[v], default=None)
            layers.append(
                LayerCost(
                    name=node.name or "",
                    output=node.outputs[0].name or "",
                    op_type=node.op_type,
                    weight=None if largest is None else (largest.name or "", facts.shapes[largest]),
                    parameters=sum(fresh.values()),
                    macs=macs,
                )
            )
    return Cost(
        parameters=sum(x.parameters for x in layers),
        bytes=total_bytes,
        macs=sum(x.macs for x in layers),
        layers=tuple(layers),
        batch=_batch(model, facts),
    )


def _batch(model: onnx_ir.Model, facts: Facts) -> int:
    """The first axis of all inputs of more than one, where they agree on it; otherwise 1."""
    shapes = [facts.shapes.get(value, ()) for value in open_inputs(model.graph)]
    firsts = {shape[0] for shape in shapes if len(shape) > 1}
    return firsts.pop() if len(firsts) == 1 else 1


def weights_of(node: onnx_ir.Node, facts: Facts) -> Iterator[onnx_ir.Value]:
    """The constants that a node reads, or its bodies return, as they are or after some ops (dequantised,
    transposed).

    A node that computes from constants alone has none: they are its readers'.
    """
    if all(v in facts.constant and not v.is_graph_output() for v in node.outputs):
        return
    read = (*node.inputs, *(v for body in bodies(node) for v in body.outputs))
    pending = list(dict.fromkeys(v for v in read if v is not None))
    for value in pending:
        maker = value.producer()
        if is_parameter(value, facts):
            yield value
        elif value in facts.constant and value not in facts.derived and maker is not None:
            pending += [v for v in dict.fromkeys(maker.inputs) if v is not None and v not in pending]


def weight_size(value: onnx_ir.Value, facts: Facts) -> int:
    """How many parameters a value holds: 0 for what is computed, for single numbers, indices and shapes.

    Floating-point constants count, and integers of at most 8 bits, which are quantised weights.
    """
    if value not in facts.types or value not in facts.shapes or not is_parameter(value, facts):
        return 0
    if value.const_value is not None and COMPUTED in value.const_value.metadata_props:
        return 0  # an attention mask, say, that folding wrote down
    size = prod(facts.shapes[value])
    return size if _counts(onnx_ir.DataType(facts.types[value]), size) else 0


def is_weight(tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether a constant counts as parameters; one that folding computed from shapes does not."""
    return COMPUTED not in tensor.metadata_props and _counts(tensor.dtype, tensor.size)


def _counts(dtype: onnx_ir.DataType, size: int) -> bool:
    small_integer = dtype.is_integer() and dtype.bitwidth <= 8
    return size > 1 and (dtype.is_floating_point() or small_integer)
