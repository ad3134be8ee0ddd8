"""Reshapes and transposes by atoms, against numpy on index tensors."""

from __future__ import annotations

from math import prod
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunec.ir.layout import Layout
from prunec.ir.rule import Rule


def follow(shape: tuple[int, ...], *steps: object) -> Layout:
    """A layout after reshapes (tuples) and transposes (lists)."""
    layout = Layout.of(shape)
    for step in steps:
        if isinstance(step, list):
            layout.transpose(step)
        else:
            assert isinstance(step, tuple)
            assert layout.reshape(step)
    return layout


def replay(rule: Rule, array: np.ndarray) -> np.ndarray:
    """What a relayout's rule says that the op does: split into factors, permute, join."""
    source, target = rule.inputs[0], rule.outputs[0]
    assert source is not None
    assert target is not None
    flat = [f for term in source for f in term]
    parts = array.reshape([rule.sizes[f] for f in flat])
    moved = parts.transpose([flat.index(f) for term in target for f in term])
    return moved.reshape([prod(rule.sizes[f] for f in term) for term in target])


@pytest.mark.parametrize(
    ("shape", "steps", "rule"),
    [
        ((2, 768), [(2, 12, 64)], "a (b c) -> a b c"),
        ((2, 8, 4, 4), [(2, 128)], "a b c d -> a (b c d)"),
        ((2, 6, 5), [(2, 2, 3, 5), [0, 2, 1, 3], (2, 6, 5)], "a (b c) d -> a (c b) d"),
        ((4, 6), [(2, 12)], "(a b) c -> a (b c)"),
        ((1, 6, 1), [(6,)], "1 a 1 -> a"),
        ((6,), [(1, 6, 1)], "a -> 1 a 1"),
        ((2, 3, 4), [[2, 0, 1]], "a b c -> c a b"),
        ((12,), [(4, 3), (2, 6)], "(a b c) -> a (b c)"),
    ],
)
def test_rule_of_a_chain(shape: tuple[int, ...], steps: list[object], rule: str) -> None:
    assert str(follow(shape, *steps).rule()) == rule


def test_sizes_of_the_atoms() -> None:
    rule = follow((2, 768), (2, 12, 64)).rule()
    assert rule.sizes == {"a": 2, "b": 12, "c": 64}


@pytest.mark.parametrize(("shape", "other"), [((6, 4), (4, 6)), ((2, 9, 10), (2, 15, 6)), ((5,), (7,))])
def test_a_reshape_without_common_refinement_leaves_the_layout_alone(
    shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    layout = Layout.of(shape)
    before = (list(layout.sizes), [list(a) for a in layout.source], [list(a) for a in layout.current])
    assert layout.reshape(other) is False
    assert (layout.sizes, layout.source, layout.current) == before


@pytest.mark.parametrize("shape", [(7,), (3, 2), (5,)])
def test_a_reshape_that_loses_elements_is_no_reshape(shape: tuple[int, ...]) -> None:
    assert Layout.of((6, 2)).reshape(shape) is False


def test_rejoined_tells_a_shuffle_from_a_way_back() -> None:
    shuffle = follow((2, 6, 5), (2, 2, 3, 5), [0, 2, 1, 3], (2, 6, 5))
    assert shuffle.rejoined()
    assert not follow((2, 6, 5), (2, 2, 3, 5), (2, 6, 5)).rejoined()
    assert not follow((2, 6, 5), (2, 2, 3, 5), [0, 2, 1, 3]).rejoined()
    assert not follow((2, 6), [1, 0]).rejoined()


def test_extra_inputs_carry_no_data() -> None:
    assert str(follow((2, 6), (12,)).rule(extra_inputs=1)) == "a b, - -> (a b)"


def test_more_than_26_atoms_have_names() -> None:
    rule = follow((2,) * 30).rule()
    assert len(set(rule.sizes)) == 30
    assert rule.outputs == rule.inputs


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], list[object]]:
    """A shape, and reshapes and transposes that fit it."""
    shape = first = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    steps: list[object] = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            permutation = draw(st.permutations(range(len(shape))))
            shape = tuple(shape[a] for a in permutation)
            steps.append(list(permutation))
        else:
            rest, parts = prod(shape), []
            while rest > 1 and len(parts) < 4:
                parts.append(draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0])))
                rest //= parts[-1]
            shape = (*parts, rest) if rest > 1 or not parts else tuple(parts)
            steps.append(shape)
    return first, steps


@settings(max_examples=300, deadline=None, derandomize=True)
@given(chains())
def test_a_followed_chain_is_what_numpy_does(chain: tuple[tuple[int, ...], list[object]]) -> None:
    shape, steps = chain
    layout, array = Layout.of(shape), np.arange(prod(shape)).reshape(shape)
    expected = array
    for step in steps:
        if isinstance(step, list):
            layout.transpose(step)
            expected = expected.transpose(step)
        elif layout.reshape(cast(tuple[int, ...], step)):
            expected = expected.reshape(cast(tuple[int, ...], step))
        else:
            break  # later steps were drawn for a shape that was not reached
    np.testing.assert_array_equal(replay(layout.rule(), array).reshape(expected.shape), expected)
