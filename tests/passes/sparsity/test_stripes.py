"""Which stripes of which layers a group is searched in."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import coupling_of, graph

from prunec.ir.module import Module
from prunec.passes.coupling.options import Unit
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.permutation import kept_magnitude
from prunec.passes.sparsity.reorder import find_orders
from prunec.passes.sparsity.stripes import Found

OFFSET = """
net (float[N,3,4] x) => (float[N,6,4] y)
<float[{first},3,1] w1, float[16,3,1] w2, float[6,{both},1] w3, float[4,16,1] w4>
{{
    a = Conv(x, w1) b = Conv(x, w2) c = Concat<axis=1>(a, b) d = Conv(c, w3)
    e = Conv(b, w4) f = Concat<axis=1>(e, a) p = GlobalAveragePool(f) q = Flatten(p) y = Add(d, z)
}}"""
INTERLEAVED = """
net (float[2,3,4] x) => (float[2,5,4] y) <float[8,3,1] w1, float[8,3,1] w2, float[5,16,1] w3>
{
    a = Conv(x, w1) r = Relu(a) b = Conv(x, w2) c = Concat<axis=1>(r, b)
    d = Reshape(c, apart) e = Transpose<perm=[0,2,1,3]>(d) f = Reshape(e, together) y = Conv(f, w3)
}"""
FLAT = """
net (float[2,3,{n},1] x) => (float[2,5] y) <float[8,3,1,1] w1, float[5,{flat}] w2>
{{ a = Conv(x, w1) f = Flatten(a) y = Gemm<transB=1>(f, w2) }}"""


def orders(module: Module, n: int = 2, m: int = 4, unit: Unit = "head") -> dict[str, Found]:
    """Per group, by its first tensor, what was found."""
    coupling = coupling_of(module, unit)
    layers = find_layers(module.model, coupling.facts).layers
    found = find_orders(coupling, coupling.prunable, layers, n, m)
    return {group.members[0].name: result for group, result in found}


def moving(found: Found) -> list[int]:
    return np.flatnonzero(found.order != np.arange(len(found.order))).tolist()


def test_channels_of_a_shuffle_move_between_those_of_the_other_branch() -> None:
    module = graph(INTERLEAVED, apart=np.array([2, 2, 8, 4]), together=np.array([2, 16, 4]))
    found = orders(module)
    assert set(found) == {"w1", "w2"}
    assert all(result.gain > 0 for result in found.values())


@pytest.mark.parametrize(("first", "whole"), [(4, True), (6, False)])
def test_a_group_behind_an_offset(first: int, whole: bool) -> None:
    """Where two layers divide the channels differently, most rows decide, and the sum of both has to gain."""
    module = graph(OFFSET.format(first=first, both=first + 16), z=np.zeros((1, 6, 1), np.float32))
    found = orders(module, m=2, n=1)["w2"]
    assert found.gain > 0
    assert len(moving(found)) > 8 or not whole


@pytest.mark.parametrize(("pixels", "gains"), [(1, True), (4, False), (2, False)])
def test_columns_of_one_unit_in_a_row(pixels: int, gains: bool) -> None:
    """Units that fill whole stripes, or stand twice in one, have no better neighbours."""
    found = orders(graph(FLAT.format(n=pixels, flat=8 * pixels)))["w1"]
    assert (found.gain > 0) == gains
    assert found.efficacy >= 0


def test_what_is_found_is_what_the_pattern_keeps() -> None:
    module = graph(FLAT.format(n=1, flat=8))
    found = orders(module)["w1"]
    [layer] = [la for la in find_layers(module.model, coupling_of(module).facts).layers if la.shape[-1] == 8]
    matrix = layer.weights().reshape(5, 8)
    assert found.kept == pytest.approx(kept_magnitude(matrix, 2, 4))
    assert found.kept + found.gain == pytest.approx(kept_magnitude(matrix[:, found.order], 2, 4))


def test_a_layer_without_whole_stripes_is_not_searched() -> None:
    assert orders(graph(FLAT.format(n=1, flat=8)), n=2, m=5) == {}
