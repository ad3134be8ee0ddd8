"""What is dumped is read back: the same model, the same text, the same numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxtext
import pytest
from generators import models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx_ir.serde import deserialize_tensor
from rich_model import differences, rich
from zoo import zoo_models

from prunec.ir.dump.constants import Constants, inline_text, read_tensor
from prunec.ir.dump.cursor import Cursor
from prunec.ir.dump.file import dump_text
from prunec.ir.dump.words import ELEMENTS, size_of, tokenize
from prunec.ir.execute import run_model
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds
from prunec.ir.proto import graphs_of
from prunec.ir.save import save, to_proto
from prunec.ir.source import SourceText
from prunec.passes.coupling import analyse
from prunec.passes.printer import save_module_dump

SMALL_ZOO = ("mnist_cntk", "scan_1", "trt_loop", "qdq_multi")
TEXTUAL = sorted((Path(__file__).parents[2] / "textual").rglob("*.onnxtxt"))


def normal(module: Module) -> onnx.ModelProto:
    """The model with its attributes in order and its numbers as raw bytes."""
    proto = to_proto(module)
    for node in (node for graph in graphs_of(proto.graph) for node in graph.node):
        ordered = sorted(
            (AttributeProto.FromString(a.SerializeToString()) for a in node.attribute), key=lambda a: a.name
        )
        del node.attribute[:]
        node.attribute.extend(ordered)
        for tensor in (t for a in node.attribute for t in ([a.t] if a.HasField("t") else a.tensors)):
            tensor.CopyFrom(_raw(tensor))
    for tensor in (t for graph in graphs_of(proto.graph) for t in graph.initializer):
        tensor.CopyFrom(_raw(tensor))
    return proto


def _raw(tensor: TensorProto) -> TensorProto:
    if tensor.data_type == TensorProto.STRING:
        return tensor
    raw = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, doc_string=tensor.doc_string
    )
    raw.metadata_props.extend(tensor.metadata_props)
    raw.raw_data = deserialize_tensor(tensor).tobytes()
    return raw


def check_round_trip(module: Module) -> Module:
    """Dump a module, read it, and dump it again: nothing differs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prunec"
        save(module, path)
        back = load(path)
    assert differences(normal(module), normal(back)) == []
    texts = [dump_text(m, Constants(), data="net.prunec.data") for m in (module, back)]
    assert texts[0] == texts[1]
    return back


@settings(max_examples=20, deadline=None)
@given(models(max_steps=4))
def test_random_models_come_back(model: onnx.ModelProto) -> None:
    """Nothing of a generated network is lost."""
    check_round_trip(load(model))


def test_a_model_that_uses_everything_comes_back() -> None:
    """Functions, bodies, annotations, doc strings, metadata, denotations, strings that are no text."""
    check_round_trip(load(rich()))


@pytest.mark.parametrize("path", TEXTUAL, ids=lambda path: path.stem)
def test_textual_graphs_come_back(path: Path) -> None:
    """The graphs of all textual tests."""
    for section in onnxtext.sections(path.read_text(encoding="utf-8")):
        check_round_trip(load(onnxtext.parse_model(section)))


@pytest.mark.parametrize("path", [p for p in zoo_models(runs=True) if (p.id or "").startswith(SMALL_ZOO)])
def test_real_models_compute_the_same_bits(path: Path) -> None:
    """A real model and its dump give equal outputs."""
    module = load(path)
    back = check_round_trip(module)
    feeds = probe_feeds(module, seed=3)
    ours, theirs = run_model(module, feeds), run_model(back, feeds)
    assert ours
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours)


def custom(**attributes: object) -> onnx.ModelProto:
    """One custom op with these attributes."""
    return wrapped(helper.make_node("Odd", ["x"], ["y"], domain="com.acme", **attributes))


