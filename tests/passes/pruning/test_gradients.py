"""Gradients as arrays: what the criterion makes of them, and what fits a model of ONNX."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import coupling_of, weights
from coupling_graphs import GRAPHS, coupled

import prunec
from prunec.passes.pruning.gradients import Gradients
from prunec.passes.pruning.importance import Importance


@pytest.mark.parametrize("name", [name for name in GRAPHS if "Constant node" not in name])
def test_scores_equal_plain_loops(name: str) -> None:
    module = coupled(name)
    arrays = {n: w for n, w in weights(module).items() if w.dtype.kind == "f"}
    rng = np.random.default_rng(0)
    gradients = {n: rng.standard_normal(w.shape) for n, w in arrays.items()}
    coupling = coupling_of(module)
    importance = Importance(coupling, "taylor", gradients=Gradients.checked(module, gradients))
    for group in coupling.prunable:
        expected = np.zeros(group.units)
        for member in group.members:
            for slot, unit in enumerate(member.units):
                if unit >= 0 and member.name in gradients:
                    change = gradients[member.name] * arrays[member.name]
                    expected[unit] += np.square(change.take(slot, member.axis)).sum()
        np.testing.assert_allclose(importance.score(group), expected, rtol=1e-6)


def test_a_model_of_onnx_is_judged_by_gradients_of_its_tensors() -> None:
    module = prunec.load("examples/digits.onnx")
    found = {n: np.zeros(tuple(v.shape)) for n, v in module.graph.initializers.items()}
    found["narrow.norm.bias"][:] = np.arange(32)
    pipeline = "prune-channels{criterion=taylor ratio=25% round-to=1 only=narrow.norm.*}"
    result = prunec.run(module, pipeline, gradients=found)
    bias = module.graph.initializers["narrow.norm.bias"].const_value.numpy()
    least = np.argsort(np.square(np.arange(32) * bias), kind="stable")[:8]
    assert result.plan.steps[0].groups[0].removed == tuple(np.sort(least))
