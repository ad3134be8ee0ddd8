"""Second moments of many layers: taken part by part, the same numbers, and memory that does not grow with the model."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from core_graphs import graph, weights

import prunec
from prunec.ir.module import Module
from prunec.passes.calibration import moments
from prunec.passes.compensation import repair
from prunec.passes.compensation.fit import RIDGES, ResidualMoments, reconstruct
from prunec.passes.pruning import observed
from prunec.passes.sparsity import statistics

CUT = "prune-channels{ratio=5% round-to=1 criterion=reconstruction}"
COMPENSATE = "prune-channels{ratio=5% round-to=1}, compensate"
SPARSIFY = "sparsify{criterion=sparsegpt layers=all}"


def branches(count: int, width: int) -> Module:
    """Wide layers side by side: all of one stage, and each with a covariance of its own."""
    ups = "".join(f"a{n} = MatMul(x, u{n}) h{n} = Relu(a{n}) " for n in range(count))
    downs = "".join(f"m{n} = MatMul(h{n}, d{n}) " for n in range(count))
    shapes = ", ".join(f"float[8,{width}] u{n}, float[{width},8] d{n}" for n in range(count))
    total = ", ".join(f"m{n}" for n in range(count))
    return graph(f"net (float[N,8] x) => (float[N,8] y) <{shapes}> {{ {ups}{downs} y = Sum({total}) }}")


def data(samples: int = 40) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((samples, 8)).astype(np.float32)}


@pytest.fixture
def set_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_to(room: int) -> None:
        for user in (observed, repair, statistics):
            monkeypatch.setattr(user, "ROOM", room)

    return set_to


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of all products that there are, each time that there are more."""
    living: weakref.WeakSet[moments.Moments] = weakref.WeakSet()
    counts: list[int] = []

    class Counted(moments.Moments):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            living.add(self)
            counts.append(sum(one._sums.nbytes for one in living))

    for user in (repair, statistics):
        monkeypatch.setattr(user, "Moments", Counted)
    return counts


@pytest.mark.parametrize("pipeline", [CUT, COMPENSATE, SPARSIFY])
@pytest.mark.parametrize("room", [0, 20_000])
def test_parts_give_the_same_numbers(pipeline: str, room: int, set_room: Callable[[int], None]) -> None:
    module = branches(4, 24)
    whole = weights(prunec.run(module, pipeline, data=data()).module)
    set_room(room)
    parts = weights(prunec.run(module, pipeline, data=data()).module)
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array)


@pytest.mark.parametrize(("pipeline", "each"), [(CUT, 4), (COMPENSATE, 2 * 8), (SPARSIFY, 2 * 4)])
def test_the_products_of_one_part_are_held_at_a_time(
    pipeline: str, each: int, set_room: Callable[[int], None], held: list[int]
) -> None:
    """A layer holds 4 or 8 bytes for each product of two of its columns, most of them of two kinds of samples."""
    width = 48
    for at_once in (1, 3):
        set_room(at_once * (each + 1) * width**2)
        held.clear()
        prunec.run(branches(9, width), pipeline, data=data())
        assert max(held) <= (at_once + 0.1) * each * width**2


def test_a_fit_holds_few_copies_of_a_covariance() -> None:
    """Beside what is held: the covariance and the factor of one with a ridge; for the outputs, what is solved."""
    columns, outputs = 600, 300
    found = ResidualMoments(moments.Moments(1, columns, dtype=np.float64), outputs)
    rows = np.random.default_rng(0).standard_normal((1, 800, columns))
    found.inputs.add(rows)
    found.add(rows, rows[:, :, :outputs])
    tracemalloc.start()
    for _ in reconstruct(found, RIDGES):
        pass
    used = tracemalloc.get_traced_memory()[1] / (8 * columns**2)
    tracemalloc.stop()
    assert used < 2 + 4 * outputs / columns + 0.3
