"""Rows and weights of a layer: their product is what the layer computes, for every kind of layer."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph, node_of
from sparse_graphs import CASES

from prunec.ir.execute import probe_feeds, run_model
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.rows import NoRows, layer_input

UNREADABLE = {name for name in CASES if any(word in name for word in ("integer", "qlinear"))}


def products(module: Module, *, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """What rows and weights of the first layer give, and what the layer computes: all numbers, sorted."""
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


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_case(name: str) -> None:
    print(name)
    given, computed = products(CASES[name].module, batch=3)
    np.testing.assert_allclose(given, computed, rtol=1e-3, atol=1e-3)
