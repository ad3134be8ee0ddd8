"""Which units may exchange places: every exchange that is allowed leaves what the graph computes."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import coupling_of, graph, weights
from coupling_graphs import GRAPHS, coupled
from exchanges import check_exchange, exchanged
from generators.recipe import Recipe, build
from generators.strategies import recipes
from hypothesis import HealthCheck, given, settings

import prunec
from prunec.ir.module import Module
from prunec.passes.coupling.exchange import STAYS, exchange_classes
from prunec.passes.coupling.options import Unit

CYCLE = """
net (float[N,3,2] x) => (float[N,5,2] y) <float[6,3,1] w1, float[5,6,1] w2>
{ a = Conv(x, w1) b = Gather<axis=1>(a, turn) c = Add(a, b) y = Conv(c, w2) }"""

TAPS = """
net (float[N,3,5] x) => (float[N,2,2] y) <float[2,9,1] w>
{ a = Gather<axis=2>(x, taps) b = Reshape(a, s) y = Conv(b, w) }"""

COUNTED = """
net (float[N,3,4] x) => (float[N,2,4] y) <float[4,3,1] w1, float[2,4,1] w2>
{
    a = Conv(x, w1) s = Shape(a) n = Gather(s, one) r = Range(zero, n, one) f = Cast<to=1>(r)
    g = Unsqueeze(f, last) b = Add(a, g) y = Conv(b, w2)
}"""


def classes(module: Module, unit: Unit = "head") -> list[list[int]]:
    coupling = coupling_of(module, unit)
    return [found.tolist() for found in exchange_classes(coupling, coupling.prunable)]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("unit", ["head", "head-dim"])
def test_an_exchange_changes_nothing_that_is_computed(name: str, unit: Unit) -> None:
    module = coupled(name)
    verdict = check_exchange(module, seed=1, unit=unit)
    if verdict is not None:
        assert verdict.equivalence == "same"
        assert verdict.error < 1e-5


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_exchanges_in_random_networks(recipe: Recipe) -> None:
    module = prunec.load(build(recipe))
    for unit in ("head", "head-dim"):
        verdict = check_exchange(module, seed=recipe.seed, unit=unit)
        assert verdict is None or verdict.error < 1e-5


def test_units_of_one_group_are_alike() -> None:
    assert classes(coupled("residual")) == [[0] * 4, [0] * 6]


def test_pieces_of_a_split_are_groups_of_their_own() -> None:
    assert classes(coupled("split")) == [[0] * 4, [0] * 6]


def test_units_that_data_movement_ties_in_other_ranks_are_not_alike() -> None:
    """Channels 0, 1, 2 are turned round, 3, 4, 5 stand in another order than they are turned in."""
    turn = np.array([1, 2, 0, 5, 3, 4])
    module = graph(CYCLE, turn=turn)
    assert len(coupling_of(module).prunable[0].components) == 2
    assert classes(module) == [[0, 1]]
    assert classes(graph(CYCLE, turn=np.array([1, 2, 0, 4, 5, 3]))) == [[0, 0]]


def test_axes_of_an_op_that_makes_their_order_stay() -> None:
    taps = np.array([[0, 2], [1, 3], [2, 4]])
    module = graph(TAPS, taps=taps, s=np.array([0, 9, 2]))
    assert [STAYS] * 3 in classes(module)


def test_shape_arithmetic_keeps_the_order_of_what_it_is_added_to() -> None:
    module = graph(COUNTED, one=np.array(1), zero=np.array(0), last=np.array([1]))
    assert classes(module) == [[STAYS] * 4]


def test_movement_keeps_its_index_tables() -> None:
    module = coupled("slice with steps")
    before, (after, step) = weights(module), exchanged(module)
    moved = {tensor.name for group in step.orders for tensor in group.tensors}
    assert moved
    for name, array in weights(after).items():
        same = np.array_equal(array, before[name])
        assert same == (name not in moved), name


def test_a_shared_vector_that_moves_in_two_ways_gets_copies() -> None:
    text = """
net (float[N,3,2] x) => (float[N,5,2] y) <float[4,3,1] w1, float[4] b, float[4,4,1] w2, float[5,4,1] w3>
{ a = Conv(x, w1, b) c = Relu(a) d = Conv(c, w2, b) e = Relu(d) y = Conv(e, w3) }"""
    module = graph(text)
    after, step = exchanged(module, seed=3)
    copies = [name for name in weights(after) if name.startswith("b_")]
    assert copies == ["b_cut", "b_cut_1"]
    assert {t.uses for g in step.orders for t in g.tensors if t.name == "b"} == {("a:2",), ("d:2",)}
    assert check_exchange(module, seed=3) is not None
