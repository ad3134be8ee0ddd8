"""Which units go: exact shares, rounding, limits, ranking, and axes that are never emptied."""

from __future__ import annotations

from itertools import pairwise
from math import gcd

import numpy as np
import pytest
from core_graphs import coupling_of, graph, prune, shape_of
from coupling_graphs import coupled
from generators import models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.coupling.groups import Coupling
from prunec.passes.pipeline import parse_pipeline
from prunec.passes.pruning.importance import Importance
from prunec.passes.pruning.selection import Policy, Scope, _apportion, removed_components, select


def policy(
    ratio: float, *, scope: Scope = "local", round_to: int = 1, min_channels: int = 1, max_ratio: float = 1.0
) -> Policy:
    return Policy(ratio=ratio, scope=scope, round_to=round_to, min_channels=min_channels, max_ratio=max_ratio)


def chain(*widths: int) -> Module:
    """MatMuls in a row whose hidden widths are prunable: w0 [3, widths[0]], w1 [widths[0], widths[1]], ..."""
    sizes = [3, *widths, 2]
    declared = ", ".join(f"float[{a},{b}] w{i}" for i, (a, b) in enumerate(pairwise(sizes)))
    names = ["x", *(f"h{i}" for i in range(len(widths))), "y"]
    nodes = " ".join(f"{b} = MatMul({a}, w{i})" for i, (a, b) in enumerate(pairwise(names)))
    return graph(f"net (float[N,3] x) => (float[N,2] y) <{declared}> {{ {nodes} }}")


def chosen(module: Module, scores: list[list[float]] | None, rules: Policy) -> list[list[int]]:
    """The removed units of every prunable group."""
    coupling = coupling_of(module)
    groups = coupling.prunable
    given = [np.array(s) for s in scores] if scores else [np.arange(g.units) + 1.0 for g in groups]
    return [units.tolist() for units in select(coupling, groups, given, rules)]


# -- shares ------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "removed"), [(0.29, 29), (0.5, 50), (0.07, 7), (0.999, 99), (0.0, 0), (0.005, 0)]
)
def test_the_share_is_exact(ratio: float, removed: int) -> None:
    assert chosen(chain(100), None, policy(ratio)) == [list(range(removed))]


def test_the_least_important_go_and_ties_go_in_order() -> None:
    assert chosen(chain(6), [[3, 1, 2, 1, 5, 1]], policy(0.5)) == [[1, 3, 5]]
    assert chosen(chain(6), [[3, 1, 2, 1, 5, 1]], policy(0.34)) == [[1, 3]]
    assert chosen(chain(4), [[0, 0, 0, 0]], policy(0.5)) == [[0, 1]]


def test_local_takes_the_share_from_every_group() -> None:
    assert chosen(chain(4, 8), [[9] * 4, [1] * 8], policy(0.5)) == [[0, 1], [0, 1, 2, 3]]


def test_global_ranks_relative_to_the_mean_of_the_group() -> None:
    scores = [[1, 1, 1, 1], [100, 100, 1, 1, 199, 199, 100, 100]]
    assert chosen(chain(4, 8), scores, policy(0.17, scope="global")) == [[], [2, 3]]


def test_global_takes_its_share_of_all_units() -> None:
    for ratio in (0.1, 0.25, 0.5, 0.75):
        removed = chosen(chain(10, 30, 8), None, policy(ratio, scope="global"))
        assert sum(map(len, removed)) == int(ratio * 48)


def test_global_hands_on_what_a_limit_forbids() -> None:
    scores = [[1, 1, 1, 97], [5, 5, 5, 5]]
    removed = chosen(chain(4, 4), scores, policy(0.5, scope="global", max_ratio=0.5))
    assert removed == [[0, 1], [0, 1]]


def test_nothing_to_choose_from() -> None:
    assert select(coupling_of(chain(4)), [], [], policy(0.5)) == []


# -- limits and rounding ------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (policy(0.5, round_to=8), 16), (policy(0.4, round_to=8), 24), (policy(0.6, round_to=8), 16),
        (policy(0.61, round_to=8), 16), (policy(0.1, round_to=8), 32), (policy(0.9, round_to=8), 8),
        (policy(0.5, round_to=5), 15), (policy(0.9, min_channels=10), 10), (policy(0.9, max_ratio=0.25), 24),
        (policy(0.5, round_to=64), 32), (policy(0.9, round_to=8, min_channels=9), 16), (policy(0.99), 1),
    ],
)  # fmt: skip
def test_what_stays_of_32_channels(rules: Policy, kept: int) -> None:
    assert 32 - len(chosen(chain(32), None, rules)[0]) == kept


def test_halfway_between_two_multiples_more_stays() -> None:
    assert policy(0.5, round_to=8).rounded(12, 32, 1) == 8


