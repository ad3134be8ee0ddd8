"""The graph under construction: values with known shapes, constants, random choices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from generators.measure import measure
from generators.registry import STYLES
from onnx import TensorProto, helper, numpy_helper, shape_inference

T = TypeVar("T")

KINDS = ("vector", "signal", "image", "tokens")
"""[N, C], [N, C, L], [N, C, H, W] and [N, T, C]: what blocks pick and keep."""

OPSETS = range(7, 27)
"""Versions of the default domain that the forms are written for."""

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
"""Element types that layers compute in."""

BATCH = 2
"""Size of the batch axis (always axis 0) while building; the finished model may declare it as ``N``."""

VOCABULARY = 7
"""Integer inputs hold indices below this."""

MAX_CHANNELS, MAX_EXTENT = 16, 8
"""Values larger than this are not picked any more, so that networks stay small."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: its name in the graph; empty for an omitted optional operand.
        shape: sizes, with the batch axis as ``BATCH``.
        kind: one of ``KINDS``, or empty where no layout is meant.
        dtype: an onnx element type.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = ""
    dtype: int = TensorProto.FLOAT

    @property
    def axis(self) -> int:
        """The channel axis."""
        return len(self.shape) - 1 if self.kind == "tokens" else 1

    @property
    def channels(self) -> int:
        """Size of the channel axis."""
        return self.shape[self.axis]

    @property
    def space(self) -> tuple[int, ...]:
        """The axes that are neither batch nor channels."""
        return tuple(a for a in range(1, len(self.shape)) if a != self.axis)

    @property
    def small(self) -> bool:
        """Whether blocks may still grow it."""
        return self.channels <= MAX_CHANNELS and all(self.shape[a] <= MAX_EXTENT for a in self.space)


ABSENT = Value("", ())
"""An optional operand that is left out."""


