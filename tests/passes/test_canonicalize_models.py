"""canonicalize over random networks and over models from the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from generators import random_inputs, random_model
from numpy.typing import NDArray
from zoo import zoo_models

import prunec
from graph_trial import UNCHECKED
from prunec.ir.probes import probe_feeds
from prunec.ir.proto import to_proto


def outputs(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("seed", range(200))
def test_random_networks_compute_the_same(seed: int) -> None:
    """Also at batch sizes that the analysis did not look at."""
    before = random_model(seed)
    result = prunec.run(prunec.load(before), "canonicalize", verify=False)
    after = to_proto(result.module)
    if not any(node.op_type in UNCHECKED for node in before.graph.node):
        onnx.checker.check_model(after, full_check=True)
    assert len(after.graph.node) <= len(before.graph.node)
    dynamic = any(d.dim_param for v in before.graph.input for d in v.type.tensor_type.shape.dim)
    for batch in (1, 5) if dynamic else (2,):
        feeds = random_inputs(before, seed, batch=batch)
        expected, actual = outputs(before, feeds), outputs(after, feeds)
        assert list(actual) == list(expected)
        for name, array in expected.items():
            assert actual[name].dtype == array.dtype
            np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(0, 200, 5))
def test_no_less_is_pruned_afterwards(seed: int) -> None:
    module = prunec.load(random_model(seed))
    prune = "prune-channels{ratio=0.5 round-to=1}"
    alone = prunec.run(module, prune, verify=False)
    both = prunec.run(module, f"canonicalize, {prune}")
    assert both.cost_after.parameters <= alone.cost_after.parameters


@pytest.mark.parametrize("path", zoo_models(runs=True))
def test_real_models_compute_the_same(path: Path) -> None:
    module = prunec.load(path)
    result = prunec.run(module, "canonicalize")  # the verifier compares the outputs
    assert len(list(result.module.graph)) <= len(list(module.graph))
    assert result.cost_after.parameters <= result.cost_before.parameters
    assert probe_feeds(result.module).keys() == probe_feeds(module).keys()
