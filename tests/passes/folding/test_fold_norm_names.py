"""After folding a name means what it meant, or it is gone: the verifier compares values by name."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph
from generators import random_model

import prunec
from prunec.ir.execute import run_model
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds

NORM = "LayerNormalization(a, s, t)"
DECIDES = "y = ArgMax<axis=-1, keepdims=0>"

MODELS = {
    "layer norm before a product": f"h = {NORM} g = Relu(a) m = MatMul(h, f) {DECIDES}(m)",
    "layer norm before a product with a bias": f"h = {NORM} m = MatMul(h, f) o = Add(m, b) {DECIDES}(o)",
    "a reordering between": f"h = {NORM} p = Transpose<perm=[1, 0]>(h) q = Transpose<perm=[1, 0]>(p) m = MatMul(q, f) {DECIDES}(m)",
    "batch norm behind a product with a bias": (
        "k = MatMul(a, f) m = Add(k, b) h = BatchNormalization(m, s5, t5, mean, var) " + DECIDES + "(h)"
    ),
}
DECLARED = (
    "float[6,8] w, float[8] s, float[8] t, float[8,5] f, float[5] b, "
    "float[5] s5, float[5] t5, float[5] mean, float[5] var, float[3,5] k, float[3,5] m"
)


def assert_names_keep_their_meaning(before: Module, after: Module) -> None:
    made = {o.name for node in after.graph for o in node.outputs if o.name}
    computed = [node for node in before.graph if node.op_type != "Constant"]  # a constant may be a weight
    names = [o.name for node in computed for o in node.outputs if o.name in made]
    feeds = probe_feeds(before.model)
    old, new = (run_model(module.model, feeds, outputs=names) for module in (before, after))
    for name in names:
        np.testing.assert_allclose(new[name], old[name], rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("what", MODELS)
def test_models_that_only_decide_are_verified_by_their_values(what: str) -> None:
    text = f"net (float[3,6] x) => (int64[3] y) <{DECLARED}> {{ a = MatMul(x, w) {MODELS[what]} }}"
    module = graph(text)
    result = prunec.run(module, "fold-norm")
    assert [verdict.pass_name for verdict in result.verdicts] == ["fold-norm"]
    assert result.verdicts[0].witnesses
    assert_names_keep_their_meaning(module, result.module)


@pytest.mark.parametrize("seed", [6133, *range(20)])
def test_random_models(seed: int) -> None:
    module = prunec.load(random_model(seed))
    assert_names_keep_their_meaning(module, prunec.run(module, "fold-norm").module)


def test_nothing_but_holes_is_no_evidence() -> None:
    """All outputs are not a number, whatever the pass did; then the values before them are compared."""
    text = f"""net (float[3,6] x) => (float[3,5] y) <{DECLARED}>
    {{ a = MatMul(x, w) k = MatMul(a, f) h = BatchNormalization(k, s5, t5, mean, var) u = Abs(h) v = Neg(u)
      y = Sqrt(v) }}"""
    assert prunec.run(graph(text), "fold-norm").verdicts[0].witnesses
