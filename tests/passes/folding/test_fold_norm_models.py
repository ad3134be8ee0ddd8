"""fold-norm on models from the field; the folder of models is named by ``PRUNEC_ZOO``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from fold_norm_harness import fold

ZOO = os.environ.get("PRUNEC_ZOO")
pytestmark = pytest.mark.skipif(ZOO is None, reason="PRUNEC_ZOO names no folder of models")


def load(name: str) -> onnx.ModelProto:
    """A model whose initializers are no graph inputs, so that they are constants."""
    proto = onnx.load(Path(str(ZOO)) / "real" / name)
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    return proto


@pytest.mark.parametrize(
    ("name", "found", "folded", "shapes"),
    [
        ("ultraface_rfb_320.onnx", 35, 35, {"input": (1, 3, 240, 320)}),
        ("pulp_dronet_v2.onnx", 6, 6, {}),
        ("deeplab_dm05_513.onnx", 54, 54, {}),
        ("sinet_portrait.onnx", 58, 38, {}),
    ],
)
def test_real_models_compute_the_same(
    name: str, found: int, folded: int, shapes: dict[str, tuple[int, ...]]
) -> None:
    proto = load(name)
    result = fold(proto)
    assert result.outcome.statistics["batch-norm found"] == found
    assert result.outcome.statistics["batch-norm folded"] == folded
    assert result.ops().count("BatchNormalization") == found - folded
    feeds = {}
    for value in proto.graph.input:
        sizes = shapes.get(value.name) or [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = np.random.default_rng(0).standard_normal(sizes).astype(np.float32)
    result.must_compute_the_same(**feeds)
