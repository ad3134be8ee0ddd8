"""Ops of ATen that look along axes or up in tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.ir.form import Form
from prunec.ir.fx.ops.alias import aten, like
from prunec.ir.op import Cut, Op
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.ops.indexing import Along
from prunec.ir.ops.refused import Refused
from prunec.ir.rule import Index, IndexMap, Operand, Pin, Rule, RuleError
from prunec.ir.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvancedIndex(Op):
    """``x[:, index, ...]``: one constant vector moves slots of its axis; anything else looks slots up."""

    def rule(self, site: Site) -> Rule:
        """The axes without an index pass through.

        Raises:
            RuleError: indices stand apart from each other, so that their axes go to the front.
        """
        at = self._indexed(site)
        if at != list(range(at[0], at[0] + len(at))):
            raise RuleError("its indices are not side by side")
        vector = self._vector(site)
        return self._picked(site, at[0], vector) if vector is not None else self._looked_up(site, at)

    def _indexed(self, site: Site) -> list[int]:
        """The axes that have an index."""
        return [i - 1 for i in range(1, len(site.node.inputs)) if site.input(i) is not None]

    def _vector(self, site: Site) -> Index | None:
        """The only index, if it is a known vector of positions."""
        at = self._indexed(site)
        number = site.number(at[0] + 1) if len(at) == 1 else None
        if number is None or number.ndim != 1 or number.dtype.kind not in "iu":
            return None
        return np.asarray(number % site.shape(0)[at[0]], np.int64)

    def _others(self, site: Site) -> list[None]:
        return [None] * (len(site.node.inputs) - 1)

    def _picked(self, site: Site, axis: int, vector: Index) -> Rule:
        data = factors(site.shape(0))
        terms = tuple(() if a == axis else term for a, term in enumerate(data))
        move = IndexMap(input=0, axis=axis, output=0, output_axis=axis, index=vector)
        known = sizes(site.shape(0), terms)
        return Rule(inputs=(terms, *self._others(site)), outputs=(terms,), sizes=known, maps=(move,))

    def _looked_up(self, site: Site, at: list[int]) -> Rule:
        shape, result = site.shape(0), site.output_shape()
        data = factors(shape)
        table = tuple(() if a in at else term for a, term in enumerate(data))
        fresh: Operand = tuple(() for _ in range(len(result) - (len(shape) - len(at))))
        output = (*table[: at[0]], *fresh, *table[at[-1] + 1 :])
        why = f"{site.node.op_type} looks it up by indices"
        pins = [Pin(operand=("in", 0), axis=a, reason=why) for a in at]
        pins += [Pin(operand=("out", 0), axis=at[0] + a, reason=why) for a in range(len(fresh))]
        return Rule(
            inputs=(table, *self._others(site)),
            outputs=(output,),
            sizes=sizes(shape, table),
            pins=tuple(pins),
        )

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Renumber a constant vector."""
        vector = self._vector(site)
        if vector is None:
            return
        axis = self._indexed(site)[0]
        old, new = cut.kept(("in", 0), axis), cut.kept(("out", 0), axis)
        if old is None and new is None:
            return
        size = site.shape(0)[axis]
        kept = np.arange(size) if old is None else old
        position = np.full(size, -1)
        position[kept] = np.arange(len(kept))
        cut.set_input(axis + 1, position[vector if new is None else vector[new]])


@dataclass(frozen=True, slots=True, kw_only=True)
class AlongListed(Along):
    """Works along axes that an operand lists."""

    def axes(self, site: Site) -> set[int]:
        """The listed axes."""
        rank = len(site.shape(0))
        return {axis % rank for axis in site.integers(1) or range(rank)}


def register_ops() -> None:
    """Register the family's ops."""
    axis = Form(attributes={"axis": "dim"})
    everywhere = frozenset({0})
    aten("index.Tensor _unsafe_index.Tensor", AdvancedIndex(zeroed=everywhere, roles={0: "weight"}))
    like("GatherElements", "gather.default", axis)
    like("ScatterElements", "scatter.src scatter_add.default scatter_reduce.two", axis)
    along = Along(named=(("dim", -1),))
    aten(
        "topk.default sort.default sort.stable argsort.default argsort.stable cumsum.default cumprod.default "
        "logcumsumexp.default cummax.default cummin.default",
        along,
    )
    aten("slice_scatter.default", Along(named=(("dim", 0),), alike=(1,)))
    aten("fft_fft.default fft_ifft.default fft_rfft.default fft_irfft.default", along)
    aten(
        "fft_fft2.default fft_ifft2.default fft_rfft2.default fft_irfft2.default",
        AlongListed(),
        Form(operands={1: "dim"}),
    )
    like("Trilu", "tril.default triu.default tril_.default triu_.default")
    counted = (
        "nonzero.default nonzero_numpy.default unique_dim.default _unique2.default masked_select.default"
    )
    found = "item.default _local_scalar_dense.default"
    aten(f"{counted} {found}", Refused(reason="how much it finds depends on the data"))
    aten("index_put.default index_put_.default", Refused(reason="it writes at computed positions"))
