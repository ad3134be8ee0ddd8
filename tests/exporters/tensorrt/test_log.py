"""Build logs in the two forms that TensorRT has used, and the engine's layers as a verbose log lists them."""

from __future__ import annotations

import pytest

from prunec.exporters.tensorrt.log import BuildLog, LayerCount, SparsityLog, parse_layers, parse_sparsity

OLD = """
[08/05/2024-12:06:54] [I] [TRT] Total Activation Memory: 7864832
[08/05/2024-12:06:54] [I] [TRT] (Sparsity) Layers eligible for sparse math: MatMul_1, Conv_2 + Relu_3, Conv_4
[08/05/2024-12:06:54] [I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: Conv_2 + Relu_3
"""
NONE_PICKED = """
[TensorRT] INFO: (Sparsity) Layers eligible for sparse math: Conv_0
[TensorRT] INFO: (Sparsity) TRT inference plan picked sparse implementation for layers:
"""
NEW = """
[I] [TRT] (Sparsity) Found 39 layer(s) eligible to use sparse tactics
[I] [TRT] (Sparsity) Chose 12 layer(s) using sparse tactics
"""
NAMED = """
(Sparsity) Found 2 layer(s) eligible to use sparse tactics: a + b, c
(Sparsity) Chose 1 layer(s) using sparse tactics: c
"""
TWICE = (
    NEW
    + "(Sparsity) Found 39 layer(s) eligible to use sparse tactics\n(Sparsity) Chose 0 layer(s) using sparse tactics"
)


@pytest.mark.parametrize(
    ("text", "eligible", "picked"),
    [
        (OLD, LayerCount(count=3, names=("MatMul_1", "Conv_2 + Relu_3", "Conv_4")), LayerCount(count=1, names=("Conv_2 + Relu_3",))),
        (NONE_PICKED, LayerCount(count=1, names=("Conv_0",)), LayerCount(count=0)),
        (NEW, LayerCount(count=39), LayerCount(count=12)),
        (NAMED, LayerCount(count=2, names=("a + b", "c")), LayerCount(count=1, names=("c",))),
        (TWICE, LayerCount(count=39), LayerCount(count=0)),
        ("[I] [TRT] Engine built in 31.1935 sec.", None, None),
    ],
    ids=["old", "old-none-picked", "new", "new-with-names", "last-pass-counts", "silent"],
)  # fmt: skip
def test_both_forms(text: str, eligible: LayerCount | None, picked: LayerCount | None) -> None:
    assert parse_sparsity(text.splitlines()) == SparsityLog(eligible=eligible, picked=picked)


def test_a_count_without_names_names_nothing() -> None:
    assert not LayerCount(count=2).is_named
    assert LayerCount(count=0).is_named
    assert LayerCount(count=1, names=("c",)).is_named


LAYERS = (
    "Layers:\n"
    "Name: __mye1, LayerType: shape_call, Inputs: [], Outputs: [], TacticName: , StreamId: 0, Metadata: \n"
    "Name: conv1_myl0_2, LayerType: correlation, Inputs: [ { Name: b, Dimensions: [-1,64] }], Outputs: [], "
    "TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: conv1]\x1f[ONNX Layer: relu1]\n"
    "Name: conv2 + relu2, LayerType: CaskConvolution, Inputs: [], Outputs: [], HasSparseWeights: 1, Activation: RELU, "
    "TacticName: sm80_xmma_fprop_avdt_sparse_f16f16, TacticValue: 0x92, StreamId: 0, Metadata: [ONNX Layer: conv2]\x1e[ONNX Layer: relu2]\n"
    "\n"
    "I/O Tensors:\n"
    " Name: x, IOMode: Input, DataType: Half"
)


def test_the_layers_of_a_verbose_log() -> None:
    log = BuildLog(
        messages=[("INFO", "Name: stray, LayerType: none,"), ("VERBOSE", LAYERS), ("INFO", "done")]
    )
    shape, first, second = parse_layers(log.lines)
    assert (shape.name, shape.kind, shape.tactic, shape.is_opaque) == ("__mye1", "shape_call", "", True)
    assert (first.kind, first.tactic, first.is_opaque) == ("correlation", "__myelin_CASK_STUB", True)
    assert first.onnx_layers(()) == ("conv1", "relu1")
    assert second.onnx_layers(()) == ("conv2", "relu2")
    assert (second.sparse_weights, second.is_sparse, second.is_opaque) == (True, True, False)


def test_messages_are_kept_by_severity() -> None:
    log = BuildLog(messages=[("ERROR", "a"), ("INFO", "b"), ("INTERNAL_ERROR", "c")])
    assert log.texts("ERROR", "INTERNAL_ERROR") == ["a", "c"]
