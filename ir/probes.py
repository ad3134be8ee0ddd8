"""Makes inputs that a model can run on, from nothing but its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.module import Module
from prunec.ir.sizes import input_shapes, open_inputs, symbol_sizes

Array = np.ndarray[Any, Any]
DataType = onnx_ir.DataType
KEEPS_VALUES = frozenset(
    {"Cast", "Clip", "Concat", "Expand", "Flatten", "Identity", "Max", "Min", "Mod"}
    | {"Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Ops whose output holds integers that their input held (or fewer)."""
_GENERATORS = frozenset({"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})
"""Ops that write sequences up to a length, their second input."""
_LONGEST = 20
"""Such a length: more than the prompts of most probes have."""

KEEPS_SIZES = frozenset(
    {"Add", "Cast", "DequantizeLinear", "Div", "Identity", "Mul", "QuantizeLinear", "Sub"}
)
"""Ops whose output is as large as their largest input on every axis."""


def probe_feeds(
    module: Module | onnx_ir.Model, *, seed: int = 0, sizes: Mapping[str, int] | None = None, batch: int = 1
) -> dict[str, Array]:
    """Random arrays for every input that needs one; the same arguments always give the same arrays.

    Floats are standard normal. Integers that index something (``Gather``, ``OneHot``, embedding ops) are
    valid indices of it; the length up to which a decoder writes is 20, and its penalties are 1; a single
    integer, and a mask by its name, is 1; other bytes take their whole non-negative range; other integers
    are 0 or 1. Strings are empty. An initializer that is listed as an input keeps its value and gets no array.

    Args:
        module: the model.
        seed: of the random generator; inputs are drawn independently of each other.
        sizes: size by name of a symbolic dimension. The others get ``batch`` where they are an input's first
            axis, 64 where they are height or width of an image-like float input (``[N, C, H, W]``), otherwise
            1; the same name has the same size everywhere.
        batch: size of a symbolic first axis.

    Raises:
        UserError: an input's rank or type is unknown, so that no array can be made.
    """
    model, file = (module.model, module.source.name) if isinstance(module, Module) else (module, "<memory>")
    shapes = input_shapes(model.graph, symbol_sizes(model.graph, batch=batch) | dict(sizes or {}))
    feeds: dict[str, Array] = {}
    for index, value in enumerate(open_inputs(model.graph)):
        if value.name is None or value.dtype is None or value.shape is None:
            raise UserError(
                f"graph input `{value.name}` has no known type and rank",
                place=Place(file=file),
                help=["export the model with typed inputs, or give the array"],
            )
        generator = np.random.default_rng([seed, index])
        feeds[value.name] = _draw(generator, value, list(shapes[value.name]))
    return feeds


def _draw(generator: np.random.Generator, value: onnx_ir.Value, shape: list[int]) -> Array:
    dtype = value.dtype
    assert dtype is not None
    if dtype == DataType.STRING:
        return np.full(shape, "", dtype=object)
    if dtype == DataType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if _is_float(dtype) and any(use.node.op_type in _GENERATORS for use in value.uses()):
        return np.ones(shape, dtype.numpy())  # a penalty, which must be positive
    if _is_float(dtype):
        return generator.standard_normal(shape).astype(dtype.numpy())
    low, high = _integer_range(value, dtype, shape)
    return generator.integers(low, high, shape).astype(dtype.numpy())


def _is_float(dtype: DataType | None) -> bool:
    return (
        dtype is not None
        and dtype != DataType.STRING
        and (dtype.is_floating_point() or "COMPLEX" in dtype.name)
    )


def _integer_range(value: onnx_ir.Value, dtype: DataType, shape: list[int]) -> tuple[int, int]:
    """Smallest value, and one more than the largest."""
    bound = min(_bounds(value), default=None)
    if bound is not None:
        return 0, max(1, min(bound, 2 ** (dtype.bitwidth - dtype.is_signed())))
    if any(node.op_type in _GENERATORS and index == 1 for node, index in value.uses()):
        return _LONGEST, _LONGEST + 1
    if int(np.prod(shape)) == 1 or "mask" in (value.name or "").lower():
        return 1, 2
    if dtype in (DataType.UINT8, DataType.INT8):
        return 0, 128 if dtype == DataType.INT8 else 256
    return 0, 2


def _bounds(value: onnx_ir.Value) -> Iterator[int]:
    """How many entries each table has that this value indexes, directly or through ops that keep values."""
    seen, queue = {value}, [value]
    while queue:
        current = queue.pop()
        for node, index in current.uses():
            if (bound := _table_size(node, index)) is not None:
                yield bound
            if node.op_type in KEEPS_VALUES or (node.op_type == "Gather" and index == 0):
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                queue.extend(fresh)


def _table_size(node: onnx_ir.Node, index: int) -> int | None:
    """Entries of the table that input ``index`` of a node indexes, if it does and their number is known."""
    if node.op_type == "Gather" and index == 1:
        axis = node.attributes.get_int("axis", 0)
        return _static_size(node.inputs[0], axis)
    if node.op_type == "OneHot" and index == 0:
        depth = onnx_ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
        return None if depth is None else int(depth.numpy().reshape(-1)[0])
    if node.op_type == "EmbedLayerNormalization" and index in (0, 1):
        return _static_size(node.inputs[2 if index == 0 else 4], 0)
    return None


def _static_size(value: onnx_ir.Value | None, axis: int) -> int | None:
    """Size of an axis that the file states, or that a weight computed from others has."""
    shape: onnx_ir.Shape | None = value.shape if value is not None else None
    if shape is None and value is not None:
        constant = onnx_ir.convenience.get_const_tensor(value)
        shape = onnx_ir.Shape(constant.shape.numpy()) if constant is not None else None
    if shape is None:
        return _computed_size(value.producer() if value is not None else None, axis)
    if not -len(shape) <= axis < len(shape):
        return None
    return dim if isinstance(dim := shape[axis], int) else None


def _computed_size(node: onnx_ir.Node | None, axis: int) -> int | None:
    """The same of the result of a node that keeps sizes: a scaled, dequantised or transposed table."""
    if node is None or not node.inputs:
        return None
    if node.op_type == "Transpose" and (perm := node.attributes.get_ints("perm", ())):
        return _static_size(node.inputs[0], perm[axis])
    if node.op_type not in KEEPS_SIZES:
        return None
    sizes = [_static_size(value, axis) for value in node.inputs]
    return max((size for size in sizes if size is not None), default=None)
