"""SparseGPT on plain matrices: against least squares where that is exact, and against what it is to beat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunec.passes.sparsity.sparsegpt import Keep, inverse_factor, sparsegpt, update_kept

Floats = NDArray[np.float32]


def half_of_fours(costs: NDArray[np.floating]) -> Keep:
    """Of every four columns the two that cost most."""
    groups = costs.reshape(*costs.shape[:2], -1, 4)
    return (np.argsort(np.argsort(-groups, axis=3), axis=3) < 2).reshape(costs.shape)


def inputs(columns: int, rows: int = 400, seed: int = 0) -> Floats:
    """Rows whose columns depend on each other, [1, rows, columns]."""
    rng = np.random.default_rng(seed)
    factors = max(columns // 4, 1)
    shared = rng.standard_normal((1, rows, factors)) @ rng.standard_normal((factors, columns))
    return (shared + rng.standard_normal((1, rows, columns))).astype(np.float32)


def hessian_of(rows: Floats) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.asarray(np.swapaxes(wide, 1, 2) @ wide)


def weight(rows: int, columns: int, seed: int = 7) -> Floats:
    return np.random.default_rng(seed).standard_normal((1, rows, columns)).astype(np.float32)


def error(new: Floats, old: Floats, rows: Floats) -> float:
    return float(np.linalg.norm((new - old) @ np.swapaxes(rows, 1, 2)))


def test_the_factor_is_that_of_the_inverse() -> None:
    hessian = np.concatenate([hessian_of(inputs(9, seed=seed)) for seed in range(3)])
    factor = inverse_factor(hessian, damping=0).astype(np.float64)
    np.testing.assert_allclose(
        np.swapaxes(factor, 1, 2) @ factor, np.linalg.inv(hessian), rtol=1e-3, atol=1e-6
    )
    assert np.array_equal(factor, np.triu(factor))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=4, max_size=10), st.integers(0, 100))
def test_columns_behind_the_last_removed_one_are_fitted_exactly(removed: list[bool], seed: int) -> None:
    """Weights that were passed stay as they are; for those behind them the update is the least-squares solution."""
    columns = len(removed) + 4
    keep = np.array([not r for r in removed] + [True] * 4)
    rows, old = inputs(columns, seed=seed), weight(1, columns, seed)
    new = update_kept(old, hessian_of(rows), keep[None, None], damping=0)
    last = max((i for i, r in enumerate(removed) if r), default=-1)
    free = np.arange(columns) > last
    wanted = rows[0].astype(np.float64) @ (old[0, 0] - np.where(free, 0, new[0, 0]))
    solution = np.linalg.lstsq(rows[0][:, free].astype(np.float64), wanted, rcond=None)[0]
    np.testing.assert_allclose(new[0, 0, free], solution, rtol=1e-3, atol=1e-3)
    assert not new[0, 0, ~keep].any()


def test_one_removed_column_is_the_optimal_brain_surgeon() -> None:
    """Removing the first weight alone: ``w - w_0 / [H^-1]_00 * H^-1[0]`` (Hassibi and Stork 1993, eq. 5)."""
    rows, old = inputs(6), weight(3, 6)
    hessian = hessian_of(rows)
    keep = np.ones((1, 3, 6), bool)
    keep[:, :, 0] = False
    inverse = np.linalg.inv(hessian[0])
    expected = old[0] - old[0, :, :1] / inverse[0, 0] * inverse[0]
    np.testing.assert_allclose(update_kept(old, hessian, keep, damping=0)[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("columns", [64, 128, 300])
def test_the_error_is_far_below_that_of_a_mask_alone(columns: int) -> None:
    rows, old = inputs(columns, rows=4 * columns), weight(24, columns)
    new, keep = sparsegpt(old, hessian_of(rows), half_of_fours, step=4)
    assert np.array_equal(keep.reshape(1, 24, -1, 4).sum(axis=3), np.full((1, 24, columns // 4), 2))
    assert not new[~keep].any()
    masked = np.where(half_of_fours(np.abs(old)), old, 0)
    assert error(new, old, rows) < 0.7 * error(masked, old, rows)


@pytest.mark.parametrize("block", [4, 8, 1000])
def test_blocks_change_nothing_but_the_order_of_sums(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, old = inputs(40), weight(5, 40)
    expected, kept = sparsegpt(old, hessian_of(rows), half_of_fours, step=4)
    monkeypatch.setattr("prunec.passes.sparsity.sparsegpt.BLOCK", block)
    new, keep = sparsegpt(old, hessian_of(rows), half_of_fours, step=4)
    assert np.array_equal(keep, kept)
    np.testing.assert_allclose(new, expected, rtol=1e-3, atol=1e-4)


def test_groups_are_layers_of_their_own() -> None:
    rows = np.concatenate([inputs(8, seed=seed) for seed in (1, 2)])
    old = np.concatenate([weight(3, 8, seed) for seed in (3, 4)])
    both = sparsegpt(old, hessian_of(rows), half_of_fours, step=4)[0]
    for group in (0, 1):
        one = slice(group, group + 1)
        alone = sparsegpt(old[one], hessian_of(rows[one]), half_of_fours, step=4)[0]
        np.testing.assert_allclose(both[one], alone, rtol=1e-5)


def test_inputs_that_are_always_zero_lose_their_weights_first() -> None:
    rows, old = inputs(8), weight(3, 8)
    rows[:, :, [1, 2, 7]] = 0
    new, keep = sparsegpt(old, hessian_of(rows), half_of_fours, step=4)
    assert not new[:, :, [1, 2, 7]].any()
    assert keep[0].tolist() == [[True, False, False, True, *row] for row in keep[0, :, 4:].tolist()]
    assert np.isfinite(new).all()


@pytest.mark.parametrize("damping", [0.01, 0.0])
def test_fewer_rows_than_columns_are_damped(damping: float) -> None:
    rows, old = inputs(32, rows=5), weight(4, 32)
    new, _ = sparsegpt(old, hessian_of(rows), half_of_fours, step=4, damping=damping)
    assert np.isfinite(new).all()
    assert error(new, old, rows) < error(np.where(half_of_fours(np.abs(old)), old, 0), old, rows)


def test_no_inputs_at_all_leave_no_weights() -> None:
    new, keep = sparsegpt(weight(2, 8), np.zeros((1, 8, 8)), half_of_fours, step=4)
    assert not new.any()
    assert keep.sum() == 8
