"""Second moments: the sums that they stand for, however the rows come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunec.passes.calibration.moments import Moments, output_errors


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.sampled_from([3, 70]), st.booleans())
def test_rows_in_pieces_equal_rows_at_once(pieces: list[int], columns: int, diagonal: bool) -> None:
    rows = np.random.default_rng(0).standard_normal((2, sum(pieces), columns)).astype(np.float32)
    moments = Moments(2, columns, diagonal=diagonal)
    for piece in np.split(rows, np.cumsum(pieces)[:-1], axis=1):
        moments.add(piece)
    naive = np.zeros((2, columns, columns))
    for group, samples in enumerate(rows.astype(np.float64)):
        for row in samples:
            naive[group] += np.outer(row, row)
    if not diagonal:
        np.testing.assert_allclose(moments.products(), naive, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moments.norms(), np.linalg.norm(rows, axis=1), rtol=1e-5)
    assert moments.rows == sum(pieces)


def test_output_error_is_the_relative_norm_of_what_changed() -> None:
    rng = np.random.default_rng(1)
    rows, weight, change = (
        rng.standard_normal((2, 20, 5)),
        rng.standard_normal((2, 3, 5)),
        rng.standard_normal((2, 3, 5)),
    )
    moments = Moments(2, 5)
    moments.add(rows)
    outputs, moved = (rows @ np.swapaxes(matrix, 1, 2) for matrix in (weight, change))
    expected = np.linalg.norm(moved) / np.linalg.norm(outputs)
    found = output_errors(weight, [change, 0 * change], moments)
    assert found == [pytest.approx(expected, rel=1e-5), 0]


def test_output_error_where_nothing_comes_out() -> None:
    weight = np.ones((1, 1, 2))
    assert output_errors(weight, [weight], Moments(1, 2)) == [0]
    live = Moments(1, 2)
    live.add(np.ones((1, 1, 2)))
    assert output_errors(0 * weight, [weight], live) == [np.inf]
