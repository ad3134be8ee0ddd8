"""The masks that a plan ends with."""

from __future__ import annotations

import numpy as np

from prunec.passes.plan.masks import WeightMask
from prunec.passes.plan.schema import GroupCut, GroupOrder, Step, TensorCut, TensorOrder
from prunec.passes.training.masks import final_masks

KEEP = np.arange(24).reshape(4, 6) % 3 > 0


def masked(keep: np.ndarray) -> Step:
    return Step(pass_name="sparsify", masks=(WeightMask.of("w", keep, pattern="unstructured"),))


def cut(*axes: tuple[int, tuple[int, ...]]) -> Step:
    groups = [
        GroupCut(
            id=f"g{i}",
            units=4,
            removed=slots,
            equivalence="masked",
            tensors=(TensorCut(name="w", axis=axis, removed=slots),),
        )
        for i, (axis, slots) in enumerate(axes)
    ]
    return Step(pass_name="prune-channels", groups=tuple(groups))


def order(axis: int, slots: tuple[int, ...]) -> Step:
    tensors = (TensorOrder(name="w", axis=axis, order=slots),)
    groups = (GroupOrder(id="g1", units=6, order=slots, tensors=tensors),)
    return Step(pass_name="permute-channels", orders=groups)


def test_masks_of_one_tensor_add_up() -> None:
    other = np.arange(24).reshape(4, 6) % 2 > 0
    assert np.array_equal(final_masks((masked(KEEP), masked(other)))["w"], KEEP & other)


def test_cuts_before_a_mask_leave_it_and_later_ones_cut_it() -> None:
    steps = (cut((0, (1,))), masked(KEEP), cut((1, (0,)), (1, (4,))))
    assert np.array_equal(final_masks(steps)["w"], KEEP[:, [1, 2, 3, 5]])


def test_positions_are_those_of_the_input_file() -> None:
    steps = (masked(KEEP), cut((1, (0,))), cut((1, (1, 2)), (0, (3,))))
    assert np.array_equal(final_masks(steps)["w"], KEEP[:3, 3:])


def test_orders_move_masks() -> None:
    steps = (masked(KEEP), order(1, (5, 0, 1)), cut((1, (5,))))
    assert np.array_equal(final_masks(steps)["w"], KEEP[:, [0, 2, 3, 4, 1]])
