"""Writes changed weights and biases into a graph, and keeps what stands for the old ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.passes.compensation.fit import Change, Floats
from prunec.passes.compensation.targets import Target
from prunec.passes.folding.algebra import CannotFold
from prunec.passes.folding.constants import Constants
from prunec.passes.folding.rewrite import add_after, bias_name

Array = NDArray[Any]


WITH_BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Ops whose third input is a bias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Where a bias is, or belongs.

    Attributes:
        holder: the node that reads it; None for an Add that is still to be made.
        index: its position among the inputs.
        added: what is added to it.
        old: what it is, None where there is none.
    """

    holder: onnx_ir.Node | None
    index: int
    added: Array
    old: onnx_ir.TensorProtocol | None


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
        """Add to the bias, wherever it is; whether its type holds the sum."""
        slot = self._slot(target, bias)
        dtype = target.layer.dtype if slot.old is None else slot.old.dtype
        old = np.zeros(1) if slot.old is None else slot.old.numpy().astype(np.float64)
        with np.errstate(over="ignore"):
            new = np.asarray(old + slot.added).astype(dtype.numpy())
        if not np.isfinite(new.astype(np.float32)).all():
            return False
        written = self._put(target.node, slot, new)
        self._note(written, onnx_ir.tensor(np.broadcast_to(old, new.shape).astype(new.dtype)))
        return True

    def _slot(self, target: Target, bias: Floats) -> _Slot:
        """The bias input of a layer, the constant that is added to its output, or an Add that is still to be made."""
        node, added = target.node, _trimmed(target.axes.spread(bias))
        if node.op_type in WITH_BIAS:
            factor = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
            empty = len(node.inputs) < 3 or node.inputs[2] is None
            old = None if empty else self._constant(node.inputs[2])
            if factor and (empty or old is not None):
                return _Slot(holder=node, index=2, added=bias.ravel() / factor, old=old)
        add = target.output.producer()
        if add is not None and add is not node:
            for index, value in enumerate(add.inputs):
                old = self._constant(value)
                if old is not None and _fits(added, old):
                    return _Slot(holder=add, index=index, added=added, old=old)
        return _Slot(holder=None, index=1, added=added, old=None)

    def _constant(self, value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol | None:
        try:
            return self._constants.tensor(value)
        except CannotFold:
            return None

    def _put(self, node: onnx_ir.Node, slot: _Slot, array: Array) -> onnx_ir.Value:
        """Write a bias; the value that holds it."""
        holder, index = slot.holder, slot.index
        if holder is None:
            add_after(node, array, self._constants, bias_name(node))
            [(holder, _)] = node.outputs[0].uses()
        elif slot.old is None or len((value := _input(holder, index)).uses()) > 1 or value.is_graph_output():
            self._constants.add(holder, index, array, bias_name(node))
        else:
            self._constants.replace(holder, index, array)
        return _input(holder, index)

    def _note(self, value: onnx_ir.Value, old: onnx_ir.TensorProtocol) -> None:
        self.restored.setdefault(value.name or "", old)


def _trimmed(array: Array) -> Array:
    """Without leading axes of size 1, but for the last axis."""
    lead = next((axis for axis, size in enumerate(array.shape) if size > 1), array.ndim - 1)
    return array.reshape(array.shape[lead:])


def _fits(added: Array, old: onnx_ir.TensorProtocol) -> bool:
    """Whether a sum needs no more room than the larger of the two."""
    shape = np.broadcast_shapes(added.shape, tuple(old.shape.numpy()))
    return prod(shape) == max(added.size, old.size)


def _input(node: onnx_ir.Node, index: int) -> onnx_ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value
