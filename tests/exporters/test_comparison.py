"""Artefacts against modules: tolerances, and what counts as something else."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph

from prunec.exporters.comparison import check_outputs, tolerance_of
from prunec.ir.diagnostics import VerificationError

F32 = graph("net (float[2,4] x) => (float[2,4] y) { y = Relu(x) }")
F16 = graph("net (float16[2,4] x) => (float16[2,4] y) { y = Relu(x) }")


def test_the_coarser_type_decides() -> None:
    assert (
        tolerance_of(F32) < tolerance_of(F32, "float16") == tolerance_of(F16) == tolerance_of(F16, "float16")
    )
    assert tolerance_of(F32, "bfloat16") > tolerance_of(F32, "float16")


def test_the_largest_error_comes_back() -> None:
    expected = {"a": np.ones(3), "b": np.full(3, 2.0)}
    assert check_outputs("it", {"a": np.ones(3), "b": np.full(3, 2.02)}, expected, 0.1) == pytest.approx(0.01)
    assert check_outputs("it", {"a": np.ones(3)}, {}, 0.1) == 0.0


@pytest.mark.parametrize("wrong", [np.full(3, 1.2), np.full(4, 1.0), np.array([1, 1, np.nan])])
def test_something_else(wrong: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(
        VerificationError, match=r"the engine computes something else: relative error .* of output `a`"
    ):
        check_outputs("the engine", {"a": wrong}, {"a": np.ones(3)}, 0.1)


def test_a_missing_output() -> None:
    with pytest.raises(VerificationError, match="the engine has no output `a`") as caught:
        check_outputs("the engine", {"b": np.ones(3)}, {"a": np.ones(3)}, 0.1)
    assert caught.value.notes == ("it has: b",)