def test_a_unit_of_several_slots_counts_them_all() -> None:
    """Heads of size 2: a multiple of 4 slots is a multiple of 2 heads; 5 slots are 3 heads."""
    rules = policy(0.5, round_to=4, min_channels=5)
    assert rules.limit(8, 2) == 5
    assert rules.rounded(5, 8, 2) == 4
    assert rules.rounded(4, 8, 2) == 4
    assert rules.rounded(1, 8, 2) == 0


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.integers(1, 200),
    st.integers(1, 9),
    st.integers(0, 200),
    st.integers(1, 40),
    st.integers(1, 50),
    st.floats(0, 1),
)
def test_rounding_stays_within_limits_and_is_nearest(
    units: int, width: int, count: int, round_to: int, least: int, most: float
) -> None:
    rules = policy(0.5, round_to=round_to, min_channels=least, max_ratio=most)
    limit, step = rules.limit(units, width), round_to // gcd(round_to, width)
    count = min(count, units)
    result = rules.rounded(count, units, width)
    assert 0 <= result <= limit < units
    assert limit == 0 or (units - limit) * width >= least
    assert result <= most * units + 1e-6
    if count and result:
        assert (units - result) % step == 0
        wanted = min(count, limit)
        allowed = [n for n in range(limit + 1) if (units - n) % step == 0]
        assert abs(result - wanted) == min(abs(n - wanted) for n in allowed)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_what_a_cluster_loses_is_distributed_in_proportion(data: st.DataObject) -> None:
    units = np.array(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=6)))
    count = data.draw(st.integers(0, int(units.sum())))
    result = _apportion(count, units * 0.5, units)
    assert result.sum() == count
    assert (result <= units).all()
    assert (np.abs(result - units * count / units.sum()) <= 1).all()


def test_many_small_groups_of_one_axis_lose_their_share_together() -> None:
    """A gather breaks six channels into groups of 3, 1 and 2; half of six is three, not 1 + 0 + 1."""
    result = prune(coupled("gather"), 0.5)
    assert shape_of(result.module, "w1")[0] == 3


# -- axes are never emptied ------------------------------------------------------------


def sliced(scores: list[float]) -> list[list[int]]:
    """Channels 0 and 1 of six are read by a layer of their own; five of the six are to go."""
    text = """net (float[N,3,8] x) => (float[N,5,8] y) <float[6,3,1] w1, float[5,2,1] w2, float[5,6,1] w3,
        int64[1] first = {0}, int64[1] last = {2}, int64[1] axis = {1}>
        { a = Conv(x, w1) b = Slice(a, first, last, axis) c = Conv(b, w2) d = Conv(a, w3) y = Add(c, d) }"""
    coupling = coupling_of(graph(text))
    assert [g.units for g in coupling.prunable] == [2, 4]
    values = [np.array(scores), np.arange(4.0)]
    return [u.tolist() for u in select(coupling, coupling.prunable, values, policy(0.9))]


@pytest.mark.parametrize(("scores", "removed"), [([1, 2], [0]), ([2, 1], [1])])
def test_a_slice_keeps_its_most_important_channel(scores: list[float], removed: list[int]) -> None:
    assert sliced(scores) == [removed, [0, 1, 2]]


def kept_of_every_axis(coupling: Coupling, removed: np.ndarray) -> list[int]:
    return [int((~removed[labels]).sum()) for labels, _ in coupling.axis_sizes()]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    models(max_steps=4),
    st.sampled_from([0.3, 0.6, 0.95]),
    st.sampled_from(["local", "global"]),
    st.integers(1, 4),
)
def test_no_choice_empties_a_group_or_an_axis(
    model: ModelProto, ratio: float, scope: Scope, round_to: int
) -> None:
    coupling = coupling_of(prunec.load(model))
    groups = coupling.prunable
    importance = Importance(coupling, "random")
    rules = policy(ratio, scope=scope, round_to=round_to, max_ratio=1.0)
    units = select(coupling, groups, [importance.score(g) for g in groups], rules)
    removed = removed_components(coupling, groups, units)
    assert all(kept >= 1 for kept in kept_of_every_axis(coupling, removed))
    assert not (removed & ~coupling.components.free).any()


def test_a_limit_below_the_share_is_a_mistake() -> None:
    with pytest.raises(UserError) as caught:
        parse_pipeline("prune-channels{ratio=50% max-ratio=0.3}")
    assert caught.value.render() == (
        "error: <pipeline>:1:1: max-ratio=0.3 is below ratio=0.5, which could then never be reached\n"
        "  1 | prune-channels{ratio=50% max-ratio=0.3}\n"
        "    | ^^^^^^^^^^^^^^\n"
        "  = help: lower `ratio` or raise `max-ratio`"
    )


def test_channels_are_rounded_where_they_are_made_not_where_positions_of_them_are_read() -> None:
    text = """
    net (float[N,3,2,2] x) => (float[N,5] y) <float[24,3,1,1] w0, float[96,5] v>
    { a = Conv(x, w0)  b = Flatten(a)  y = MatMul(b, v) }"""
    module = graph(text)
    (group,) = coupling_of(module).prunable
    assert (group.channels, group.width) == (1, 4)
    result = prune(module, 0.3, round_to=8)
    assert (shape_of(result.module, "w0")[0], shape_of(result.module, "v")[0]) == (16, 64)


def test_a_recurrent_layer_is_rounded_by_its_hidden_size() -> None:
    text = """
    net (float[7,N,3] x) => (float[N,5] y) <float[1,96,3] w, float[1,96,24] r, float[24,5] v>
    { s, h, c = LSTM<hidden_size=24>(x, w, r)  i = Constant<value_ints=[0]>()  q = Squeeze(h, i)  y = MatMul(q, v) }"""
    module = graph(text)
    (group,) = coupling_of(module).prunable
    assert (group.channels, group.width) == (1, 4)
    assert shape_of(prune(module, 0.3, round_to=8).module, "v") == (16, 5)
