"""``allow-io``: cached keys and values shrink with their heads, nothing else that a caller sees does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import prunec

HEADS, SIZE, HIDDEN = 4, 6, 10


def decoder() -> onnx.ModelProto:
    """One attention layer that appends to a cache: scores over past and present keys, values likewise."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 3, name)

    def split(name: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("MatMul", ["x", f"w_{name}"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", "heads"], [f"{name}_heads"]),
            helper.make_node("Transpose", [f"{name}_heads"], [name], perm=[0, 2, 1, 3]),
        ]

    nodes = [
        *split("q"), *split("k"), *split("v"),
        helper.make_node("Concat", ["past_key", "k"], ["present_key"], axis=2),
        helper.make_node("Concat", ["past_value", "v"], ["present_value"], axis=2),
        helper.make_node("Transpose", ["present_key"], ["k_t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "k_t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["share"], axis=-1),
        helper.make_node("MatMul", ["share", "present_value"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["merged"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["merged", "flat"], ["together"]),
        helper.make_node("MatMul", ["together", "w_o"], ["y"]),
    ]  # fmt: skip
    width = HEADS * SIZE
    initializers = [
        *(weight(f"w_{n}", HIDDEN, width) for n in "qkv"),
        weight("w_o", width, HIDDEN),
        numpy_helper.from_array(np.array([0, 0, HEADS, SIZE]), "heads"),
        numpy_helper.from_array(np.array([0, 0, width]), "flat"),
    ]

    def tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    cache = ("N", HEADS, "past", SIZE)
    inputs = [tensor("x", "N", 3, HIDDEN), tensor("past_key", *cache), tensor("past_value", *cache)]
    present = ("N", HEADS, "present", SIZE)
    outputs = [
        tensor("y", "N", 3, HIDDEN),
        tensor("present_key", *present),
        tensor("present_value", *present),
    ]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def shapes(result: prunec.Result) -> dict[str, list[object]]:
    values = (*result.module.graph.inputs, *result.module.graph.outputs)
    return {v.name or "": [d if isinstance(d, int) else str(d) for d in v.shape or ()] for v in values}


def test_caches_are_pinned_unless_asked() -> None:
    result = prunec.run(prunec.load(decoder()), "prune-channels{ratio=0.5 round-to=1}")
    assert shapes(result)["past_key"][1] == HEADS
    assert not result.plan.steps
    assert any("graph output `present_key`" in (r.reason or "") for r in result.remarks)


@pytest.mark.parametrize("replayed", [False, True])
def test_caches_shrink_with_their_heads(replayed: bool) -> None:
    module = prunec.load(decoder())
    result = prunec.run(module, "prune-channels{ratio=0.5 round-to=1 allow-io}")
    if replayed:
        result = prunec.run(module, "prune-channels{ratio=0.5 round-to=1 allow-io}", replay=result.plan)
    found = shapes(result)
    assert {found[f"{time}_{what}"][1] for time in ("past", "present") for what in ("key", "value")} == {
        HEADS // 2
    }
    assert found["x"] == ["N", 3, HIDDEN]
    assert found["y"] == ["N", 3, HIDDEN]
    assert result.verdicts[0].error < 1e-5
    if not replayed:
        assert sum("shrinks" in r.message for r in result.remarks) == 4
