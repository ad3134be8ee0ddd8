"""Parts of work that fit into memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from prunec.passes.calibration.packing import packed

SIZES = {"a": 1, "b": 3, "c": 5, "d": 9}


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcd")), max_size=12), st.integers(0, 20))
def test_parts_keep_the_order_fit_and_are_not_cut_needlessly(needs: list[set[str]], room: int) -> None:
    def held(numbers: list[int]) -> int:
        return sum(SIZES[name] for name in {name for n in numbers for name in needs[n]})

    parts = packed([(n, {name: SIZES[name] for name in need}) for n, need in enumerate(needs)], room)
    assert [number for part in parts for number in part] == list(range(len(needs)))
    assert all(held(part) <= room or len(part) == 1 for part in parts)
    assert all(held([*part, following[0]]) > room for part, following in pairwise(parts))
