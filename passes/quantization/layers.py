"""Which weights and layers of a quantised model are in 8 bits, and why others are not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import onnx_ir

from prunec.ir.diagnostics import UserError, nearest
from prunec.passes.cost import LayerCost

if TYPE_CHECKING:
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
        node.name or "": {node.name or "", *(v.name or "" for v in node.inputs if v is not None and v.is_initializer())}
        for node in graph
    }


def check_ops(ops: Collection[str], mode: str) -> None:
    """See that the quantizer takes ops of these types.

    Raises:
        UserError: it does not take one of them.
    """
    known = _known(mode)
    for op in ops:
        if op not in known:
            hint = nearest(op, known)
            help = [f"did you mean `{hint}`?"] if hint else [f"it takes {', '.join(sorted(known))}"]
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
    layers: Iterable[LayerCost], graph: onnx_ir.Graph, options: Quantize, excluded: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The layers that still compute in float, each with the reason.

    Args:
        layers: those of the model before.
        graph: of the model behind.
        options: with which it was quantised.
        excluded: names of nodes that were to stay.
    """
    after = {node.name: node for node in graph}
    for layer in layers:
        name = layer.name or f"{layer.op_type}_{layer.output}"
        node = after.get(name)
        if node is not None and node.op_type == layer.op_type and not _reads_integers(node):
            yield layer.name or layer.output, _reason(layer, options, name in excluded)


def _reads_integers(node: onnx_ir.Node) -> bool:
    makers = [value.producer() for value in node.inputs if value is not None]
    return any(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def _reason(layer: LayerCost, options: Quantize, excluded: bool) -> str:
    if excluded:
        return "option 'ignore' names it"
    if options.ops and layer.op_type not in options.ops:
        return f"option 'ops' has no `{layer.op_type}`"
    if layer.op_type not in _known(options.mode):
        return _NO_FORM[options.mode].format(layer.op_type)
    if layer.weight is None:
        return "it multiplies two computed values"
    return "the quantizer does not take it in this form"


def _known(mode: str) -> frozenset[str]:
    """Types of ops that the quantizer has an 8-bit form of; the dynamic one turns Gemm into MatMul first."""
    from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry

    return frozenset({*IntegerOpsRegistry, "Gemm"} if mode == "dynamic" else {*QLinearOpsRegistry, *QDQRegistry})
