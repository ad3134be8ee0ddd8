"""Second moments: the sums that they stand for, however the rows come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunec.passes.calibration.moments import Moments, output_error


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.booleans())
def test_rows_in_pieces_equal_rows_at_once(pieces: list[int], diagonal: bool) -> None:
    rows = np.random.default_rng(0).standard_normal((2, sum(pieces), 3)).astype(np.float32)
    moments = Moments.zeros(2, 3, diagonal=diagonal)
    for piece in np.split(rows, np.cumsum(pieces)[:-1], axis=1):
        moments.add(piece)
    naive = np.zeros((2, 3, 3))
    for group, samples in enumerate(rows.astype(np.float64)):
        for row in samples:
            naive[group] += np.outer(row, row)
    expected = np.einsum("gcc->gc", naive) if diagonal else naive
    np.testing.assert_allclose(moments.products, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moments.norms, np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert moments.rows == sum(pieces)


def test_output_error_is_the_relative_norm_of_what_changed() -> None:
    rng = np.random.default_rng(1)
    rows, weight, change = (
        rng.standard_normal((2, 20, 5)),
        rng.standard_normal((2, 3, 5)),
        rng.standard_normal((2, 3, 5)),
    )
    moments = Moments.zeros(2, 5)
    moments.add(rows)
    outputs, moved = (rows @ np.swapaxes(matrix, 1, 2) for matrix in (weight, change))
    expected = np.linalg.norm(moved) / np.linalg.norm(outputs)
    assert output_error(weight, change, moments) == pytest.approx(expected, rel=1e-5)
    assert output_error(weight, 0 * change, moments) == 0


def test_output_error_where_nothing_comes_out() -> None:
    weight = np.ones((1, 1, 2))
    assert output_error(weight, weight, Moments.zeros(1, 2)) == 0
    live = Moments.zeros(1, 2)
    live.add(np.ones((1, 1, 2)))
    assert output_error(0 * weight, weight, live) == np.inf
