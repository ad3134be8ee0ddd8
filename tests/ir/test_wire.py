"""Taking weights out of a file and putting them back, on the level of bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from prunec.ir.wire import WireError, join_weights, split_weights


def model(sizes: list[int]) -> ModelProto:
    tensors = [numpy_helper.from_array(np.arange(size, dtype=np.uint8), f"w{size}") for size in sizes]
    graph = GraphProto(name="net", initializer=tensors, doc_string="after")
    return ModelProto(ir_version=9, graph=graph, producer_name="after", domain="x" * 300)


@given(st.lists(st.sampled_from([0, 1, 99, 100, 127, 128, 129, 200, 16384]), max_size=6))
def test_split_then_join_gives_the_model(sizes: list[int]) -> None:
    content = memoryview(model(sizes).SerializeToString())
    split = split_weights(content, smallest=100)
    assert [span is not None for span in split.spans] == [size >= 100 for size in sizes]
    skeleton = ModelProto.FromString(split.skeleton)
    for tensor, size in zip(skeleton.graph.initializer, sizes, strict=True):
        assert len(tensor.raw_data) == (0 if size >= 100 else size) and list(tensor.dims) == [size]
    weights = [None if span is None else content[span] for span in split.spans]
    assert ModelProto.FromString(b"".join(join_weights(split.skeleton, weights))) == model(sizes)


def test_weights_are_views_of_the_buffer() -> None:
    content = bytearray(model([200]).SerializeToString())
    (span,) = split_weights(memoryview(content), smallest=100).spans
    assert span is not None and bytes(content[span]) == bytes(np.arange(200, dtype=np.uint8))


def test_typed_and_external_data_stay() -> None:
    typed = onnx.helper.make_tensor("t", TensorProto.FLOAT, [500], np.arange(500.0))
    external = TensorProto(
        name="e", data_type=TensorProto.FLOAT, dims=[500], data_location=TensorProto.EXTERNAL
    )
    proto = ModelProto(ir_version=9, graph=GraphProto(initializer=[typed, external]))
    split = split_weights(memoryview(proto.SerializeToString()))
    assert split.spans == (None, None) and ModelProto.FromString(split.skeleton) == proto


def test_a_graph_in_two_parts_is_left_to_protobuf() -> None:
    content = model([2000]).SerializeToString() + ModelProto(graph=GraphProto(name="b")).SerializeToString()
    split = split_weights(memoryview(content))
    assert split.skeleton == content and split.spans == ()


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"\x3a\x05abc", 2),
        (b"\x3a", 1),
        (b"\x3a\x80", 1),
        (b"\x0d\x00\x00", 2),
        (b"\x09\x00", 7),
        (b"\x00\x00", None),
        (b"\x0b", None),
        (b"\xff" * 20, None),
    ],
)
def test_what_is_wrong_with_the_bytes(content: bytes, missing: int | None) -> None:
    with pytest.raises(WireError) as caught:
        split_weights(memoryview(content))
    assert caught.value.missing == missing
