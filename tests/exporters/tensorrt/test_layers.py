"""Layers of an engine: from the inspector's JSON, and which layers of the model each computes."""

from __future__ import annotations

import json

import pytest

from prunec.exporters.tensorrt.layers import EngineLayer, inspector_layers

KNOWN = {"conv1", "relu1", "fc", "a + b"}


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        ("conv1 + relu1", "", ("conv1", "relu1")),
        ("conv1_myl0_2", "", ("conv1",)),
        ("a + b", "", ("a + b",)),
        ("anything", "[ONNX Layer: conv1][ONNX Layer: odd]name[0]]", ("conv1", "odd]name[0]")),
        ("anything", "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]", ("conv1", "relu1")),
        ("Reformatting CopyNode for Input Tensor 0 to conv1", "", ()),
        ("{ForeignNode[conv1...fc]}", "", ()),
    ],
)
def test_which_layers_of_the_model_it_computes(name: str, metadata: str, expected: tuple[str, ...]) -> None:
    assert EngineLayer(name=name, metadata=metadata).onnx_layers(KNOWN) == expected


@pytest.mark.parametrize(
    ("name", "tactic", "opaque", "sparse"),
    [
        ("conv1", "sm80_xmma_fprop_avdt_sparse_int8int8_tilesize64x64x64", False, True),
        ("conv1", "sm80_xmma_fprop_implicit_gemm_f16f16", False, False),
        ("conv1", "__myelin_CASK_STUB", True, False),
        ("conv1", "", True, False),
        ("{ForeignNode[conv1...fc]}", "0x0000", True, False),
    ],
)
def test_what_its_kernel_tells(name: str, tactic: str, opaque: bool, sparse: bool) -> None:
    layer = EngineLayer(name=name, tactic=tactic)
    assert (layer.is_opaque, layer.is_sparse) == (opaque, sparse)


def test_the_inspectors_json() -> None:
    detailed = {
        "Name": "conv1 + relu1",
        "LayerType": "CaskConvolution",
        "HasSparseWeights": 1,
        "TacticName": "t_sparse",
        "Metadata": "[ONNX Layer: conv1]",
    }
    older = {"Name": "conv2", "AllowSparse": 0, "TacticName": "t"}
    first, second, third = inspector_layers(
        json.dumps({"Layers": [detailed, older, "fc"], "Bindings": ["x"]})
    )
    assert first == EngineLayer(
        name="conv1 + relu1",
        kind="CaskConvolution",
        tactic="t_sparse",
        metadata="[ONNX Layer: conv1]",
        sparse_weights=True,
    )
    assert second.sparse_weights is False
    assert third == EngineLayer(name="fc")
    assert inspector_layers("{}") == ()
