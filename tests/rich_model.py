"""A model that uses everything that a careless round trip loses, and the comparison that finds the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def rich() -> onnx.ModelProto:
    """A model that uses everything that a careless round trip loses."""
    weight = numpy_helper.from_array(np.arange(512, dtype=np.float32).reshape(16, 32), "w")
    weight.doc_string = "the weight"
    weight.metadata_props.add(key="origin", value="seed 0")
    typed = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])
    bits = TensorProto(name="q", data_type=TensorProto.INT4, dims=[3], raw_data=b"\x21\x03")
    strings = helper.make_tensor("s", TensorProto.STRING, [2], [b"a", b"\xff"])
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    inner = numpy_helper.from_array(np.float32([3]), "inner")
    then = helper.make_graph(
        [helper.make_node("Mul", ["h", "inner"], ["b"], name="then")], "then", [], [out], [inner]
    )
    other = helper.make_graph([helper.make_node("Identity", ["h"], ["b"], name="else")], "other", [], [out])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="mm", doc_string="first"),
        helper.make_node("If", ["c"], ["i"], name="if", then_branch=then, else_branch=other),
        helper.make_node("Twice", ["i"], ["d"], domain="local"),
        helper.make_node(
            "Exotic", ["d", "", "t"], ["y", "", "z"], domain="com.acme", alpha=0.1, names=["a", "b"]
        ),
    ]
    nodes[0].metadata_props.add(key="stack", value="net.py:9")
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 32]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]) for name in ("y", "z")],
        [weight, typed, bits, strings],
        doc_string="a graph",
        value_info=[
            helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 32], doc_string="hidden"),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, [2]),
        ],
    )
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.metadata_props.add(key="graph", value="yes")
    annotation = graph.quantization_annotation.add(tensor_name="h")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="t")
    opsets = [
        helper.make_opsetid("", 21),
        helper.make_opsetid("com.acme", 3),
        helper.make_opsetid("local", 1),
    ]
    body = [helper.make_node("Add", ["a", "a"], ["r"], name="sum", doc_string="twice")]
    function = helper.make_function("local", "Twice", ["a"], ["r"], body, opsets[:1], doc_string="a function")
    model = helper.make_model(
        graph,
        functions=[function],
        opset_imports=opsets,
        producer_name="me",
        producer_version="1.2",
        ir_version=10,
    )
    model.domain, model.model_version, model.doc_string = "org.example", 7, "a model"
    helper.set_model_props(model, {"b": "2", "a": "1"})
    return model


def differences(left: onnx.ModelProto, right: onnx.ModelProto) -> list[str]:
    """Names of the fields in which two models differ; the order of named things is not one."""
    return list(_differences(left, right, ""))


NAMED = {"metadata_props": "key", "value_info": "name", "opset_import": "domain", "external_data": "key"}
NAMED |= {"quant_parameter_tensor_names": "key", "quantization_annotation": "tensor_name"}


def _differences(left: Any, right: Any, path: str) -> Iterable[str]:
    for field in left.DESCRIPTOR.fields:
        a, b = getattr(left, field.name), getattr(right, field.name)
        where = f"{path}.{field.name}"
        if field.message_type is None:
            if field.is_repeated:
                a, b = list(a), list(b)
            if a != b and repr(a) != repr(b):  # NaN is NaN
                yield f"{where}: {str(a)[:60]} / {str(b)[:60]}"
        elif not field.is_repeated:
            if left.HasField(field.name) or right.HasField(field.name):
                yield from _differences(a, b, where)
        else:
            key = NAMED.get(field.name)
            a, b = (
                sorted(part, key=lambda item: getattr(item, key)) if key else list(part) for part in (a, b)
            )
            if len(a) != len(b):
                yield f"{where}: {len(a)} / {len(b)}"
            for index, (one, other) in enumerate(zip(a, b, strict=False)):
                yield from _differences(one, other, f"{where}[{index}]")
