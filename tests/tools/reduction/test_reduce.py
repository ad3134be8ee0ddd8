"""``prunec reduce``: what is left still fails, and is small."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from core_graphs import graph, node_of
from coupling_graphs import coupled

import prunec
from prunec.ir.module import Module
from prunec.tools import prunec as command
from prunec.tools.reduction.oracle import Oracle
from prunec.tools.reduction.search import Search
from prunec.tools.reduction.shrink import size_of


class HasOps(Oracle):
    """The failure is there where all of these ops are."""

    def __init__(self, *op_types: str) -> None:
        self.op_types = set(op_types)
        self.asked = 0

    def fails(self, models: list[Path]) -> list[bool]:
        self.asked += len(models)
        return [self.op_types <= {node.op_type for node in onnx.load(model).graph.node} for model in models]


def reduced(module: Module, *op_types: str) -> tuple[Module, list[Module]]:
    saved: list[Module] = []
    search = Search(oracle=HasOps(*op_types), save=saved.append, progress=lambda line: None)
    return search.run(module), saved


@pytest.mark.parametrize(
    ("name", "op_types", "nodes"),
    [
        ("residual", ["Add"], 1),
        ("channel shuffle", ["Transpose"], 1),
        ("heads", ["Softmax"], 1),
        ("residual", ["Conv", "Add"], 2),
    ],
)
def test_only_what_the_failure_needs_is_left(name: str, op_types: list[str], nodes: int) -> None:
    found, saved = reduced(coupled(name), *op_types)
    assert len(found.graph) == nodes
    assert {node.op_type for node in found.graph} == set(op_types)
    onnx.checker.check_model(prunec.ir.proto.to_proto(found), full_check=True)  # type: ignore[attr-defined]
    sizes = [size_of(module) for module in saved]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)


def test_channels_and_sizes_shrink_too() -> None:
    module = graph("""
    net (float[N,3,32,32] x) => (float[N,5,32,32] y) <float[16,3,1,1] w0, float[5,16,1,1] w1>
    { a = Conv(x, w0)  b = Relu(a)  y = Conv(b, w1) }""")
    found, _ = reduced(module, "Conv", "Relu")
    (image, *_) = found.graph.inputs
    assert tuple(image.shape or ())[2:] == (1, 1)
    assert len(found.graph) == 2


def test_numbers_that_were_computed_become_constants() -> None:
    module = graph("""
    net (float[2,6] x) => (float[3,4] y)
    { s = Shape(x)  f = Constant<value_ints=[2]>()  n = ReduceProd<keepdims=1>(s)  m = Constant<value_ints=[3]>()
      q = Div(n, m)  t = Concat<axis=0>(m, q)  r = Reshape(x, t)  y = Relu(r) }""")
    found, _ = reduced(module, "Reshape")
    assert [node.op_type for node in found.graph] == ["Reshape"]
    shape = node_of(found, "r").inputs[1]
    assert (
        shape is not None and shape.const_value is not None and shape.const_value.numpy().tolist() == [3, 4]
    )


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``net.onnx``."""
    prunec.save(coupled("residual"), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FAILS_ON_ADD = (
    f'{sys.executable} -c "import onnx, sys; ops = [n.op_type for n in onnx.load(sys.argv[1]).graph.node]; '
    "print('found', ops); sys.exit('Add' in ops)\""
)


def test_a_command_says_what_fails(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["reduce", "net.onnx", "--test", FAILS_ON_ADD, "--match", "found"]) == 0
    assert [node.op_type for node in onnx.load("net.reduced.onnx").graph.node] == ["Add"]
    assert "7 nodes reduced to 1 in " in capsys.readouterr().err
    assert command.run(["reduce", "net.onnx", "--test", FAILS_ON_ADD]) == 0
    assert "1 node reduced to 1 in " in capsys.readouterr().err, "it goes on from what is there"


def test_a_pipeline_says_what_fails(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
    net (float[N,3] x) => (float[N,4] y) <float[3,8] w0, float[8,8] w1, float[8,4] w2>
    { a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Relu(c)  e = MatMul(d, w2)  y = Softmax(e) }"""
    broken = graph(text)
    node_of(broken, "y").op_type = "NoSuchOp"
    prunec.save(broken, "broken.onnx")
    assert command.run(["reduce", "broken.onnx", "-p", "prune-channels{round-to=1}", "-o", "small.onnx"]) == 0
    assert [node.op_type for node in onnx.load("small.onnx").graph.node] == ["MatMul", "MatMul", "NoSuchOp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --passes or --test"),
        (["-p", "verify", "--test", "false"], "give either --passes or --test"),
        (["-p", "verify"], "net.onnx: the pipeline does not fail on this model"),
        (["--test", "true {}"], "net.onnx: the test does not fail on this model"),
        (["--test", "false {}", "--match", "never"], "net.onnx: the test does not fail on this model"),
        (
            ["--test", "sleep 9; false {}", "--timeout", "0.1"],
            "net.onnx: the test does not fail on this model",
        ),
        (["--test", "false", "--match", "("], "--match is no regular expression: "),
        (["-p", "verify", "--match", "x"], "--match goes with --test"),
        (["-p", "sparsify{criterion=wanda}"], "calibration data do not fit smaller models, and the pipeline"),
        (["--test", "nosuchtool {}"], "the shell cannot run the test (exit 127): "),
        (["--test", "false", "-o", "net.onnx"], "net.onnx: this output would overwrite an input"),
    ],
)
def test_mistakes(net: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert command.run(["reduce", "net.onnx", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not Path("net.reduced.onnx").exists()
