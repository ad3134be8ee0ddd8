"""The verifier behind a new order of channels: it knows where values are, and it finds what is out of order."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph, weights
from exchanges import PASS, check_exchange, exchanged
from sabotage import put

from prunec.ir.diagnostics import VerificationError
from prunec.ir.module import Module
from prunec.passes.analyses import Analyses
from prunec.passes.verifier import verify

NET = """
net (float[N,3,4,4] x) => (float[N,5,4,4] y) <float[8,3,1,1] w1, float[8] b1, float[5,8,1,1] w2>
{ a = Conv(x, w1, b1) b = Tanh(a) c = Conv(b, w2) d = Mul(c, scale) y = Sigmoid(d) }"""
SHUFFLED = """
net (float[2,3,4] x) => (float[2,5,4] y) <float[8,3,1] w1, float[5,8,1] w2>
{
    a = Conv(x, w1) b = Reshape(a, apart) c = Transpose<perm=[0,2,1,3]>(b) d = Reshape(c, together)
    e = Tanh(d) f = Conv(e, w2) g = Mul(f, scale) y = Sigmoid(g)
}"""
APART = {"apart": np.array([2, 2, 4, 4]), "together": np.array([2, 8, 4])}
LOUD, SILENT = np.float32(1), np.float32(1e-9)


def shuffled(scale: np.float32) -> Module:
    return graph(SHUFFLED, scale=scale, **APART)


@pytest.mark.parametrize(("scale", "witnesses"), [(LOUD, 0), (SILENT, 4)])
def test_intermediate_values_are_compared_where_they_have_come_to(scale: np.float32, witnesses: int) -> None:
    verdict = check_exchange(graph(NET, scale=scale), seed=2)
    assert verdict is not None
    assert (verdict.equivalence, verdict.witnesses) == ("same", witnesses)
    assert verdict.error < 1e-5


def test_values_inside_a_channel_shuffle_are_no_witnesses() -> None:
    verdict = check_exchange(shuffled(SILENT), seed=2)
    assert verdict is not None
    assert verdict.witnesses == 5  # a, d, e, f and g; not b and c


@pytest.mark.parametrize("scale", [LOUD, SILENT])
@pytest.mark.parametrize("name", ["w1", "b1", "w2"])
def test_a_tensor_that_did_not_move_along_is_found(name: str, scale: np.float32) -> None:
    module = graph(NET, scale=scale)
    after, step = exchanged(module, seed=2)
    put(after, name, weights(module)[name])
    with pytest.raises(VerificationError) as caught:
        verify(PASS, module.clone(), after, analyses=Analyses(after), step=step)
    assert caught.value.code == "V013"
    what = "output `y`" if scale == LOUD else "intermediate value"
    assert caught.value.message.startswith(what)
