"""A sparse layer: a weight that may hold zeros, as plain arrays to read and to write back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.passes.sparsity.layout import WeightLayout

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Use = tuple[onnx_ir.Node, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseLayer:
    """A weight that may hold zeros, and what reads it.

    Attributes:
        uses: the contractions that read the weight, in graph order, each with the position of the input.
        value: the weight as it is stored: an initializer, or the output of a ``Constant`` node.
        chain: the nodes between it and the first contraction, in order.
        layout: what its axes are.
        zero: what stands for zero, broadcasting against ``[group, output, position, input]``: the zero point
            of integers.
        step: what the stored numbers, counted from zero, are multiplied with; broadcasts likewise.
    """

    uses: tuple[Use, ...]
    value: onnx_ir.Value
    chain: tuple[onnx_ir.Node, ...]
    layout: WeightLayout
    zero: Array
    step: Array

    @property
    def node(self) -> onnx_ir.Node:
        """The first contraction that reads the weight."""
        return self.uses[0][0]

    @property
    def name(self) -> str:
        """The node's name, or that of its output."""
        return self.node.name or self.node.outputs[0].name or ""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of groups, of output channels of a group, of kernel positions, of input channels of a group."""
        return self.layout.shape

    @property
    def tensor(self) -> onnx_ir.TensorProtocol:
        """The weight as it is stored."""
        tensor = onnx_ir.convenience.get_const_tensor(self.value)
        assert tensor is not None
        return tensor

    @property
    def dtype(self) -> onnx_ir.DataType:
        """The element type in which the weight is stored."""
        return self.tensor.dtype

    def weights(self) -> NDArray[np.float32]:
        """The numbers that the weight stands for, ``[group, output, position, input]``.

        Of a float32 weight it is a view of the stored tensor: do not write to it. ``reshape(groups, -1,
        inputs)`` makes matrices of it, with output channels x kernel positions as rows and input channels as
        columns.
        """
        return self._numbers(self.layout.unfold(self.tensor.numpy()))

    def nonzero(self) -> Bools:
        """Which weights are not zero, ``[group, output, position, input]``."""
        stored = self.layout.unfold(self.tensor.numpy())
        nonzero: Bools = stored != self.zero.astype(stored.dtype)
        return nonzero

    def mask(self, keep: Bools) -> None:
        """Set the weights to zero where ``keep`` is false; every bit of the others stays.

        Args:
            keep: ``[group, output, position, input]``.
        """
        stored = self.tensor.numpy()
        kept = self.layout.fold(keep)
        zero = self.zero.astype(stored.dtype)
        if zero.ndim:
            zero = self.layout.fold(np.broadcast_to(zero, self.shape))
        # As whole numbers that wrap around: exact for every type, and ten times as fast as `np.where`.
        bits = np.dtype(f"u{stored.dtype.itemsize}")
        if self.dtype.is_integer():
            base = zero.view(bits)
            made = (stored.view(bits) - base) * kept + base
        else:
            made = stored.view(bits) * kept
        self._store(made.view(stored.dtype))

    def write(self, weights: NDArray[np.floating[Any]]) -> None:
        """Store new weights in the weight's own type: rounded, integers to the nearest step and clipped.

        Args:
            weights: ``[group, output, position, input]``, in the numbers that :meth:`weights` gives.
        """
        self._store(self.layout.fold(self._rounded(weights)))

    def rounded(self, weights: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What :meth:`weights` would give after :meth:`write`."""
        return self._numbers(self._rounded(weights))

    def _rounded(self, weights: NDArray[np.floating[Any]]) -> Array:
        """New weights as they are stored, ``[group, output, position, input]``."""
        if self.dtype.is_integer():
            steps = np.rint(weights / self.step) + self.zero.astype(np.float32)
            low, high = self.dtype.min, self.dtype.max
            weights = np.clip(steps, float(low), float(high))
        return np.asarray(weights).astype(self.tensor.numpy().dtype)

    def _numbers(self, stored: Array) -> NDArray[np.float32]:
        """What stored elements stand for, ``[group, output, position, input]``."""
        values = stored.astype(np.float32, copy=False)
        if not self.dtype.is_integer():
            return values
        centred: NDArray[np.float32] = values - self.zero.astype(np.float32)
        return centred * self.step.astype(np.float32)

    def _store(self, array: Array) -> None:
        old = self.tensor
        tensor = onnx_ir.Tensor(
            np.ascontiguousarray(array),
            dtype=old.dtype,
            name=self.value.name,
            metadata_props=dict(old.metadata_props) or None,
        )
        source = self.value.producer()
        if source is not None:
            source.attributes.clear()
            source.attributes.add(onnx_ir.AttrTensor("value", tensor))
        if source is None or self.value.const_value is not None:
            self.value.const_value = tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedWeight:
    """A weight of a contraction that is no sparse layer.

    Attributes:
        node: the contraction.
        weight: name of the weight.
        reason: why, a line for people.
    """

    node: onnx_ir.Node
    weight: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseLayers:
    """The sparse layers of a model, in graph order, and what was skipped."""

    layers: tuple[SparseLayer, ...]
    skipped: tuple[SkippedWeight, ...]
