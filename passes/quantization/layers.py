"""Which weights and layers of a quantised model are in 8 bits, and why others are not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import onnx_ir

from prunec.ir.diagnostics import UserError
from prunec.ir.scopes import walk
from prunec.passes.cost import LayerCost
from prunec.passes.quantization.library import quantization

if TYPE_CHECKING:
    from prunec.ir.facts import Facts
    from prunec.passes.quantize import Quantize

SUFFIX = "_quantized"
"""How the quantizer calls the 8-bit form of a weight."""
_NO_FORM = {
    "static": "ONNX Runtime's quantizer has no 8-bit form of `{}`",
    "dynamic": "ONNX Runtime has no form of `{}` that takes its range from each run",
}


def names_of(graph: onnx_ir.Graph) -> dict[str, set[str]]:
    """By a node's name, the names by which a person may mean it: its own and its weights'."""
    return {
        node.name or "": {
            node.name or "",
            *(v.name or "" for v in node.inputs if v is not None and v.is_initializer()),
        }
        for node in graph
    }


def without_weight(graph: onnx_ir.Graph) -> frozenset[str]:
    """Names of the nodes whose weight is computed, on which the dynamic quantizer would fail."""
    return frozenset(
        node.name or ""
        for node in graph
        if node.op_type in ("Conv", "LSTM", "Attention")
        and (node.inputs[1] is None or not node.inputs[1].is_initializer())
    )


def of_half_precision(graph: onnx_ir.Graph, facts: Facts) -> frozenset[str]:
    """Names of the nodes that read or make float16, which not every form of quantising takes."""
    half = {value.name for value, kind in facts.types.items() if kind == onnx_ir.DataType.FLOAT16}
    half |= {name for name, value in graph.initializers.items() if value.dtype == onnx_ir.DataType.FLOAT16}
    return frozenset(
        node.name or ""
        for node in graph
        if any(value is not None and value.name in half for value in (*node.inputs, *node.outputs))
    )


def check_ops(ops: Collection[str], mode: str) -> None:
    """See that the quantizer takes ops of these types.

    Raises:
        UserError: it does not take one of them.
    """
    known = _known(mode)
    for op in ops:
        if op not in known:
            help = [f"it takes {', '.join(sorted(known))}"]
            raise UserError(f"option 'ops' of `quantize`: {_NO_FORM[mode].format(op)}", help=help)


def quantised_weights(graph: onnx_ir.Graph) -> dict[str, onnx_ir.Value]:
    """The 8-bit weights of a quantised graph (no biases), by the name of the weight that they were made from."""
    small = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)
    return {
        name.removesuffix(SUFFIX): value
        for name, value in graph.initializers.items()
        if name.endswith(SUFFIX) and value.dtype in small
    }


def float_layers(
    layers: Iterable[LayerCost], graph: onnx_ir.Graph, options: Quantize, excluded: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The layers that still compute in float, each with the reason.

    Args:
        layers: those of the model before.
        graph: of the model behind.
        options: with which it was quantised.
        excluded: by name of the nodes that were to stay the reason.
    """
    nodes, computed = {node.name: node for node in walk(graph)}, without_weight(graph)
    for layer in layers:
        name = layer.name or f"{layer.op_type}_{layer.output}"
        node = nodes.get(name, nodes.get(f"{name}_MatMul"))
        if node is not None and _is_float(node, layer):
            reason = excluded.get(name) or _reason(layer, options, name in computed)
            yield layer.name or layer.output, reason


def _is_float(node: onnx_ir.Node, layer: LayerCost) -> bool:
    """Whether a node, which is there under its old name, reads its weight, or all that it reads, as floats."""
    if node.op_type not in (layer.op_type, "MatMul"):
        return False
    read = [value for value in node.inputs if value is not None]
    if layer.weight is not None and any(
        value.is_initializer() for value in read if value.name == layer.weight[0]
    ):
        return True
    makers = [value.producer() for value in read]
    return not any(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def _reason(layer: LayerCost, options: Quantize, computed: bool) -> str:
    if options.ops and layer.op_type not in options.ops:
        return f"option 'ops' has no `{layer.op_type}`"
    if layer.op_type not in _known(options.mode):
        return _NO_FORM[options.mode].format(layer.op_type)
    if layer.weight is None:
        return "it multiplies two computed values"
    if computed:
        return "its weight is computed"
    return "the quantizer does not take it in this form"


def _known(mode: str) -> frozenset[str]:
    """Types of ops that the quantizer has an 8-bit form of; the dynamic one turns Gemm into MatMul first."""
    ops = quantization().registry
    if mode == "dynamic":
        return frozenset({*ops.IntegerOpsRegistry, "Gemm"})
    return frozenset({*ops.QLinearOpsRegistry, *ops.QDQRegistry})
