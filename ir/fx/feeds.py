"""Inputs to try a captured program on, made after the example inputs that it was captured with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir
import torch

from prunec.ir.dialect import Array
from prunec.ir.fx.signature import Signature, signature_of
from prunec.ir.fx.tensors import to_array
from prunec.ir.module import Module
from prunec.ir.sizes import symbol_of


def example_feeds(
    module: Module, *, seed: int = 0, sizes: Mapping[str, int] | None = None, own: bool = False
) -> dict[str, Array]:
    """Arrays for every graph input; the same arguments always give the same arrays.

    Floats are standard normal, unless the example holds nothing but zeros and ones (a mask). Integers and
    masks are those of the example: only the user knows which indices are valid. Along a dynamic axis they are
    repeated or cut to its size.

    Args:
        module: the program.
        seed: of the random generator.
        sizes: size by name of a symbolic dimension; the others have that of the example.
        own: keep the floats of the example, too.
    """
    signature = signature_of(module.model)
    examples = {a.name: a.example for a in signature.arguments if isinstance(a.example, torch.Tensor)}
    known = _example_sizes(signature, examples)
    feeds = {}
    for index, value in enumerate(module.graph.inputs):
        assert value.name is not None
        rng = np.random.default_rng([seed, index])
        example = _resized(value, to_array(examples[value.name]), known | dict(sizes or {}))
        feeds[value.name] = example if own else _draw(rng, example)
    return feeds


def _example_sizes(signature: Signature, examples: Mapping[str | None, torch.Tensor]) -> dict[str, int]:
    return {
        symbol: examples[name].shape[axis]
        for name, axes in signature.dynamic.items()
        for axis, symbol in axes.items()
    }


def _resized(value: onnx_ir.Value, example: Array, sizes: Mapping[str, int]) -> Array:
    for axis in range(example.ndim):
        symbol = symbol_of(value, axis)
        if symbol is not None:
            example = np.take(example, np.arange(sizes.get(symbol, example.shape[axis])), axis, mode="wrap")
    return np.ascontiguousarray(example)


def _draw(rng: np.random.Generator, example: Array) -> Array:
    is_float = example.dtype.kind == "f" or example.dtype.name == "bfloat16"
    mask = is_float and example.size > 1 and set(np.unique(example.astype(np.float64))) == {0.0, 1.0}
    if not is_float or mask:
        return example
    return rng.standard_normal(example.shape).astype(example.dtype)
