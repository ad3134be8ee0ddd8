"""When a node hands its first input on unchanged, whatever the sizes of the graph's inputs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from prunec.ir.rule import RuleError
from prunec.ir.site import Site

_ENDLESS = 2**31 - 1
"""Exporters write "to the end of the axis" as the largest 32-bit or 64-bit integer."""


def is_identity(site: Site) -> bool:
    """Whether output 0 is proven to equal input 0 in shape, type and every element.

    Shape operands must be known numbers; a size that follows the graph's inputs proves nothing.
    """
    test = _TESTS.get(site.node.op_type) if site.node.domain in ("", "ai.onnx") else None
    if test is None or site.input(0) is None:
        return False
    try:
        return test(site)
    except RuleError:  # a shape or an operand is not known
        return False


def permutation_of(site: Site) -> list[int]:
    """The axes of a ``Transpose``, written out.

    Raises:
        RuleError: they are not written in the node and the rank is unknown.
    """
    if "perm" in site.node.attributes:
        return [int(axis) for axis in site.node.attributes["perm"].as_ints()]
    return list(range(len(site.shape(0))))[::-1]


def _static(site: Site, axis: int) -> int | None:
    """Size of an axis of input 0 that is the same for all inputs, else None."""
    value = site.input(0)
    size = site.shape(0)[axis]
    return None if value is None or axis in site.facts.dynamic.get(value, ()) else size


def _always(site: Site) -> bool:
    del site
    return True


def _one_operand(site: Site) -> bool:
    return len(site.node.inputs) == 1


def _dropout(site: Site) -> bool:
    if site.input(2) is None:
        return True
    training = site.number(2)
    return training is not None and not training.any()


def _cast(site: Site) -> bool:
    value = site.node.inputs[0]
    return value is not None and site.facts.types.get(value) == site.int_attribute("to", 0)


def _cast_like(site: Site) -> bool:
    types = [site.facts.types.get(v) for v in site.node.inputs if v is not None]
    return len(types) == 2 and types[0] is not None and types[0] == types[1]


def _transpose(site: Site) -> bool:
    permutation = permutation_of(site)
    return permutation == list(range(len(permutation)))


def _flatten(site: Site) -> bool:
    rank = len(site.shape(0))
    axis = site.int_attribute("axis", 1)
    return rank == 2 and axis in (1, -1)


def _reshape(site: Site) -> bool:
    """Every axis is copied (0) or has its own size; one may be left to follow from the others."""
    sizes = site.integers(1, "shape")
    if sizes is None or len(sizes) != len(site.shape(0)) or 0 in site.shape(0):
        return False
    copies = not site.int_attribute("allowzero", 0)
    kept = [(n == 0 and copies) or n == _static(site, axis) for axis, n in enumerate(sizes)]
    return all(k or n == -1 for k, n in zip(kept, sizes, strict=True)) and kept.count(False) <= 1


def _expand(site: Site) -> bool:
    sizes, rank = site.integers(1) or [], len(site.shape(0))
    aligned = range(rank - len(sizes), rank)
    return len(sizes) <= rank and all(
        n in (1, _static(site, axis)) for axis, n in zip(aligned, sizes, strict=True)
    )


def _pad(site: Site) -> bool:
    pads = site.integers(1, "pads")
    return pads is not None and not any(pads)


def _tile(site: Site) -> bool:
    repeats = site.integers(1)
    return repeats is not None and set(repeats) <= {1}


def _slice(site: Site) -> bool:
    starts, ends = site.integers(1, "starts"), site.integers(2, "ends")
    if starts is None or ends is None or any(starts) or set(site.integers(4) or [1]) != {1}:
        return False
    rank = len(site.shape(0))
    axes = np.asarray(site.integers(3, "axes") or range(len(ends))) % max(1, rank)
    sizes = [_static(site, int(axis)) for axis in axes]
    return all(
        end >= _ENDLESS or (size is not None and end >= size) for end, size in zip(ends, sizes, strict=True)
    )


_TESTS: Mapping[str, Callable[[Site], bool]] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Concat": _one_operand,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _always,
    "Max": _one_operand,
    "Mean": _one_operand,
    "Min": _one_operand,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Sum": _one_operand,
    "Tile": _tile,
    "Transpose": _transpose,
}
