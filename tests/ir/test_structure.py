"""Models that parse but mean nothing, and odd ones that mean something all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from small_models import error_of, linear

from prunec.ir.load import load


def broken(edit: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    proto = linear()
    edit(proto)
    return proto


def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def _subgraph_reads_nothing(proto: onnx.ModelProto) -> None:
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["nowhere"], ["z"])], "branch", [], [out])
    proto.graph.node.append(helper.make_node("If", ["x"], ["i"], then_branch=branch, else_branch=branch))


def _map_output(proto: onnx.ModelProto) -> None:
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    proto.graph.output[0].CopyFrom(helper.make_value_info("y", kind))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda p: p.graph.node[1].input.__setitem__(0, "nowhere"), "`Relu` reads `nowhere`"),
        (
            lambda p: p.graph.node.append(p.graph.node[1]),
            "node `act`: value `y` is already made by node `act`",
        ),
        (
            lambda p: p.graph.initializer.append(p.graph.initializer[1]),
            "initializer `w` is defined more than once",
        ),
        (
            lambda p: p.graph.node[0].output.__setitem__(0, "w"),
            "node `mm`: value `w` is already made by an input or initializer of the graph",
        ),
        (lambda p: p.graph.input.append(p.graph.input[0]), "graph input `x` is defined more than once"),
        (_cycle, "2 nodes depend on each other in a cycle: mm -> act -> mm"),
        (_subgraph_reads_nothing, "`Relu` reads `nowhere`"),
        (
            lambda p: p.graph.output.add(name="nowhere"),
            "output `nowhere` of graph `net` is computed by no node",
        ),
        (lambda p: p.graph.ClearField("output"), "2 nodes but no outputs"),
        (lambda p: p.ClearField("graph"), "holds no graph"),
        (lambda p: p.ClearField("ir_version"), "does not say which ONNX IR version"),
        (lambda p: setattr(p, "ir_version", 99), "IR version 99 is not supported"),
        (
            lambda p: p.opset_import.add(domain="ai.onnx", version=18),
            "domain `ai.onnx` is imported in two versions, ",
        ),
        (lambda p: p.ClearField("opset_import"), "the model imports no opset at all"),
        (lambda p: setattr(p.opset_import[0], "version", 6), "opset 6 is not supported; supported are 7 to"),
        (
            lambda p: setattr(p.opset_import[0], "version", 999),
            "opset 999 is not supported; supported are 7 to",
        ),
        (lambda p: setattr(p.graph.node[0], "op_type", "Cast"), "`Cast` lacks its required attribute `to`"),
        (lambda p: setattr(p.graph.node[0], "op_type", "Relu"), "`Relu` has 2 inputs, must have 1"),
        (
            lambda p: p.graph.node.append(helper.make_node("Softmax", ["x"], ["s"], axis=1.5)),
            "attribute `axis` of `Softmax` is FLOAT, must be INT",
        ),
        (lambda p: p.graph.initializer[1].dims.__setitem__(0, 33), "holds 2048 bytes, needs 2112"),
        (lambda p: p.graph.initializer[1].dims.__setitem__(0, -32), "has a negative size"),
        (lambda p: setattr(p.graph.initializer[1], "data_type", 77), "unknown data type 77"),
        (lambda p: p.graph.initializer[1].ClearField("raw_data"), "holds 0 elements, needs 512"),
        (lambda p: p.graph.initializer[0].ClearField("name"), "an initializer has no name"),
        (
            lambda p: p.graph.sparse_initializer.add().values.__setattr__("name", "s"),
            "sparse tensor `s` cannot be read",
        ),
        (lambda p: p.training_info.add(), "training_info"),
        (_map_output, "value `y` is or holds a map"),
        (
            lambda p: p.graph.input.append(
                helper.make_tensor_sequence_value_info("q", TensorProto.FLOAT, None)
            ),
            "graph input `q` is a sequence",
        ),
        (lambda p: p.graph.node[0].ClearField("op_type"), "a node has no op type"),
    ],
)
def test_bad_models(tmp_path: Path, edit: Callable[[onnx.ModelProto], object], says: str) -> None:
    proto = broken(edit)
    assert says in error_of(proto)
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    assert says in error_of(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: p.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [32, 16])),
        lambda p: p.graph.node.append(helper.make_node("Gelu", ["h"], ["g"], domain="com.microsoft")),
        lambda p: p.graph.node.append(helper.make_node("Anything", ["h"], ["g"], domain="my.own", key=1)),
        lambda p: p.graph.node.append(helper.make_node("SimplifiedLayerNormalization", ["h", "w"], ["g"])),
        lambda p: setattr(p.opset_import[0], "domain", "ai.onnx"),
        lambda p: p.graph.node.append(helper.make_node("Clip", ["h", "", "x"], ["g"])),
        lambda p: p.graph.ClearField("name"),
    ],
)
def test_oddities_that_runtimes_accept(edit: Callable[[onnx.ModelProto], object]) -> None:
    load(broken(edit))
