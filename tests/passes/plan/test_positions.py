"""Positions in tensors of the input file, against sets of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunec.ir.diagnostics import UserError
from prunec.passes.plan import GroupCut, GroupOrder, Step, TensorCut, TensorOrder
from prunec.passes.plan.positions import Positions


def step(*removed: int, name: str = "w", uses: tuple[str, ...] = ()) -> Step:
    cut = TensorCut(name=name, axis=0, removed=removed, uses=uses)
    group = GroupCut(id="g1", units=9, removed=(0,), equivalence="masked", tensors=(cut,))
    return Step(pass_name="p", groups=(group,))


def order_step(*order: int) -> Step:
    tensor = TensorOrder(name="w", axis=0, order=order)
    return Step(pass_name="p", orders=(GroupOrder(id="g1", units=9, order=(1, 0), tensors=(tensor,)),))


def removed(of: Step) -> tuple[int, ...]:
    return of.groups[0].tensors[0].removed


def test_nothing_moves_before_the_first_removal() -> None:
    positions = Positions()
    assert removed(positions.to_original(step(0, 5))) == (0, 5)
    assert removed(positions.to_current(step(0, 5))) == (0, 5)


def test_positions_behind_a_gap_move() -> None:
    positions = Positions()
    positions.record(step(1, 2, 6))
    assert removed(positions.to_original(step(0, 1, 3, 4))) == (0, 3, 5, 7)
    assert removed(positions.to_current(step(0, 3, 5, 7))) == (0, 1, 3, 4)


def test_tensors_axes_and_uses_are_separate() -> None:
    positions = Positions()
    positions.record(step(0, name="w"))
    assert removed(positions.to_original(step(0, name="v"))) == (0,)
    assert removed(positions.to_original(step(0, uses=("a:2",)))) == (0,)
    assert removed(positions.to_original(step(0))) == (1,)


def test_what_is_gone_cannot_go_again() -> None:
    positions = Positions()
    positions.record(step(1, 4))
    with pytest.raises(UserError, match="the plan removes index 4 of axis 0 of 'w' twice"):
        positions.to_current(step(0, 4))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sets(st.integers(0, 19), max_size=6), max_size=4))
def test_a_sequence_of_removals(rounds: list[set[int]]) -> None:
    """Whatever was removed in whatever order, both directions agree with a list that shrinks."""
    positions, alive = Positions(), list(range(20))
    for wanted in rounds:
        now = sorted(i for i in wanted if i < len(alive))
        original = tuple(alive[i] for i in now)
        assert removed(positions.to_original(step(*now))) == original
        assert removed(positions.to_current(step(*original))) == tuple(now)
        positions.record(step(*original))
        alive = [n for n in alive if n not in original]


def test_what_is_gone_cannot_move() -> None:
    positions = Positions()
    positions.record(step(1))
    with pytest.raises(UserError, match="the plan moves index 1 of axis 0 of 'w' after it is removed"):
        positions.to_current(order_step(1, 0))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.permutations(range(12))), max_size=6), st.integers(2, 5))
def test_removals_and_orders_in_any_sequence(rounds: list[tuple[bool, list[int]]], count: int) -> None:
    """Both directions agree with a list that shrinks and is put in order."""
    positions, alive = Positions(), list(range(20))
    for is_order, picks in rounds:
        now = [i for i in picks if i < len(alive)][:count]
        current = order_step(*now) if is_order else step(*sorted(now))
        original = positions.to_original(current)
        assert positions.to_current(original) == current
        positions.record(original)
        if is_order:
            assert original.orders[0].tensors[0].order == tuple(alive[i] for i in now)
            content = [alive[i] for i in now]
            for place, slot in zip(sorted(now), content, strict=True):
                alive[place] = slot
        else:
            assert set(removed(original)) == {alive[i] for i in now}
            alive = [slot for i, slot in enumerate(alive) if i not in now]
