"""Whether calibration data can be used, and whether it fits a model; every mistake is told in the user's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import ml_dtypes
import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import Place, UserError, nearest
from prunec.ir.sizes import open_inputs, symbol_of
from prunec.passes.calibration.data import HELD_OUT, CalibrationData, Feeds

if TYPE_CHECKING:
    from prunec.ir.module import Module

Array = NDArray[Any]

_LOOK = 1 << 24
"""Bytes of an array that are looked through at a time."""


def check_arrays(arrays: Mapping[str, Array], name: str) -> int:
    """The number of samples, which all arrays must agree on.

    Raises:
        UserError: there are none, they differ, or an array holds Python objects.
    """
    if not arrays:
        _refuse(
            name,
            "there are no arrays in the calibration data",
            ["name each array as the graph input that it is for"],
        )
    counts: dict[str, int] = {}
    for key, array in arrays.items():
        if array.dtype.hasobject:
            _refuse(
                name,
                f"array `{key}` holds Python objects, not numbers",
                ["make it one array: np.stack(rows)"],
            )
        if not array.ndim:
            _refuse(name, f"array `{key}` is a single value; the first axis of every array is its samples")
        counts[key] = len(array)
    (first, count), *others = counts.items()
    for key, other in others:
        if other != count:
            _refuse(name, f"array `{first}` has {count:,} samples, array `{key}` has {other:,}")
    if not count:
        _refuse(name, "too few samples: 0", ["128 and more make good statistics"])
    return count


def check_fit(data: CalibrationData, module: Module, batch: int, *, every: bool = False) -> Feeds:
    """The data as a model takes it; see :meth:`CalibrationData.bind`."""
    fit = _Fit(data)
    inputs = open_inputs(module.graph)
    arrays = {value.name or "": fit.array(value, inputs) for value in inputs}
    if not arrays:
        _refuse(module.source.name, "the model has no inputs, so that calibration data says nothing about it")
    types = {value.name or "": fit.type(value, arrays[value.name or ""]) for value in inputs}
    stacked = frozenset(value.name or "" for value in inputs if fit.is_stack(value, arrays[value.name or ""]))
    fixed = fit.fixed_batch(inputs, stacked)
    for value in inputs:
        fit.check_sizes(value, arrays[value.name or ""], value.name in stacked)
        fit.check_finite(value.name or "", arrays[value.name or ""])
    if every:
        size = fixed or min(batch, data.count)
        return Feeds(arrays=arrays, types=types, stacked=stacked, batch=size, samples=data.count, filled=True)
    size = fixed or min(batch, max(1, round(data.count * HELD_OUT)))
    if data.count < 2 * size:
        many = f"and the model runs {size} at a time" if size > 1 else "of which one is held out"
        _refuse(
            data.name,
            f"too few samples: {data.count}, {many}",
            [f"give at least {2 * size}; 128 and more make good statistics"],
        )
    samples = data.count - data.count % size if fixed else data.count
    return Feeds(arrays=arrays, types=types, stacked=stacked, batch=size, samples=samples)


class _Fit:
    """One model's inputs against the arrays for them."""

    def __init__(self, data: CalibrationData) -> None:
        self.data = data
        self.file = data.name
        self._symbols: dict[str, tuple[int, str]] = {}

    def array(self, value: onnx_ir.Value, inputs: Sequence[onnx_ir.Value]) -> Array:
        """The array of an input."""
        name = value.name or ""
        if name in self.data.arrays:
            return self.data.arrays[name]
        spare = [key for key in self.data.arrays if key not in {other.name for other in inputs}]
        close = nearest(name, spare) or (spare[0] if len(spare) == 1 else None)
        help = [f"is it `{close}`? rename that array to `{name}`"] if close else []
        return _refuse(
            self.file,
            f"no array is named as the graph input `{name}`",
            help,
            [
                f"arrays: {', '.join(self.data.arrays)}",
                f"graph inputs: {', '.join(str(v.name) for v in inputs)}",
            ],
        )

    def type(self, value: onnx_ir.Value, array: Array) -> np.dtype[Any]:
        """What an input's samples are turned into."""
        wanted = value.dtype
        if wanted is None:
            return array.dtype
        if wanted == onnx_ir.DataType.STRING:
            safe, target = array.dtype.kind == "U", np.dtype(object)
        else:
            target = np.dtype(wanted.numpy())
            safe = np.can_cast(array.dtype, target, "safe") or _stands_for(array.dtype, target)
        if not safe:
            kind = "strings" if wanted == onnx_ir.DataType.STRING else target.name
            convert = "str" if wanted == onnx_ir.DataType.STRING else f"np.{target.name}"
            _refuse(
                self.file,
                f"array `{value.name}` is of type {array.dtype}, the graph input takes {kind}, "
                "and that conversion may lose something",
                [f"convert it yourself: {value.name}.astype({convert})"],
            )
        return target

    def is_stack(self, value: onnx_ir.Value, array: Array) -> bool:
        """Whether an array holds whole inputs, one a sample.

        Raises:
            UserError: it has neither as many axes as the input nor one more.
        """
        if value.shape is None or array.ndim == len(value.shape):
            return False
        if array.ndim != len(value.shape) + 1:
            self._wrong_shape(value, array, f"it has {array.ndim} axes, not {len(value.shape)}")
        return True

    def fixed_batch(self, inputs: Sequence[onnx_ir.Value], stacked: frozenset[str]) -> int | None:
        """Samples of one run if the model fixes them."""
        sizes = {"a stack": 1} if stacked else {}
        for value in inputs:
            if value.name not in stacked and value.shape and symbol_of(value, 0) is None:
                sizes[f"`{value.name}`"] = int(value.shape[0])  # type: ignore[arg-type]
        if len(set(sizes.values())) > 1:
            _refuse(
                self.file,
                "the graph inputs take different numbers of samples: "
                + ", ".join(f"{size} of {what}" for what, size in sizes.items()),
                ["give inputs whose first axis is no batch as stacks: arrays [samples, *shape of the input]"],
            )
        return next(iter(sizes.values()), None)

    def check_sizes(self, value: onnx_ir.Value, array: Array, stacked: bool) -> None:
        """See that all axes but the samples have the sizes of the input; equal symbols equal sizes."""
        for axis in range(0 if stacked else 1, len(value.shape or ())):
            assert value.shape is not None
            dim, size = value.shape[axis], array.shape[axis + stacked]
            if (symbol := symbol_of(value, axis)) is None:
                if dim != size:
                    self._wrong_shape(value, array, f"axis {axis + stacked} is {size}, not {dim}")
                continue
            known, where = self._symbols.setdefault(symbol, (size, f"`{value.name}`"))
            if known != size:
                self._wrong_shape(value, array, f"`{symbol}` is {known} in {where} and {size} here")

    def _wrong_shape(self, value: onnx_ir.Value, array: Array, why: str) -> NoReturn:
        shape = [str(dim) for dim in value.shape or ()]
        _refuse(
            self.file,
            f"array `{value.name}` of shape {list(array.shape)} does not fit the graph input "
            f"[{', '.join(shape)}]: {why}",
            ["the first axis is the samples; the others are those of the input"],
        )

    def check_finite(self, name: str, array: Array) -> None:
        """See that no sample is NaN or infinite."""
        if not np.issubdtype(array.dtype, np.inexact):
            return
        bad = [start + np.flatnonzero(~finite) for start, finite in _finite_samples(array)]
        samples = np.concatenate(bad)
        if len(samples):
            _refuse(
                self.file,
                f"{len(samples):,} of {len(array):,} samples of array `{name}` hold NaN or infinite values, "
                f"the first is sample {samples[0]}",
                ["leave these samples out, or find out where the values come from"],
            )


def _finite_samples(array: Array) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Whether each sample is finite, some samples at a time: position of the first, and the answers."""
    step = max(1, _LOOK * len(array) // max(array.nbytes, 1))
    for start in range(0, len(array), step):
        part = array[start : start + step]
        yield start, np.asarray(np.isfinite(part).all(axis=tuple(range(1, part.ndim))))


def _stands_for(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Whether an array is of the type that stands for one that files of arrays do not know."""
    foreign = wanted == ml_dtypes.bfloat16 or wanted.name.startswith("float8")
    return foreign and given in (np.float16, np.float32)


def _refuse(file: str, message: str, help: Sequence[str] = (), notes: Sequence[str] = ()) -> NoReturn:
    raise UserError(message, place=Place(file=file), help=help, notes=notes)
