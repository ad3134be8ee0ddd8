"""One walk over a graph, in topological order, that finds the facts of its values.

Integer arithmetic on shapes (``Shape -> Gather -> Mul -> Concat -> Reshape`` tails) is evaluated with ONNX's own
reference kernels, everything else goes through ONNX's own shape inference, node by node, which then sees those numbers.
What neither tells is run, alone or with the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.alone import run_alone
from prunec.ir.bodies import BodyWalk
from prunec.ir.diagnostics import PrunecError
from prunec.ir.evaluate import evaluate
from prunec.ir.facts import SMALL, Facts, constant_tensor, is_shape_arithmetic
from prunec.ir.inference import INFERENCE_ERRORS, find_schema, infer_node
from prunec.ir.module import opset_of
from prunec.ir.scopes import bodies
from prunec.ir.sizes import SizeChoice, input_shapes

Array = NDArray[Any]

_BOUNDED = frozenset(
    {"Add", "And", "Cast", "Ceil", "Concat", "Div", "Equal", "Floor", "Gather", "Greater", "Identity", "Less"}
    | {"Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceProd", "Reshape", "Slice", "Sqrt", "Squeeze"}
    | {"Sub", "Transpose", "Unsqueeze", "Where"}
)
"""Common ops of shape arithmetic that make nothing large of a few small inputs, whatever those hold."""


class FactWalk:
    """One pass over a graph at one choice of sizes.

    Args:
        model: the model.
        choice: the sizes.
    """

    def __init__(self, model: onnx_ir.Model, choice: SizeChoice) -> None:
        self.model = model
        self.sizes = choice.of(model.graph)
        self.facts = Facts()
        self.bodies = BodyWalk(model, self.facts, self._visit, self._record_initializer, choice)
        imports = {"" if d == "ai.onnx" else d: version for d, version in model.graph.opset_imports.items()}
        self.opsets = tuple(imports.items())

    def run(self, *, probe: bool = True) -> Facts:
        """The facts; with ``probe`` those of a run, too, where inference does not tell all shapes."""
        self._seed()
        nodes = list(self.model.graph)
        for node in nodes:
            self._visit(node)
        for lacking in (self._blockers, self._missing) if probe else ():
            if not (values := lacking(nodes)) or not self._probe(values):
                break
            for node in nodes:
                self._visit(node)
        self.bodies.mark_moving()
        return self.facts

    def _missing(self, nodes: Iterable[onnx_ir.Node]) -> list[onnx_ir.Value]:
        """The values without a shape."""
        return [o for node in nodes for o in node.outputs if o.name and o not in self.facts.shapes]

    def _blockers(self, nodes: Iterable[onnx_ir.Node]) -> list[onnx_ir.Value]:
        """Of the values without a shape those where inference stops; the others may well follow from them."""
        stopped = (
            node
            for node in nodes
            if all(v is None or v in self.facts.shapes for v in node.inputs)
            or find_schema(node.op_type, node.domain, opset_of(self.model.graph, node.domain)) is None
        )
        return self._missing(stopped)

    def _seed(self) -> None:
        graph = self.model.graph
        shapes = input_shapes(graph, self.sizes)
        for value in graph.initializers.values():
            self._record_initializer(value)
        for value in graph.inputs:
            if value in self.facts.shapes:
                continue
            if (shape := shapes.get(value.name or "")) is not None:
                self.facts.shapes[value] = shape
            self.facts.types[value] = int(value.dtype or 1)

    def _record_initializer(self, value: onnx_ir.Value) -> None:
        self._record_constant(value, value.const_value)

    def _record_constant(self, value: onnx_ir.Value, tensor: onnx_ir.TensorProtocol | None) -> None:
        if tensor is None:
            return
        self.facts.constant.add(value)
        self.facts.shapes[value] = tuple(tensor.shape.numpy())
        self.facts.types[value] = int(tensor.dtype)
        if tensor.size <= SMALL and tensor.dtype != onnx_ir.DataType.STRING:
            self.facts.numbers[value] = tensor.numpy()

    def _visit(self, node: onnx_ir.Node) -> None:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self._record_constant(node.outputs[0], constant_tensor(node))
        elif bodies(node):
            self.bodies.visit(node)
            if any(o not in self.facts.shapes or o not in self.facts.types for o in node.outputs):
                self._infer(node)
        elif not self._evaluate(node):
            self._infer(node)
            if node.inputs and all(v is None or v in self.facts.constant for v in node.inputs):
                self.facts.constant.update(node.outputs)

    def _evaluate(self, node: onnx_ir.Node) -> bool:
        """Compute a node of shape arithmetic; False where it is something else."""
        if node.domain not in ("", "ai.onnx") or not node.inputs:
            return False
        if node.op_type in ("Shape", "Size"):
            arrays = self._evaluate_shape(node)
        elif all(v is None or self._is_shape_number(v) for v in node.inputs):
            arrays = self._evaluate_reference(node)
        else:
            return False
        if arrays is None or not all(is_shape_arithmetic(a) for a in arrays):
            return False
        for value, array in zip(node.outputs, arrays, strict=False):
            self.facts.shapes[value] = array.shape
            self.facts.numbers[value] = array
            self.facts.derived.add(value)
            self.facts.constant.add(value)
            self.facts.types[value] = int(onnx_ir.DataType.from_numpy(array.dtype))
        return True

    def _is_shape_number(self, value: onnx_ir.Value) -> bool:
        array = self.facts.numbers.get(value)
        return array is not None and is_shape_arithmetic(array)

    def _evaluate_shape(self, node: onnx_ir.Node) -> list[Array] | None:
        shape = self.facts.shape(node.inputs[0])
        if shape is None:
            return None
        if node.op_type == "Size":
            return [np.array(np.prod(shape), np.int64)]
        start, end = (
            int(node.attributes.get_int(key, default)) for key, default in (("start", 0), ("end", len(shape)))
        )
        return [np.array(shape[start:end], np.int64)]

    def _evaluate_reference(self, node: onnx_ir.Node) -> list[Array] | None:
        if not self._stays_small(node):
            return None
        inputs = [None if v is None else self.facts.numbers[v] for v in node.inputs]
        results = evaluate(node, inputs, opset_of(self.model.graph, node.domain))
        if results is None or any(r is None for r in results):
            return None
        return [r for r in results if r is not None]

    def _stays_small(self, node: onnx_ir.Node) -> bool:
        """Whether what a node makes of known numbers is small enough to be computed."""
        sizes = (self.facts.numbers[v].size for v in node.inputs if v is not None)
        if node.op_type in _BOUNDED and prod(max(1, size) for size in sizes) <= SMALL:
            return True
        return all(prod(shape) <= SMALL for shape in self._infer_shapes(node).values())

    def _infer(self, node: onnx_ir.Node) -> None:
        for value, shape in (self._infer_shapes(node) or self._run_alone(node)).items():
            self.facts.shapes.setdefault(value, shape)

    def _run_alone(self, node: onnx_ir.Node) -> dict[onnx_ir.Value, tuple[int, ...]]:
        """The shapes that a node makes of ones, if it has no inference; computed integers may be sizes."""
        missing = {o.name: o for o in node.outputs if o.name and o not in self.facts.shapes}
        inputs = {v.name or "": self._stand_in(v) for v in node.inputs if v is not None}
        arrays = {name: array for name, array in inputs.items() if array is not None}
        if not missing or len(arrays) < len(inputs) or not self._is_opaque(node):
            return {}
        made = {missing[n]: a for n, a in run_alone(node, arrays, self.opsets).items() if n in missing}
        for value, array in made.items():
            self.facts.types.setdefault(value, int(onnx_ir.DataType.from_numpy(array.dtype)))
        return {value: array.shape for value, array in made.items()}

    def _is_opaque(self, node: onnx_ir.Node) -> bool:
        """Whether nothing but ONNX Runtime itself can tell what a node makes."""
        return (
            find_schema(node.op_type, node.domain, opset_of(self.model.graph, node.domain)) is None
            and node.op_identifier() not in self.model.functions
            and not bodies(node)
        )

    def _stand_in(self, value: onnx_ir.Value) -> Array | None:
        """An array in place of a value: its content, or ones if it is a float of known shape."""
        if (number := self.facts.numbers.get(value)) is not None:
            return number
        if value.const_value is not None and value.is_initializer():
            return value.const_value.numpy()
        shape, kind = self.facts.shapes.get(value), self.facts.types.get(value)
        floats = {onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE}
        if shape is None or kind not in floats:
            return None
        return np.ones(shape, onnx_ir.DataType(kind).numpy())

    def _infer_shapes(self, node: onnx_ir.Node) -> dict[onnx_ir.Value, tuple[int, ...]]:
        """ONNX's own shape inference of one node; static results only, and the types as a side effect."""
        schema = find_schema(node.op_type, node.domain, opset_of(self.model.graph, node.domain))
        inputs = [v for v in node.inputs if v is not None]
        if schema is None or any(v not in self.facts.types for v in inputs):
            self._declare(node)
            return {}
        try:
            outputs = infer_node(node, schema, self.facts, self.opsets)
        except INFERENCE_ERRORS:
            self._declare(node)
            return {}
        return self._read(node, outputs)

    def _read(
        self, node: onnx_ir.Node, outputs: Mapping[str, onnx.TypeProto]
    ) -> dict[onnx_ir.Value, tuple[int, ...]]:
        shapes = {}
        for value in node.outputs:
            proto = outputs.get(value.name or "")
            if proto is None or not proto.HasField("tensor_type"):
                continue
            self.facts.types[value] = proto.tensor_type.elem_type
            dims = [d.dim_value if d.HasField("dim_value") else None for d in proto.tensor_type.shape.dim]
            if proto.tensor_type.HasField("shape") and None not in dims:
                shapes[value] = tuple(d for d in dims if d is not None)
        self._declare(node)
        return shapes

    def _declare(self, node: onnx_ir.Node) -> None:
        """Take the element types that the file declares where inference gave none."""
        for value in node.outputs:
            if value not in self.facts.types and value.dtype is not None:
                self.facts.types[value] = int(value.dtype)

    def _probe(self, missing: list[onnx_ir.Value]) -> bool:
        """Fill shapes by running the model once; False where it does not run."""
        from prunec.ir.execute import run_model
        from prunec.ir.probes import probe_feeds

        values = {v.name: v for v in missing if v.name}
        try:
            arrays = run_model(self.model, probe_feeds(self.model, sizes=self.sizes), outputs=list(values))
        except PrunecError:
            return False
        for name, array in ((n, a) for n, a in arrays.items() if isinstance(a, np.ndarray)):  # no sequences
            self.facts.shapes[values[name]] = array.shape
            self.facts.types.setdefault(values[name], int(onnx_ir.DataType.from_numpy(array.dtype)))
        return True
