"""The algebra of compensation against numpy on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from prunec.ir.module import Module
from prunec.passes.calibration.moments import Moments
from prunec.passes.compensation.fit import ResidualMoments, absorb, error, reconstruct
from prunec.passes.uncut import Uncut

Floats = NDArray[np.float64]


def draw(rows: int = 200, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Inputs [2, rows, 70] (wide enough for the products of triangles) and residuals [2, rows, 3]."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(1, 2, (2, rows, 70))
    return inputs, 0.1 * inputs[:, :, :3] + rng.normal(3, 1, (2, rows, 3))


def moments_of(inputs: Floats, residuals: Floats) -> ResidualMoments:
    moments = ResidualMoments(Moments(2, inputs.shape[2], dtype=np.float64), residuals.shape[2])
    for x, r in zip(np.array_split(inputs, 3, axis=1), np.array_split(residuals, 3, axis=1), strict=True):
        moments.inputs.add(x)
        moments.add(x, r)
    return moments


@pytest.mark.parametrize("ridge", [1e-9, 0.1])
def test_the_change_is_that_of_ridge_regression_with_an_intercept(ridge: float) -> None:
    inputs, residuals = draw()
    [change] = reconstruct(moments_of(inputs, residuals), [ridge])
    assert change.weights is not None
    for group, (x, r) in enumerate(zip(inputs, residuals, strict=True)):
        around = x - x.mean(axis=0)
        penalty = ridge * np.square(around).sum() / x.shape[1] * np.eye(x.shape[1])
        expected = np.linalg.solve(around.T @ around + penalty, around.T @ (r - r.mean(axis=0)))
        np.testing.assert_allclose(change.weights[group], expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(change.bias[group], r.mean(axis=0) - x.mean(axis=0) @ expected, rtol=1e-6)


def test_the_error_on_other_rows_follows_from_their_moments() -> None:
    fitted, judged = draw(), draw(50, seed=1)
    moments = moments_of(*fitted)
    for change in (absorb(moments), *reconstruct(moments, [1e-6, 1.0])):
        left = judged[1] - change.bias[:, None]
        if change.weights is not None:
            left = left - judged[0] @ change.weights
        assert error(change, moments_of(*judged)) == pytest.approx(np.square(left).sum(), rel=1e-6)
    assert error(None, moments_of(*judged)) == pytest.approx(np.square(judged[1]).sum())


def test_inputs_that_do_not_vary_leave_all_to_the_bias() -> None:
    inputs, residuals = draw()
    [change] = reconstruct(moments_of(np.full_like(inputs, 3), residuals), [1e-3])
    assert change.weights is not None
    assert np.abs(change.weights).max() < 1e-6
    np.testing.assert_allclose(change.bias, residuals.mean(axis=1), rtol=1e-6)


def test_too_few_rows_without_a_ridge_determine_nothing() -> None:
    inputs, residuals = draw(20)
    assert list(reconstruct(moments_of(inputs, residuals), [0.0])) == []


def test_slots_of_several_cuts_are_places_in_the_first_model(digits: Module) -> None:
    first = {"a": {1: np.array([0, 2, 3, 5])}, "b": {0: np.array([1])}}
    second = {"a": {1: np.array([1, 3]), 2: np.array([0])}, "c": {0: np.array([4])}}
    kept = Uncut(module=digits).then(first).then(second).kept
    found = {name: {axis: slots.tolist() for axis, slots in axes.items()} for name, axes in kept.items()}
    assert found == {"a": {1: [2, 5], 2: [0]}, "b": {0: [1]}, "c": {0: [4]}}


@pytest.fixture
def digits() -> Module:
    from core_graphs import graph

    return graph("net (float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
