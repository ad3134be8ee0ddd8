"""What is known about every value of a graph before it runs: concrete shapes, and the numbers of shape
arithmetic.

One walk in topological order. Integer arithmetic on shapes (``Shape -> Gather -> Mul -> Concat -> Reshape``
tails) is evaluated with ONNX's own reference kernels, everything else goes through ONNX's own shape
inference, node by node, which then sees those numbers. Symbolic dimensions get concrete sizes; walks with
other sizes tell which axes and numbers are dynamic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.alone import run_alone
from prunec.ir.bodies import BodyWalk
from prunec.ir.control import open_graphs
from prunec.ir.diagnostics import PrunecError
from prunec.ir.evaluate import evaluate
from prunec.ir.inference import INFERENCE_ERRORS, find_schema, infer_node
from prunec.ir.module import opset_of
from prunec.ir.scopes import bodies
from prunec.ir.sizes import SizeChoice, input_shapes

Array = NDArray[Any]

#: Arrays larger than this are data, not shape arithmetic.
SMALL = 4096

#: Sizes of a sequence to try until all shapes are known (filters over audio need hundreds), each with two to compare.
LENGTHS = ((8, 12, 13), (1, 12, 13), (512, 768, 781))

#: Common ops of shape arithmetic that make nothing large of a few small inputs, whatever those hold.
_BOUNDED = frozenset(
    {"Add", "And", "Cast", "Ceil", "Concat", "Div", "Equal", "Floor", "Gather", "Greater", "Identity", "Less"}
    | {"Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceProd", "Reshape", "Slice", "Sqrt", "Squeeze"}
    | {"Sub", "Transpose", "Unsqueeze", "Where"}
)


@dataclass(slots=True)
class Facts:
    """Shapes and known numbers of the values of one graph and its bodies.

    Attributes:
        shapes: concrete shape of every value whose shape is known, at the sizes of the walk.
        numbers: contents of small constants and of integer values computed from constants and shapes.
        derived: the values in ``numbers`` that some node computes (the rest are initializers and constants).
        types: element type of every value whose type is known, as ONNX numbers them.
        constant: values that depend on no graph input: initializers, and what is computed from them alone.
        dynamic: per value the axes whose size follows the sizes of the graph inputs.
        unstable: values in ``numbers`` whose contents follow the sizes of the graph inputs; ``varying`` tells of
            some of them which entries do.
    """

    shapes: dict[onnx_ir.Value, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[onnx_ir.Value, Array] = field(default_factory=dict)
    derived: set[onnx_ir.Value] = field(default_factory=set)
    constant: set[onnx_ir.Value] = field(default_factory=set)
    types: dict[onnx_ir.Value, int] = field(default_factory=dict)
    dynamic: dict[onnx_ir.Value, frozenset[int]] = field(default_factory=dict)
    unstable: set[onnx_ir.Value] = field(default_factory=set)
    varying: dict[onnx_ir.Value, NDArray[np.bool_]] = field(default_factory=dict)

    def shape(self, value: onnx_ir.Value | None) -> tuple[int, ...] | None:
        """The concrete shape of a value, or None where it is absent or unknown."""
        return None if value is None else self.shapes.get(value)

    def number(self, value: onnx_ir.Value | None) -> Array | None:
        """The contents of a value that are known and the same for every size of the inputs, else None."""
        if value is None or value in self.unstable:
            return None
        return self.numbers.get(value)

    def is_folded(self, node: onnx_ir.Node) -> bool:
        """Whether every output of a node is a known number: then the node is shape arithmetic, no data."""
        return bool(node.outputs) and all(o in self.derived for o in node.outputs if o.name)

    def copy(self, value: onnx_ir.Value, constant: onnx_ir.Value) -> None:
        """Note what is known about a value for the initializer that takes its place."""
        if value in self.shapes:
            self.shapes[constant] = self.shapes[value]
        if value in self.numbers:
            self.numbers[constant] = self.numbers[value]
        if value in self.types:
            self.types[constant] = self.types[value]


def infer_facts(model: onnx_ir.Model) -> Facts:
    """Derive the facts of a model's main graph and of the bodies in it.

    Shapes that inference cannot tell (custom ops, data-dependent sizes) come from running the model once on
    probe inputs, and are missing where that fails too.
    """
    from prunec.ir.dependence import counts, mark_dependent

    facts, (second, odd) = _first_walk(model)
    second_sizes = SizeChoice(batch=2, spatial=96, other=second)
    if any(_sizes(model, SizeChoice())):
        _mark_dynamic(facts, _Walk(model, second_sizes).run())
        # Sizes that nothing divides: padding to a multiple of 32 is 0 for both 64 and 96, yet no constant.
        other = _Walk(model, SizeChoice(batch=3, spatial=67, other=odd)).run(probe=False)
        _mark_dynamic(facts, other, complete=False)
    if facts.dynamic:
        mark_dependent(model.graph, facts)
    if counts(model.graph):  # what a run counted is no fact
        _mark_dynamic(facts, _Walk(model, second_sizes).run(probe=False))
    return facts


def _sizes(model: onnx_ir.Model, choice: SizeChoice) -> list[dict[str, int]]:
    """What a choice of sizes means for every graph of a model whose inputs are open."""
    return [choice.of(graph) for graph in open_graphs(model.graph, opset_of(model.graph, ""))]


def _first_walk(model: onnx_ir.Model) -> tuple[Facts, tuple[int, int]]:
    """The walk that tells most shapes, and the two lengths to compare it with."""
    found: list[tuple[Facts, tuple[int, int]]] = []
    tried: list[list[dict[str, int]]] = []
    for length, second, odd in LENGTHS:
        choice = SizeChoice(other=length)
        if (sizes := _sizes(model, choice)) not in tried:
            tried.append(sizes)
            found.append((_Walk(model, choice).run(), (second, odd)))
        if not _missing(model.graph, found[-1][0]):
            break
    return min(found, key=lambda pair: _missing(model.graph, pair[0]))


def _missing(graph: onnx_ir.Graph, facts: Facts) -> int:
    """How many values have no known shape, or one of no elements, as from a kernel longer than its input."""
    computed = (o for node in graph for o in node.outputs if o.name and o not in facts.constant)
    return sum(min(facts.shapes.get(o, (0,)), default=1) <= 0 for o in computed)


def _mark_dynamic(facts: Facts, other: Facts, *, complete: bool = True) -> None:
    """Note what differs at other sizes; if ``complete``, also the numbers that are not known there."""
    for value, shape in facts.shapes.items():
        second = other.shapes.get(value)
        if second is not None and len(second) == len(shape):
            axes = frozenset(a for a, (m, n) in enumerate(zip(shape, second, strict=True)) if m != n)
            if axes:
                facts.dynamic[value] = facts.dynamic.get(value, frozenset()) | axes
    for value, array in facts.numbers.items():
        if value not in other.numbers:
            if complete:
                facts.unstable.add(value)
        elif not np.array_equal(array, other.numbers[value]):
            facts.unstable.add(value)


class _Walk:
    """One pass over the graph at one choice of sizes."""

    def __init__(self, model: onnx_ir.Model, choice: SizeChoice) -> None:
        self.model = model
        self.sizes = choice.of(model.graph)
        self.facts = Facts()
        self.bodies = BodyWalk(model, self.facts, self._visit, self._record_initializer, choice)
        imports = {"" if d == "ai.onnx" else d: version for d, version in model.graph.opset_imports.items()}
        self.opsets = tuple(imports.items())

    def run(self, *, probe: bool = True) -> Facts:
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


def constant_tensor(node: onnx_ir.Node) -> onnx_ir.TensorProtocol | None:
    """The tensor of a ``Constant`` node, None where it holds something else (a sparse tensor, say)."""
    if (value := node.attributes.get("value")) is not None:
        tensor: onnx_ir.TensorProtocol = value.value
        return tensor
    return onnx_ir.convenience.get_const_tensor(node.outputs[0])


def is_shape_arithmetic(array: Array) -> bool:
    """Integers, booleans and single numbers; larger arrays of floats or bytes are data that pruning may cut."""
    if array.size > SMALL or array.dtype.kind in "OSU":
        return False
    is_index = array.dtype.kind in "iu" and array.dtype.itemsize > 1  # one byte: a quantised weight
    return is_index or array.dtype.kind == "b" or array.size == 1