class Builder:
    """Holds the graph so far and gives blocks what they need to extend it.

    Args:
        opset: the default domain's version; ``forms`` writes ops in the form of that version.
        dynamic: the finished model declares its batch axis as ``N``.
        allowed: names of the blocks, styles and touches that may appear.
    """

    def __init__(self, *, opset: int, dynamic: bool, allowed: Collection[str]) -> None:
        self.opset = opset
        self.dynamic = dynamic
        self.allowed = frozenset(allowed)
        self.styles = [name for name in STYLES if name in self.allowed]
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.inputs: list[Value] = []
        self.symbols: dict[str, tuple[int, ...]] = {}
        self.outputs: list[Value] = []
        self.pool: list[Value] = []
        self.consumed: set[str] = set()
        self.used: set[str] = set()
        self.plain_weights: list[Value] = []
        self.zeros: dict[int, Value] = {}
        self._data: dict[str, TensorProto] = {}
        self.depth = 0
        self._count = 0

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def size(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def width(self, multiple_of: int = 1) -> int:
        """A number of channels from 2 to 8, or a little above where it must be a multiple."""
        return multiple_of * self.size(-(-2 // multiple_of), max(2, 8 // multiple_of))

    def normal(self, *shape: int, std: float = 1.0) -> np.ndarray:
        """Float32 draws from a normal around zero."""
        return (self.rng.standard_normal(shape) * std).astype(np.float32)

    def fresh(self, stem: str) -> str:
        """A name that is not in the graph yet."""
        self._count += 1
        return f"{stem}_{self._count}"

    def input(
        self,
        kind: str,
        shape: tuple[int, ...],
        dtype: int = TensorProto.FLOAT,
        *,
        symbols: Sequence[int] = (),
    ) -> Value:
        """A new graph input; axes in ``symbols`` have a name instead of a size where the model is dynamic."""
        value = Value(self.fresh("input"), shape, kind, dtype)
        self.inputs.append(value)
        self.symbols[value.name] = tuple(symbols)
        return value

    def initializer(self, array: np.ndarray, stem: str = "const") -> Value:
        """A new initializer holding this array."""
        name = self.fresh(stem)
        self.initializers.append(numpy_helper.from_array(array, name))
        self._data[name] = self.initializers[-1]
        return Value(name, array.shape, dtype=self.initializers[-1].data_type)

    def const(self, data: Any) -> Value:
        """A constant as an initializer or a Constant node; python floats become float32, ints int64."""
        array = np.asarray(data)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        if self.chance(0.8) or (self.opset < 9 and array.dtype != np.float32):
            return self.initializer(array)
        value = self.op("Constant", value=numpy_helper.from_array(array))
        self._data[value.name] = numpy_helper.from_array(array)
        return value

    def weight(self, *shape: int, fan_in: int, out_axis: int = 0) -> Value:
        """A random weight of variance 1/fan_in, in an unusual style now and then.

        Args:
            shape: its sizes as the layer reads it.
            fan_in: number of products summed into one output.
            out_axis: the axis of output channels, along which it may be quantised.
        """
        array = self.normal(*shape, std=fan_in**-0.5)
        if self.styles and self.chance(0.35):
            name = self.choose(self.styles)
            if (styled := STYLES[name](self, array, out_axis)) is not None:
                self.used.add(name)
                return styled
        self.plain_weights.append(self.initializer(array, "weight"))
        return self.plain_weights[-1]

    def bias(self, channels: int) -> Value:
        """A bias [channels]: absent, random, or one zero tensor shared by every layer of that size."""
        if self.chance(0.3):
            return ABSENT
        if "shared-zero-bias" not in self.allowed or self.chance(0.6):
            return self.initializer(self.normal(channels, std=0.3), "bias")
        self.used.add("shared-zero-bias")
        if channels not in self.zeros:
            self.zeros[channels] = self.initializer(np.zeros(channels, np.float32), "zeros")
        return self.zeros[channels]

    def op(
        self, op_type: str, *inputs: Value, shape: Sequence[int] = (), kind: str = "", **attributes: Any
    ) -> Value:
        """Add a node with one output; ``shape`` where inference cannot know it, ``kind`` where in doubt.

        Ops of other domains than the default are written ``com.microsoft.FusedMatMul``.
        """
        name = self._node(op_type, inputs, 1, attributes).output[0]
        dtype = inputs[0].dtype if inputs and inputs[0].dtype in FLOATS else int(TensorProto.FLOAT)
        found = (tuple(shape), dtype) if shape else self._inferred(inputs)[name]
        return self._value(name, inputs, found, kind)

    def split_op(
        self, op_type: str, *inputs: Value, count: int, kind: str = "", **attributes: Any
    ) -> list[Value]:
        """Add a node with several outputs."""
        names = self._node(op_type, inputs, count, attributes).output
        types = self._inferred(inputs)
        return [self._value(name, inputs, types[name], kind) for name in names]

    def _node(
        self, op_type: str, inputs: Sequence[Value], count: int, attributes: dict[str, Any]
    ) -> onnx.NodeProto:
        domain, _, op_type = op_type.rpartition(".")
        outputs = [self.fresh(op_type.lower()) for _ in range(count)]
        names = [value.name for value in inputs]
        if self.opset < 11 and attributes.get("axis", 0) < 0:
            attributes["axis"] += len(inputs[0].shape)
        self.nodes.append(
            helper.make_node(op_type, names, outputs, name=self.fresh("n"), domain=domain, **attributes)
        )
        self.consumed.update(names)
        return self.nodes[-1]

    def _inferred(self, inputs: Sequence[Value]) -> dict[str, tuple[tuple[int, ...], int]]:
        node, operands = self.nodes[-1], {value.name: value for value in inputs if value.name}
        if node.domain:
            return measure(node, operands.values(), self._data, self.opset)
        types = shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, self.opset, ""),
            node,
            {name: helper.make_tensor_type_proto(v.dtype, v.shape) for name, v in operands.items()},
            {name: self._data[name] for name in operands if name in self._data},
            opset_imports=[helper.make_opsetid("", self.opset)],
        )
        tensors = {name: found.tensor_type for name, found in types.items()}
        assert all(d.HasField("dim_value") for t in tensors.values() for d in t.shape.dim), node
        return {n: (tuple(d.dim_value for d in t.shape.dim), t.elem_type) for n, t in tensors.items()}

    def _value(
        self, name: str, inputs: Sequence[Value], found: tuple[tuple[int, ...], int], kind: str
    ) -> Value:
        shape, dtype = found
        inherited = inputs[0].kind if inputs and len(inputs[0].shape) == len(shape) else ""
        return Value(name, shape, kind or inherited or {2: "vector", 4: "image"}.get(len(shape), ""), dtype)

    def keep(self, value: Value) -> None:
        """Offer a value to later blocks."""
        assert value.kind in KINDS and value.shape[0] == BATCH, value
        self.pool.append(value)

    def pick(self, *kinds: str, where: Callable[[Value], bool] = lambda value: True) -> Value:
        """A value of one of the kinds (default: any), mostly a recent one; made where there is none."""
        from generators.sources import source

        found = [v for v in self.pool if v.kind in (kinds or KINDS) and v.small and where(v)]
        if not found or self.chance(0.08):
            return source(self, self.choose(kinds or KINDS))
        return found[-min(int(self.rng.geometric(0.6)), len(found))]

    def leaves(self) -> list[Value]:
        """Kept values that nothing reads."""
        return [value for value in dict.fromkeys(self.pool) if value.name not in self.consumed]