def wrapped(*nodes: onnx.NodeProto, given: str = "x", made: str = "y", name: str = "net") -> onnx.ModelProto:
    """A model of some nodes from one input to one output."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in (given, made)]
    graph = helper.make_graph(list(nodes), name, ends[:1], ends[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def body(name: str) -> onnx.GraphProto:
    """A body that reads from outside, with a constant of its own."""
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    out = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Add", ["x", "one"], ["r"])], name, [], [out], [one])


EVERY_KIND = {
    "int": -5,
    "float": 1.0,
    "tiny": 1e-45,
    "infinite": float("-inf"),
    "string": 'two "words" \\ // # {x} \n \u202e é',
    "ints": [1, -(2**63)],
    "floats": [0.1, float("nan"), 1e30],
    "strings": ["", "%x", "a, b"],
    "tensor": numpy_helper.from_array(np.arange(6, dtype=np.int64).reshape(2, 3), "t"),
    "large": numpy_helper.from_array(np.arange(600, dtype=np.float64), "l"),
    "words": helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"\xff\n"]),
    "tensors": [
        numpy_helper.from_array(np.zeros((0, 2), np.float32)),
        numpy_helper.from_array(np.float16(2)),
    ],
    "type": helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", None, 3])),
    "types": [helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.INT64, None))],
    "body": body("one body"),
    "bodies": [body("a"), body("b")],
    "odd name!": 1,
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_attribute_comes_back(kind: str) -> None:
    """One attribute of each kind, with the values that formats stumble over."""
    check_round_trip(load(custom(**{kind: EVERY_KIND[kind]})))


@pytest.mark.parametrize("kind", ["INTS", "FLOATS", "STRINGS", "TENSORS", "GRAPHS", "TYPE_PROTOS"])
def test_empty_lists_keep_their_kind(kind: str) -> None:
    """An empty list of integers is not an empty list of floats."""
    model = custom()
    model.graph.node[0].attribute.add(name="empty", type=getattr(AttributeProto, kind), doc_string="of none")
    check_round_trip(load(model))


ODD_NAMES = [
    "a b",
    'say "x"',
    "%x",
    "@",
    "_",
    "x:0",
    "x:",
    "a//b",
    "#1",
    "é",
    "\u202e",
    "{}",
    "a\\",
    "none",
    "-> y",
    "$r",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back(name: str) -> None:
    """As a value, a node, an op, a domain, a graph, a symbolic size."""
    model = wrapped(
        helper.make_node("Relu", [name], ["t"], name=name),
        helper.make_node(name, ["t"], ["y"], name=f"{name}2", domain="com.acme"),
        helper.make_node("NoSuchOp", ["t"], [""], domain=""),
        given=name,
        name=name,
    )
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = name
    model.opset_import.add(domain=name, version=2)
    check_round_trip(load(model))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(ELEMENTS) - {"str"})), st.binary(min_size=16, max_size=16))
def test_numbers_come_back_bit_for_bit(element: str, data: bytes) -> None:
    """Whatever the bits are: payloads of NaN, signed zeros, types that NumPy lacks."""
    dtype = ELEMENTS[element]
    data = bytes(byte & 1 for byte in data) if element == "bool" else data
    text = f"{element}[{int(128 // dtype.bitwidth)}]={inline_text(dtype, data)}"
    if 128 % dtype.bitwidth:
        return
    source = SourceText.of(text, "<test>")
    tensor = read_tensor(Cursor(source=source, tokens=list(tokenize(source))))
    assert tensor.raw_data == data


@pytest.mark.parametrize(
    ("text", "size"),
    [("g1:8", 8), ("g1:8*16", 128), ("2*g3:4*2", 16), ("g4:64+g5:32", 96), ("mix(g1:3,5)", 8), ("7", 7), ("N", None)],
)  # fmt: skip
def test_sizes_are_kept_of_groups(text: str, size: int | None) -> None:
    """What stands for an axis in a dump says its size; the reader takes that."""
    assert size_of(text) == size
    source = SourceText.of(f"f32[{text}]=", "<test>")
    if size is not None:
        from prunec.ir.dump.types import read_size

        assert read_size(Cursor(source=source, tokens=list(tokenize(source))[2:])) == size


@pytest.mark.parametrize("inline", [0, 10_000])
def test_groups_and_sparsity_are_comments(tmp_path: Path, inline: int) -> None:
    """A dump with everything that a person wants to see loads as the model it shows."""
    weight = np.tile(np.float32([0, 1, 0, 2]), (8, 2))
    model = wrapped(
        helper.make_node("MatMul", ["x", "w1"], ["h"]), helper.make_node("MatMul", ["h", "w2"], ["y"])
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32([[1] * 8, [2] * 8]), "w1"))
    model.graph.initializer.append(numpy_helper.from_array(weight[:, :2].copy(), "w2"))
    module = load(model)
    save_module_dump(module, tmp_path / "net.prunec", coupling=analyse(module.model), inline=inline)
    text = (tmp_path / "net.prunec").read_text()
    assert "group g1 size=8" in text
    assert "f32[N, g1:8]" in text
    assert "#zeros=50%" in text
    assert (tmp_path / "net.prunec.data").exists() == (inline == 0)
    assert differences(normal(module), normal(load(tmp_path / "net.prunec"))) == []


def test_replacing_a_dump_leaves_one_data_file(tmp_path: Path) -> None:
    """A dump may be saved over its own source, and no data file is left behind."""
    path = tmp_path / "net.prunec"
    save(load(rich()), path)
    for _ in range(3):
        save(load(path), path)
    assert len(list(tmp_path.iterdir())) == 2
    assert differences(normal(load(rich())), normal(load(path))) == []


def test_a_model_made_of_a_dump_is_one_file(tmp_path: Path) -> None:
    """That the dump's constants lie in a file of their own says nothing about the ONNX file."""
    save(load(rich()), tmp_path / "net.prunec")
    save(load(tmp_path / "net.prunec"), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx.data").exists()
