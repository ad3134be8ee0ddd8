"""Constant tensors of a model: reading, replacing in place, un-sharing, clearing away dead ones."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.dialect import dialect_of
from prunec.passes.folding.algebra import CannotFold, FloatArray

_FOLDABLE = frozenset(
    {
        onnx_ir.DataType.FLOAT,
        onnx_ir.DataType.DOUBLE,
        onnx_ir.DataType.FLOAT16,
        onnx_ir.DataType.BFLOAT16,
    }
)
_LISTED_BELOW = 4  # before IR version 4 every initializer had to be listed as a graph input, yet was constant


class Constants:
    """The constants of one model while its norms are folded.

    A constant is an initializer, the output of a Constant node, or an Identity of one. An initializer that is
    also a graph input is none from IR version 4 on: a caller may override it.

    Attributes:
        unshared: how many tensors were copied because another node uses them too.
    """

    def __init__(self, model: onnx_ir.Model) -> None:
        self._graph = model.graph
        self._dialect = dialect_of(model)
        self._listed = model.ir_version < _LISTED_BELOW
        self._names = {value.name for value in _all_values(model)}
        self.unshared = 0

    def tensor(self, value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol:
        """The tensor behind ``value``.

        Raises:
            CannotFold: it is not a constant, or not of a floating-point type.
        """
        tensor = self._find(value)
        name = value.name if value is not None else ""
        if tensor is None:
            raise CannotFold(f"`{name}` is not a constant", help="fold constants first with `canonicalize`")
        if tensor.dtype not in _FOLDABLE:
            raise CannotFold(f"`{name}` is of type {tensor.dtype.short_name()}, not floating point")
        return tensor

    def read(self, value: onnx_ir.Value | None) -> FloatArray:
        """The tensor behind ``value`` in float64.

        Raises:
            CannotFold: it is not a constant, or not of a floating-point type.
        """
        return self.tensor(value).numpy().astype(np.float64)

    def integers(self, value: onnx_ir.Value | None) -> NDArray[np.int64] | None:
        """The tensor behind ``value`` if it is a constant of integers, else None."""
        try:
            tensor = self._find(value)
        except CannotFold:
            return None
        if tensor is None or not tensor.dtype.is_integer():
            return None
        return tensor.numpy().astype(np.int64)

    def replace(self, node: onnx_ir.Node, index: int, array: NDArray[np.generic]) -> None:
        """Give input ``index`` of ``node`` new values.

        A tensor that this input alone uses keeps its name; any other is left to its other users and copied.
        """
        value = node.inputs[index]
        if value is None:
            raise ValueError(f"input {index} of {node.name} is absent")
        source = value.producer()
        if len(value.uses()) > 1 or value.is_graph_output() or (source and source.op_type != "Constant"):
            self.unshared += 1
            self.add(node, index, array, f"{value.name}_folded")
            self.discard(value)
            return
        tensor = onnx_ir.tensor(array, name=value.name)
        if source is not None:
            source.attributes.clear()
            source.attributes.add(onnx_ir.AttrTensor("value", tensor))
        if source is None or value.const_value is not None:
            value.const_value = tensor
        value.type, value.shape = onnx_ir.TensorType(tensor.dtype), onnx_ir.Shape(array.shape)

    def add(
        self,
        node: onnx_ir.Node,
        index: int,
        array: NDArray[np.generic],
        name: str,
        *,
        like: onnx_ir.Value | None = None,
    ) -> None:
        """Make a new initializer, named ``name`` or nearly so, and let it be input ``index`` of ``node``.

        Args:
            node: what reads it.
            index: of the input.
            array: its values.
            name: see above.
            like: it is trained where this constant is.
        """
        tensor = onnx_ir.tensor(array, name=self.fresh(name))
        value = onnx_ir.Value(
            name=tensor.name,
            type=onnx_ir.TensorType(tensor.dtype),
            shape=onnx_ir.Shape(array.shape),
            const_value=tensor,
        )
        if like is not None:
            self._dialect.adopt(value, like)
        self._graph.register_initializer(value)
        if self._listed:
            self._graph.inputs.append(value)
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)

    def discard(self, *values: onnx_ir.Value | None) -> None:
        """Remove the constants among ``values`` that nothing uses any more."""
        pending = [value for value in values if value is not None]
        while pending:
            value = pending.pop()
            source, graph = value.producer(), value.graph
            if value.uses() or value.is_graph_output() or graph is None:
                continue
            if source is not None and source.op_type in ("Constant", "Identity"):
                pending += [operand for operand in source.inputs if operand is not None]
                graph.remove(source, safe=True)
            elif value.is_initializer() and not self._overridable(value):
                if value.is_graph_input():
                    graph.inputs.remove(value)
                del graph.initializers[cast(str, value.name)]

    def fresh(self, name: str) -> str:
        """``name`` where no value of the model has it, else the first free ``name_1``, ``name_2``..."""
        candidate, count = name, 0
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate

    def _overridable(self, value: onnx_ir.Value) -> bool:
        return value.is_graph_input() and not (self._listed and value.graph is self._graph)

    def _find(self, value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol | None:
        while value is not None:
            if value.is_initializer():
                if self._overridable(value):
                    raise CannotFold(
                        f"`{value.name}` is also a graph input, so a caller may override it",
                        help="take the initializers out of the graph's inputs",
                    )
                return value.const_value
            source = value.producer()
            if source is None or source.domain or source.op_type not in ("Constant", "Identity"):
                return None
            if source.op_type == "Constant":
                return onnx_ir.convenience.get_const_tensor(value)
            value = source.inputs[0]
        return None


def _all_values(model: onnx_ir.Model) -> list[onnx_ir.Value]:
    values: list[onnx_ir.Value] = []
    for graph in model.graphs():
        values += [*graph.inputs, *graph.initializers.values()]
        values += [output for node in graph for output in node.outputs]
    return values
