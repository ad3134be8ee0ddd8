"""The criteria of prune-channels that look at data: activation and reconstruction."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from core_graphs import graph, outputs, weight, weights
from numpy.typing import NDArray

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module

Array = NDArray[Any]

TWO = """
net (float[N,6] x) => (float[N,5] y) <float[6,8] a, float[8,5] w> { g = MatMul(x, a) h = Relu(g) y = MatMul(h, w) }
"""


def samples(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def removed(
    module: Module, criterion: str, data: dict[str, Array], ratio: float = 0.25, more: str = ""
) -> set[int]:
    text = f"prune-channels{{ratio={ratio} round-to=1 criterion={criterion} {more}}}"
    [group] = prunec.run(module, text, data=data).plan.steps[0].groups
    return set(group.removed)


@pytest.mark.parametrize("criterion", ["activation", "reconstruction"])
def test_units_that_are_never_active_go_first(criterion: str) -> None:
    module = graph(
        TWO.replace("float[6,8] a, ", "").replace("g = MatMul(x, a)", "p = MatMul(x, a) g = Add(p, b)"),
        a=weight("a", 6, 8),
        b=np.where(np.isin(np.arange(8), [2, 5]), -100, 0).astype(np.float32),
    )
    assert removed(module, criterion, {"x": samples(64, 6)}) == {2, 5}


def test_activation_is_the_norm_of_weights_times_inputs() -> None:
    """With one dead input, weights from it count nothing, however large."""
    a = np.ones((6, 8), np.float32)
    a[0, :2] = 100
    a[1:, :2] = 0.1
    module = graph(TWO.replace("float[6,8] a, ", ""), a=a)
    data = samples(64, 6)
    data[:, 0] = 0
    assert removed(module, "activation", {"x": data}) == {0, 1}
    assert not removed(module, "l2", {"x": data}) & {0, 1}


def left_over(x: Array, y: Array, kept: list[int]) -> float:
    """What of the outputs the kept columns cannot explain, as numpy's least squares says."""
    design = np.concatenate([x[:, kept], np.ones((len(x), 1))], axis=1)
    return float(np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum())


def test_reconstruction_takes_the_units_that_the_others_make_up_for() -> None:
    module, data = graph(TWO), {"x": samples(600, 6)}
    h, y = (outputs(module, data, [name])[name].astype(np.float64) for name in ("h", "y"))
    errors = {
        pair: left_over(h, y, [i for i in range(8) if i not in pair]) for pair in combinations(range(8), 2)
    }
    chosen = tuple(sorted(removed(module, "reconstruction", data)))
    assert errors[chosen] <= 1.3 * min(errors.values())
    assert errors[chosen] < 0.5 * np.mean(list(errors.values()))


def test_of_two_alike_one_stays() -> None:
    a = weight("a", 6, 8)
    a[:, 1] = 2 * a[:, 0]
    a[:, 3] = 0.5 * a[:, 2]
    module, data = graph(TWO.replace("float[6,8] a, ", ""), a=a), {"x": samples(400, 6)}
    gone = removed(module, "reconstruction", data)
    assert len(gone & {0, 1}) == len(gone & {2, 3}) == 1
    result = prunec.run(
        module, "prune-channels{ratio=25% round-to=1 criterion=reconstruction}, compensate", data=data
    )
    new, old = (outputs(m, data)["y"] for m in (result.module, module))
    assert np.abs(new - old).max() < 1e-4 * np.abs(old).max()


@pytest.mark.parametrize("criterion", ["activation", "reconstruction"])
def test_convolutions_groups_and_residual_streams(criterion: str) -> None:
    module = graph(
        """net (float[N,3,6,6] x) => (float[N,5] y) <float[8,3,3,3] a, float[8,4,3,3] b, float[8,8,1,1] c, float[5,288] f> {
            g = Conv<pads = [1, 1, 1, 1]>(x, a) h = Relu(g) i = Conv<group = 2, pads = [1, 1, 1, 1]>(h, b)
            j = Relu(i) k = Conv(j, c) l = Add(h, k) m = Flatten(l) y = Gemm<transB = 1>(m, f) }"""
    )
    text = f"prune-channels{{ratio=25% round-to=1 criterion={criterion}}}, compensate"
    data = {"x": samples(64, 3, 6, 6)}
    result = prunec.run(module, text, data=data)
    assert weights(result.module)["f"].shape[1] < 288
    assert prunec.run(module, text, data=data).plan == result.plan


def test_queries_are_judged_by_what_they_add() -> None:
    module = graph(
        """net (float[N,4,16] x) => (float[N,4,16] y) <float[16,16] q, float[16,16] k, float[16,16] v, float[16,16] o> {
            a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v) t = Transpose<perm = [0, 2, 1]>(b)
            s = MatMul(a, t) p = Softmax<axis = -1>(s) d = MatMul(p, c) y = MatMul(d, o) }"""
    )
    text = "prune-channels{ratio=25% round-to=1 criterion=reconstruction}"
    result = prunec.run(module, text, data={"x": samples(64, 4, 16)})
    assert {name: array.shape for name, array in weights(result.module).items()} == {
        "q": (16, 12),
        "k": (16, 12),
        "v": (16, 12),
        "o": (12, 16),
    }


def test_criteria_without_data() -> None:
    with pytest.raises(
        UserError, match=r"`prune-channels\{criterion=reconstruction\}` needs calibration data"
    ):
        prunec.run(graph(TWO), "prune-channels{criterion=reconstruction}")


@pytest.mark.parametrize("criterion", ["activation", "reconstruction"])
def test_broken_weights_are_told(criterion: str) -> None:
    w = weight("w", 8, 5)
    w[3, 2] = np.nan
    module = graph(TWO.replace(", float[8,5] w", ""), w=w)
    with pytest.raises(UserError, match="`w` holds 1 NaN or infinite"):
        removed(module, criterion, {"x": samples(64, 6)})


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1.0], ids=["constant", "nearly constant", "far from zero"])
def test_inputs_that_hardly_vary(spread: float) -> None:
    data = {"x": (300 + spread * samples(64, 6)).astype(np.float32)}
    assert len(removed(graph(TWO), "reconstruction", data)) == 2
