"""Writes changed weights and biases into a graph, and keeps what stands for the old ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.passes.compensation.fit import Change, Floats
from prunec.passes.compensation.targets import Target
from prunec.passes.folding.algebra import CannotFold
from prunec.passes.folding.constants import Constants
from prunec.passes.folding.layers import linear_layer
from prunec.passes.folding.rewrite import add_after, bias_name

Array = NDArray[Any]


class LayerWriter:
    """Changes layers of one model.

    Args:
        model: the model, changed in place.

    Attributes:
        restored: per tensor with new numbers, by name, those with which the model computes what it did.
    """

    def __init__(self, model: onnx_ir.Model) -> None:
        self.restored: dict[str, onnx_ir.TensorProtocol] = {}
        self._constants = Constants(model)

    def write(self, target: Target, change: Change) -> bool:
        """Add a change to a layer's weights and bias, in their types; a bias is made where there is none.

        Returns:
            Whether it was written: not if the numbers are too large for the types.
        """
        layer = target.layer
        weights: Array = layer.weights()
        if change.weights is not None:
            weights = weights + np.swapaxes(change.weights, 1, 2).reshape(weights.shape) / target.gain
        if not (np.isfinite(layer.rounded(weights)).all() and self._write_bias(target, change.bias)):
            return False
        if change.weights is not None:
            old = layer.tensor
            layer.write(weights)
            self._note(layer.value, old)
        return True

    def _write_bias(self, target: Target, bias: Floats) -> bool:
        node, flat = target.node, bias.ravel()
        holder, index, factor = self._slot(node)
        value = holder.inputs[index] if holder is not None and index < len(holder.inputs) else None
        if holder is None:
            added, old = _trimmed(target.axes.spread(bias)), np.zeros(1)
        elif value is None:
            added, old = flat / factor, np.zeros(1)
        else:
            added, old = flat / factor, self._constants.read(value)
        dtype = target.layer.dtype if value is None else self._constants.tensor(value).dtype
        with np.errstate(over="ignore"):
            new = np.asarray(old + added).astype(dtype.numpy())
        if not np.isfinite(new.astype(np.float32)).all():
            return False
        if holder is None:
            add_after(node, new, self._constants, bias_name(node))
            [(holder, _)] = node.outputs[0].uses()
            index = 1
        elif value is None or len(value.uses()) > 1 or value.is_graph_output():
            self._constants.add(holder, index, new, bias_name(node))
        else:
            self._constants.replace(holder, index, new)
        written = holder.inputs[index]
        assert written is not None
        self._note(written, onnx_ir.tensor(np.broadcast_to(old, new.shape).astype(new.dtype)))
        return True

    def _slot(self, node: onnx_ir.Node) -> tuple[onnx_ir.Node | None, int, float]:
        """Where a layer's bias is or belongs, and what the op multiplies it with; no node: behind an Add of its own."""
        try:
            linear = linear_layer(node, self._constants)
        except CannotFold:
            return None, 0, 1.0
        factor = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
        if linear.bias is None or not factor:
            return None, 0, 1.0
        return *linear.bias, factor

    def _note(self, value: onnx_ir.Value, old: onnx_ir.TensorProtocol) -> None:
        self.restored.setdefault(value.name or "", old)


def _trimmed(array: Array) -> Array:
    """Without leading axes of size 1, but for the last axis."""
    lead = next((axis for axis, size in enumerate(array.shape) if size > 1), array.ndim - 1)
    return array.reshape(array.shape[lead:])
