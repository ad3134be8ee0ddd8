"""Models without the rounding between their layers, for comparison.

A quantised model rounds every activation to an integer. Two orders of summation that differ in the last digit
of a float then differ by a whole step wherever a value lies on the border of two, and the layers behind make
more of it. What is proven instead is that both models are equal with these roundings left out.
"""

from __future__ import annotations

import onnx_ir

from prunec.ir.module import Module

_ROUNDING = frozenset(
    {
        "ArgMax",
        "ArgMin",
        "Ceil",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "Equal",
        "Floor",
        "Greater",
    }
    | {"GreaterOrEqual", "Hardmax", "Less", "LessOrEqual", "QuantizeLinear", "Round", "Sign", "TopK"}
)


def rounds(module: Module) -> bool:
    """Whether a model decides between integers, so that the last digit of a float can make a step of a difference."""
    quantised = ("QLinear", "QGemm", "QAttention")
    return any(node.op_type in _ROUNDING or node.op_type.startswith(quantised) for node in module.graph)


def without_rounding(module: Module) -> Module | None:
    """A copy in which computed values that are quantised and dequantised at once pass as they are; None where
    there are none. Weights keep their scales and zero points.
    """
    copy = module.clone()
    pairs = [
        (node.inputs[0], back)
        for node in copy.graph
        if node.op_type == "QuantizeLinear" and _is_computed(node.inputs[0])
        for back, position in node.outputs[0].uses()
        if back.op_type == "DequantizeLinear" and position == 0
    ]
    for source, back in pairs:
        back.domain, back.op_type = "", "Identity"
        back.attributes.clear()
        back.resize_inputs(1)
        back.replace_input_with(0, source)
    return copy if pairs else None


def _is_computed(value: onnx_ir.Value | None) -> bool:
    return value is not None and onnx_ir.convenience.get_const_tensor(value) is None
