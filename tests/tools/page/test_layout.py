"""Where nodes go: in order from the top down, none on another, edges past boxes and not through them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prunec.tools.page.layout import MOST_ROUTES, arrange, lane_positions


def test_a_chain_goes_straight_down() -> None:
    found = arrange([[], [0], [1], [2]], anchors={0})
    assert (found.layers, found.lanes, found.routes) == ([0, 1, 2, 3], [0, 0, 0, 0], {})


def test_a_shortcut_runs_beside_the_branch_and_the_trunk_goes_on_in_its_lane() -> None:
    found = arrange([[], [0], [1], [2, 0], [3]], anchors={0})
    assert found.layers == [0, 1, 2, 3, 4]
    assert found.lanes == [0, 0, 0, 0, 0]
    assert found.routes == {0: 1}
    assert lane_positions(found, wide=200, narrow=20) == {0: 100, 1: 210}


def test_branches_lie_beside_each_other() -> None:
    found = arrange([[], [0], [0], [0], [1, 2, 3]], anchors={0})
    assert sorted(found.lanes[1:4]) == [-1, 0, 1]
    assert found.lanes[4] == 0


def test_what_depends_on_no_input_lies_above_its_reader() -> None:
    found = arrange([[], [0], [1], [], [3], [2, 4]], anchors={0})
    assert found.layers == [0, 1, 2, 1, 2, 3]


def test_an_empty_graph_has_an_empty_layout() -> None:
    assert arrange([], anchors=set()).layers == []


def test_outputs_read_from_afar_get_lanes_of_their_own_up_to_a_number() -> None:
    sources = MOST_ROUTES + 30
    chain = [[sources - 1], [sources], [sources + 1]]
    found = arrange([*([[]] * sources), *chain, list(range(sources + 3))], anchors=set(range(sources)))
    assert len(found.routes) == MOST_ROUTES


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    count = draw(st.integers(1, 40))
    return [
        sorted(draw(st.sets(st.integers(0, node - 1), max_size=4))) if node else [] for node in range(count)
    ]


@given(graphs(), st.integers(0, 5))
def test_nothing_lies_on_anything_else(producers: list[list[int]], inputs: int) -> None:
    found = arrange(producers, anchors=set(range(inputs)))
    edges = [(source, target) for target, sources in enumerate(producers) for source in sources]
    assert all(found.layers[a] < found.layers[b] for a, b in edges)
    taken = list(zip(found.layers, found.lanes, strict=True))
    for source, lane in found.routes.items():
        last = max(found.layers[t] for s, t in edges if s == source)
        taken += [(layer, lane) for layer in range(found.layers[source] + 1, last)]
    assert len(taken) == len(set(taken))
    far = {s for s, t in edges if found.layers[t] - found.layers[s] > 1}
    assert far == set(found.routes)
    middles = [x for _, x in sorted(lane_positions(found, wide=200, narrow=20).items())]
    assert all(b - a >= 20 for a, b in pairwise(middles))
