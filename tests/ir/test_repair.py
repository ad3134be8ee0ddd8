"""What is put right on loading: each kind with its remark, and the model computes what ONNX Runtime made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from core_graphs import Array, outputs, prune, weights
from onnx import TensorProto, helper, numpy_helper
from small_models import error_of

from prunec.ir.load import load
from prunec.ir.repair import newest_version
from prunec.ir.runtime import newest_opset, session_options

Edit = Callable[[onnx.ModelProto], object]


def array(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def net(activation: str = "Relu", domain: str = "") -> onnx.ModelProto:
    """Two layers with an activation between them."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
             helper.make_node(activation, ["a"], ["b"], "act", domain=domain),
             helper.make_node("MatMul", ["b", "v"], ["y"], "second")]  # fmt: skip
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n])
        for name, n in (("x", 32), ("y", 5))
    ]
    tensors = [numpy_helper.from_array(array(32, 24), "w"), numpy_helper.from_array(array(24, 5), "v")]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], tensors, doc_string="a graph")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def other_import(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].CopyFrom(helper.make_opsetid("com.microsoft", 1))


def old_version(proto: onnx.ModelProto) -> None:
    proto.ir_version, proto.opset_import[0].version = 3, 8


def one_name(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node[::2]:
        node.name = "n"


def unsorted(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def sparse(dense: Array, *, pairs: bool) -> onnx.SparseTensorProto:
    where = np.argwhere(dense) if pairs else np.flatnonzero(dense)
    values = dense[dense != 0]
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values, "w"),
        numpy_helper.from_array(where.astype(np.int64), "at"),
        dense.shape,
    )


def thin() -> Array:
    dense = array(32, 24)
    dense[dense < 0.5] = 0
    return dense


def sparse_initializer(proto: onnx.ModelProto, *, pairs: bool = False) -> None:
    del proto.graph.initializer[0]
    proto.graph.sparse_initializer.append(sparse(thin(), pairs=pairs))


def sparse_constant(proto: onnx.ModelProto) -> None:
    del proto.graph.initializer[0]
    proto.graph.node.insert(
        0, helper.make_node("Constant", [], ["w"], sparse_value=sparse(thin(), pairs=False))
    )


CASES: list[tuple[Edit, str]] = [
    (
        other_import,
        f"the model uses the default domain and does not import it: version {newest_opset()} is assumed",
    ),
    (old_version, "IR version 3 wants every initializer among the inputs, and 2 are not: raised to 4"),
    (one_name, "2 nodes are called `n`: all but the first got numbers"),
    (unsorted, "nodes came before what they read: put into topological order"),
    (sparse_initializer, "sparse tensor `w` [32, 24] is made dense: pruning cuts dense ones"),
    (
        lambda p: sparse_initializer(p, pairs=True),
        "sparse tensor `w` [32, 24] is made dense: pruning cuts dense ones",
    ),
    (sparse_constant, "sparse tensor `w` [32, 24] is made dense: pruning cuts dense ones"),
]


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize(("edit", "says"), CASES)
def test_repairs(edit: Edit, says: str, from_file: bool, tmp_path: Path) -> None:
    proto = net()
    edit(proto)
    as_it_was = proto.SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(as_it_was)
    module = load(path if from_file else proto)
    assert [remark.message for remark in module.repairs] == [says]
    assert proto.SerializeToString() == as_it_was, "the user's object is not changed"
    result = prune(module)
    assert says in [remark.message for remark in result.remarks]
    assert weights(result.module)["v"].shape == (12, 5)
    feeds = {"x": array(2, 32)}
    np.testing.assert_allclose(outputs(module, feeds)["y"], expected(edit, as_it_was, feeds), rtol=1e-4)


def expected(edit: Edit, model: bytes, feeds: dict[str, Array]) -> Array:
    """What ONNX Runtime makes of the file as it is; two nodes of one name it refuses, the names apart."""
    proto = net() if edit is one_name else onnx.load_from_string(model)
    session = ort.InferenceSession(
        proto.SerializeToString(), session_options(optimize=False, threads=1), ["CPUExecutionProvider"]
    )
    result: Array = session.run(None, feeds)[0]
    return result


@pytest.mark.parametrize(
    ("op", "domain", "version"), [("FastGelu", "com.microsoft", 1), ("Binarizer", "ai.onnx.ml", 5)]
)
def test_a_domain_that_is_not_imported(op: str, domain: str, version: int) -> None:
    module = load(net(op, domain))
    assert [r.message for r in module.repairs] == [
        f"the model uses domain `{domain}` and does not import it: version {version} is assumed"
    ]
    assert module.opset(domain) == version == newest_version(domain)


def test_names_with_numbers_are_new() -> None:
    proto = net()
    proto.graph.node[0].name = proto.graph.node[1].name = "n"
    proto.graph.node[2].name = "n_2"
    assert [node.name for node in load(proto).graph] == ["n", "n_3", "n_2"]


def test_what_is_right_stays_as_it_is() -> None:
    module = load(net())
    assert module.repairs == () and module.graph.doc_string == "a graph"
    assert str(prune(module).module.graph.inputs[0].shape) == "[batch,32]"


@pytest.mark.parametrize(
    ("shape", "says"),
    [((2**20, 2**20), "is no shape, or too large"), ((2, 2), "sparse tensor `w` cannot be read")],
)
def test_sparse_tensors_that_lie(shape: tuple[int, int], says: str) -> None:
    proto = net()
    sparse_initializer(proto)
    proto.graph.sparse_initializer[0].dims[:] = shape
    assert says in error_of(proto)


def test_operands_that_contradict_each_other_are_named() -> None:
    proto = net()
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(array(9, 5), "v"))
    with pytest.raises(Exception, match="second") as caught:
        prune(load(proto))
    assert str(caught.value) == (
        "error: <memory>: node `second`: `MatMul` cannot take operands of shapes [?, 24] and [9, 5]: "
        "incompatible dimensions for matrix multiplication\n"
        "  = help: the model contradicts itself; export it again"
    )


def test_an_optional_output_that_is_left_empty() -> None:
    proto = net("Dropout")
    proto.graph.node[1].output.append("")
    assert weights(prune(load(proto)).module)["w"].shape == (32, 12)
