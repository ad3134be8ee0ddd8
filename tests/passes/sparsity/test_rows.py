"""Rows and weights of a layer: their product is what the layer computes, for every kind of layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph
from sparse_graphs import CASES

from prunec.ir.execute import probe_feeds, run_model
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.rows import NoRows, layer_input

INTEGERS = {name for name in CASES if name.startswith("qlinear") or name.endswith("integer")}
ROUNDED = {"fake-quantised": 0.1}
"""Largest differences where the op reads a rounded form of the weight."""


def products(module: Module, *, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """What rows and weights of the first layer give, and what the layer computes: all numbers, sorted."""
    if (bias := module.graph.initializers.get("b")) is not None and bias.const_value is not None:
        bias.const_value = onnx_ir.tensor(0 * bias.const_value.numpy(), name="b")
    facts = infer_facts(module.model)
    [layer, *_] = find_layers(module.model, facts).layers
    source = layer_input(layer, facts)
    feeds = probe_feeds(module, batch=batch)
    made = layer.node.outputs[0].name or ""
    computed = run_model(module, feeds, outputs=[made])[made]
    read = feeds.get(source.name)
    values = read if read is not None else run_model(module, feeds, outputs=[source.name])[source.name]
    weights = layer.weights().reshape(layer.shape[0], layer.shape[1], -1)
    given = np.concatenate([rows @ np.swapaxes(weights, 1, 2) for rows in source.pieces(values)], axis=1)
    return np.sort(given.ravel()), np.sort(computed.ravel())


@pytest.mark.parametrize("name", sorted(CASES.keys() - INTEGERS))
def test_rows_times_weights_are_what_the_layer_computes(name: str) -> None:
    text = CASES[name].text.replace(", z)", ")").replace(", float[N,4,4,4] z)", ")")  # nothing is added
    given, computed = products(replace(CASES[name], text=text).module, batch=3)
    if "Relu" in text:
        given = np.maximum(given, 0)
    np.testing.assert_allclose(given, computed, rtol=1e-4, atol=ROUNDED.get(name, 1e-4))


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_integers_are_no_rows(name: str) -> None:
    with pytest.raises(NoRows, match=r"its inputs are [ui]8, not floating point"):
        products(CASES[name].module, batch=3)


def test_large_inputs_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    module = CASES["conv-2d"].module
    whole, _ = products(module, batch=5)
    monkeypatch.setattr("prunec.passes.sparsity.rows.PIECE", 1)
    pieces, _ = products(module, batch=5)
    assert np.array_equal(whole, pieces)


def test_kernel_axes_that_are_stored_in_another_order() -> None:
    given, computed = products(
        graph("""net (float[N,3,7,8] x) => (float[N,4,5,7] y) <float[2,4,3,3] w>
        { v = Transpose<perm = [1, 2, 3, 0]>(w) y = Conv(x, v) }"""),
        batch=2,
    )
    np.testing.assert_allclose(given, computed, rtol=1e-4, atol=1e-4)


def test_layers_that_read_the_same_in_the_same_way_are_told() -> None:
    module = graph("""net (float[N,5,8] x) => (float[N,5,6] q, float[N,5,6] k, float[N,8,5] v, float[N,8,5] w)
        <float[8,6] a, float[8,6] b, float[8,8] c, float[8,8,1] d>
        { q = MatMul(x, a) k = MatMul(x, b) t = Transpose<perm = [0, 2, 1]>(x) v = MatMul(c, t) w = Conv(t, d) }""")
    facts = infer_facts(module.model)
    keys = [layer_input(layer, facts).key for layer in find_layers(module.model, facts).layers]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
