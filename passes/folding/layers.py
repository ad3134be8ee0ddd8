"""Linear layers in the graph: Conv, ConvTranspose, Gemm, and MatMul with the Add behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir

from prunec.ir.registry import form_of, standard_op
from prunec.passes.folding.algebra import CannotFold, FloatArray, LinearWeights
from prunec.passes.folding.constants import Constants

CONVOLUTIONS = ("Conv", "ConvTranspose")
LINEAR = (*CONVOLUTIONS, "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear layer in the graph.

    Attributes:
        node: the Conv, ConvTranspose, Gemm or MatMul (or what these are in another dialect); its input 1 is the weight.
        bias: node and input index of the bias, even if there is none yet; None for a MatMul without an Add.
        output: what the layer computes, behind the Add if there is one.
        weights: the values.
    """

    node: onnx_ir.Node
    bias: tuple[onnx_ir.Node, int] | None
    output: onnx_ir.Value
    weights: LinearWeights


def label(node: onnx_ir.Node) -> str:
    """What messages and options call a node: its name, or its first output's."""
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type


def rank_of(*values: onnx_ir.Value | None) -> int | None:
    """The rank of the first of ``values`` whose shape is known."""
    return next((len(value.shape) for value in values if value is not None and value.shape is not None), None)


def linear_kind(node: onnx_ir.Node) -> str:
    """Which of ``LINEAR`` a node is, in whichever dialect it is written; "" for none.

    A product of ATen counts as none: it has no input for a bias.
    """
    kind = standard_op(node)
    return kind if kind in LINEAR and not (node.domain and kind == "MatMul") else ""


def int_of(node: onnx_ir.Node, name: str, default: int) -> int:
    """An attribute under the name that ONNX gives it."""
    found = form_of(node).read(node).get(name)
    return default if found is None else found.as_int()


def linear_layer(node: onnx_ir.Node, constants: Constants) -> Linear:
    """The linear layer at ``node``.

    Raises:
        CannotFold: the node is no linear layer, or its weight or bias is not a constant.
    """
    kind = linear_kind(node)
    if not kind:
        raise CannotFold(f"`{label(node)}` is {node.op_type}, not a linear layer", nodes=[label(node)])
    if kind == "MatMul":
        return _matmul(node, constants)
    kernel = constants.read(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = constants.read(node.inputs[2]) if has_bias else None
    weights = LinearWeights(
        kernel=kernel,
        bias=bias,
        out_first=kind == "Conv" or bool(int_of(node, "transB", 0)),
        groups=int_of(node, "group", 1),
    )
    if kind == "Gemm":
        weights = _with_gains(weights, node)
    return Linear(node=node, bias=(node, 2), output=node.outputs[0], weights=weights)


def _matmul(node: onnx_ir.Node, constants: Constants) -> Linear:
    kernel = constants.read(node.inputs[1])
    if kernel.ndim != 2:
        raise CannotFold(f"the weight of `{label(node)}` has {kernel.ndim} axes, not 2", nodes=[label(node)])
    weights = LinearWeights(kernel=kernel, bias=None, out_first=False)
    added = _added_bias(node, constants, weights.outputs)
    if added is None:
        return Linear(node=node, bias=None, output=node.outputs[0], weights=weights)
    add, index, values = added
    return Linear(node=node, bias=(add, index), output=add.outputs[0], weights=replace(weights, bias=values))


def _added_bias(
    node: onnx_ir.Node, constants: Constants, outputs: int
) -> tuple[onnx_ir.Node, int, FloatArray] | None:
    """The Add that is all that uses a MatMul's output, if it adds one constant per output."""
    output = node.outputs[0]
    uses = tuple(output.uses())
    if output.is_graph_output() or len(uses) != 1:
        return None
    add, index = uses[0]
    if add.op_type != "Add" or add.domain or add.graph is not node.graph:
        return None
    try:
        values = constants.read(add.inputs[1 - index])
    except CannotFold:
        return None
    ranks = rank_of(output, node.inputs[0])
    widens = values.ndim > 1 and (ranks is None or values.ndim > ranks)
    if values.size not in (1, outputs) or (values.ndim and values.shape[-1] != values.size) or widens:
        return None
    return add, 1 - index, values


def _with_gains(weights: LinearWeights, node: onnx_ir.Node) -> LinearWeights:
    """Gemm's alpha and beta: alpha stays in the node, beta goes into the bias."""
    beta = node.attributes.get_float("beta", 1.0)
    bias = None if weights.bias is None else weights.bias * beta
    return replace(weights, bias=bias, gain=node.attributes.get_float("alpha", 1.0))
