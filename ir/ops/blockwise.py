"""Weights that are quantised in blocks and packed several to a byte, as language models hold them.

Factors: ``n`` output channels or table rows, ``a`` blocks of the input axis, ``w`` its positions in a block,
``c`` bytes of a block, ``z`` bytes of packed zero points. Whole blocks can go, as far as their zero points
are not packed across blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.op import Cut
from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"

Array = NDArray[Any]


def unpack(packed: Array, bits: int) -> Array:
    """Numbers of a few bits each out of bytes, lowest bits first: ``[..., bytes]`` to ``[..., numbers]``.

    >>> unpack(np.array([0x21, 0x43], np.uint8), 4)
    array([1, 2, 3, 4], dtype=uint8)
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return numbers.reshape(*packed.shape[:-1], -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blockwise(Einsum):
    """An op with a table of packed blocks.

    Attributes:
        table: position of the packed blocks.
        scale: position of their scales; the zero points stand behind.
    """

    table: int
    scale: int
    why: str = "a packed axis"

    def points_are_packed(self, site: Site) -> bool:
        """Whether a byte holds zero points of several blocks."""
        points, scales = site.input(self.scale + 1), site.shape(self.scale)
        return points is not None and prod(site.shape(self.scale + 1)) != prod(scales)

    def block(self, site: Site, size: int, blocks: int) -> int | None:
        """Positions in a block of an axis; None where the last block is not full."""
        positions = site.int_attribute("block_size", 128)
        return positions if positions * blocks == size else None

    def real(self, site: Site, position: int) -> Array | None:
        """``(q - zero point) * scale`` for the table, as ``[..., bytes, numbers in a byte]``."""
        table, scales = site.constant(self.table), site.constant(self.scale)
        if position != self.table or table is None or table.dtype != np.uint8 or scales is None:
            return None
        bits = site.int_attribute("bits", 4)
        scales = scales.reshape(table.shape[0], -1).astype(np.float32)
        points = self._points(site, bits, scales.shape)
        numbers = unpack(table.reshape(*scales.shape, -1), bits).astype(np.float32)
        values: Array = (numbers - points[..., None]) * scales[..., None]
        return values.reshape(*table.shape, -1)

    def _points(self, site: Site, bits: int, shape: tuple[int, ...]) -> Array:
        points = site.constant(self.scale + 1)
        if points is None:
            return np.full(shape, 2.0 ** (bits - 1), np.float32)
        if points.dtype == np.uint8:
            points = unpack(points.reshape(shape[0], -1), bits)[:, : shape[1]]
        return points.reshape(shape).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMulNBits(Blockwise):
    """``Y = A * dequantise(B)^T``."""

    def rule(self, site: Site) -> Rule:
        """``*m (a w), n a c, n a, n a, -, n -> *m n``; the input axis keeps its blocks where their zero points
        share bytes.

        Raises:
            RuleError: the weight has an order of its own.
        """
        if site.has(4) or site.int_attribute("weight_prepacked", 0):
            raise RuleError("its weight is stored in an order of its own")
        size, blocks = site.shape(0)[-1], site.shape(1)[1]
        block = self.block(site, size, blocks)
        packed = self.points_are_packed(site)
        flat = ["(n a)" if len(site.shape(2)) == 1 else "n a"]
        if site.has(3):
            letter = "z" if packed else "a"
            flat.append(f"(n {letter})" if len(site.shape(3)) == 1 else f"n {letter}")
        flat += ["-"] * (3 - len(flat))
        rows = "k" if block is None else "(a w)"
        fixed = f"{self.fixed} a" if packed or block is None else self.fixed
        known = {} if block is None else {"w": block}
        text = f"*m {rows}, n a c, {', '.join(flat)}, n -> *m n"
        return replace(self, fixed=fixed).fitted(site, text, known)

    def rewrite(self, site: Site, cut: Cut) -> None:
        """The sizes in the attributes."""
        block = self.block(site, site.shape(0)[-1], site.shape(1)[1])
        rows = site.shape(0)[-1] if block is None else block * cut.factor("a")
        cut.set_numbers({"N": cut.factor("n"), "K": rows})

    def macs(self, rule: Rule) -> int:
        """Rows times columns of the weight for every row of the input."""
        axes = rule.inputs[0] or ()
        return rule.sizes["n"] * prod(rule.sizes[f] for term in axes for f in term)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherBlockQuantized(Blockwise):
    """Rows of a packed table, dequantised."""

    def rule(self, site: Site) -> Rule:
        """``n (a c), *i, n a, n a -> *i (a w)``; blocks stay where their zero points share bytes.

        Raises:
            RuleError: something else than rows is gathered, or something else than columns is in blocks.
        """
        axes = (site.int_attribute("gather_axis", 0), site.int_attribute("quantize_axis", 1) % 2)
        if len(site.shape(0)) != 2 or axes != (0, 1):
            raise RuleError("its blocks do not lie along the rows of a table")
        size, blocks = site.output_shape()[-1], site.shape(self.scale)[-1]
        block = self.block(site, size, blocks)
        if block is None:
            raise RuleError(f"{size} positions are not {blocks} full blocks")
        packed = self.points_are_packed(site)
        fixed = f"{self.fixed} a" if packed else self.fixed
        text = f"n (a c), *i, n a, n {'z' if packed else 'a'} -> *i (a w)"
        return replace(self, fixed=fixed).fitted(site, text, {"a": blocks, "w": block})


def register_ops() -> None:
    """Register the family's ops."""
    matmul = MatMulNBits(
        text="",
        table=1,
        scale=2,
        reduced="a",
        fixed="k w c z",
        roles={1: "weight", 5: "bias"},
        linear=True,
        zeroed=frozenset({2, 5}),
    )
    register("MatMulNBits", matmul, domain=_CONTRIB)
    gather = GatherBlockQuantized(
        text="", table=0, scale=2, fixed="n w c z", roles={0: "weight"}, zeroed=frozenset({2})
    )
    register("GatherBlockQuantized", gather, domain=_CONTRIB)
