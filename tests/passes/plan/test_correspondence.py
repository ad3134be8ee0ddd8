"""Constants of two graphs: by name, unless the contents are those of another one."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph

from prunec.ir.module import Module
from prunec.passes.plan.correspondence import Pair, correspond

RNG = np.random.default_rng(3)
WEIGHTS = [RNG.standard_normal((8, 8)).astype(np.float32) for _ in range(3)]
BIAS = np.zeros(8, np.float32)


def chain(first: int, *, scale: float = 1.0, turned: bool = False) -> Module:
    """Three layers of one size, with names that count from a number."""
    names = [f"m{first + n}" for n in range(3)]
    arrays = {name: scale * (w.T.copy() if turned else w) for name, w in zip(names, WEIGHTS, strict=True)}
    op, how = ("Gemm", "<transB = 1>") if turned else ("MatMul", "")
    return graph(
        f"""net (float[N,8] x) => (float[N,8] y) {{
            a = {op}{how}(x, {names[0]})  b = {op}{how}(a, {names[1]})  c = {op}{how}(b, {names[2]})
            y = Add(c, bias) }}""",
        bias=BIAS,
        **arrays,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "shift", "transposed"),
    [
        (chain(12), 1, False),
        (chain(10), -1, False),
        (chain(12, turned=True), 1, True),
        (chain(11, turned=True), 0, True),
        (chain(11, scale=0.9), 0, False),  # trained on: no contents are known, names are all there is
    ],
    ids=["one up", "one down", "one up and transposed", "transposed", "trained"],
)
def test_names_that_are_counted_are_no_evidence_against_contents(
    target: Module, shift: int, transposed: bool
) -> None:
    pairs = set(correspond(chain(11), target))
    weights = {Pair(source=f"m{n}", target=f"m{n + shift}", transposed=transposed) for n in (11, 12, 13)}
    assert pairs == weights | {Pair(source="bias", target="bias")}
