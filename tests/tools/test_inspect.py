"""``prunec inspect``: what it shows, what it writes, and what it says to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import onnx
import pytest
from onnxtext import parse_model
from zoo import zoo_models

import prunec
from prunec.tools import prunec as command
from prunec.tools.inspect_tables import percent

NET = """
# WEIGHTS: random
net (float[N,3,8,8] x) => (float[N,10] logits)
  <float[8,3,3,3] stem, float[8,8,3,3] conv1, float[8] bias1, float[8,8,3,3] conv2, float[10,8] fc, float[10] fcbias,
   int64[1] minus = {-1}>
{
  [stem] a = Conv<pads = [1, 1, 1, 1]>(x, stem)
  [conv1] b = Conv<pads = [1, 1, 1, 1]>(a, conv1, bias1)
  [relu] c = Relu(b)
  [conv2] d = Conv<pads = [1, 1, 1, 1]>(c, conv2)
  [sum] e = Add(d, a)
  [pool] p = GlobalAveragePool(e)
  [flat] f = Flatten(p)
  [fc] logits = Gemm<transB = 1>(f, fc, fcbias)
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``net.onnx``: a residual block between a stem and a classifier."""
    onnx.save(parse_model(NET), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inspect(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What goes to stdout; with a mistake, what goes to stderr."""
    assert command.run(["inspect", *arguments]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return shown.err if code else shown.out


def row(text: str, start: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.split()[:1] == [start]]
    return line.split()


def test_overview_says_what_can_be_pruned_what_is_pinned_and_what_it_costs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = inspect(capsys, "net.onnx")
    assert shown.startswith("net.onnx\n  1,466 parameters (5.73 KiB), 87,632 multiply-accumulates at N=1\n")
    assert "  input   x  f32[N, 3, 8, 8]\n  output  logits  f32[N, 10]\n" in shown
    assert "What can be pruned: 2 groups with 99.3 % of the parameters" in shown
    assert row(shown, "g1") == ["g1", "8", "1", "181", "98.8", "%", "stem", "+1", ">", "conv1", "+1"]
    assert "graph output `logits`" in shown and "graph input `x`" in shown
    assert "6 axes of weights, tied to nothing: a spatial axis of Conv" in shown
    assert row(shown, "fc") == ["fc", "Gemm", "10x8", "90", "80", "0.1", "%", "g10!", "g1", "89%", "no"]
    assert max(map(len, shown.splitlines())) <= 100


def test_groups_carry_what_goes_with_a_unit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx", "--groups")
    # stem 27, conv1 72, conv2 72 + 10 of fc; group 2: conv1 72 + its bias, conv2 72
    assert row(shown, "g1")[:4] == ["g1", "8", "1", "181"]
    assert row(shown, "g2")[:4] == ["g2", "8", "1", "145"]
    assert "What costs" not in shown and "Which layers" not in shown


def test_a_tensor_with_two_axes_in_a_group_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """# WEIGHTS: random
    net (float[N,4] x) => (float[N,3] y) <float[4,8] a, float[8,8] b, float[8,3] c>
    { h = MatMul(x, a) i = MatMul(h, b) j = Add(h, i) y = MatMul(j, c) }"""
    onnx.save(parse_model(text), tmp_path / "net.onnx")
    shown = inspect(capsys, str(tmp_path / "net.onnx"), "--groups")
    assert row(shown, "g1")[3] == str(4 + 15 + 3)


def test_layers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx", "--layers")
    assert row(shown, "conv1")[:7] == ["conv1", "Conv", "8x8x3x3", "584", "36,864", "42.1", "%"]
    assert row(shown, "conv1")[7:] == ["g2", "g1", "100%", "no"]


WIDE = """# WEIGHTS: random
    net (float[N,256] x) => (float[N,256] y) <float[256,64] a, float[64,256] b, float[256,256] c>
    { h = MatMul(x, a) i = MatMul(h, b) j = MatMul(i, c) t = Transpose(x) y = MatMul(j, t) }"""


def test_sparsity_of_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = prunec.load(parse_model(WIDE.replace("N", "256")))
    prunec.save(prunec.run(module, "sparsify{layers=all only=b}").module, tmp_path / "net.onnx")
    shown = inspect(capsys, str(tmp_path / "net.onnx"), "--sparsity")
    assert shown.startswith("2:4 sparsity: 10.0 % of the MACs have it, 40.0 % are where it pays\n")
    small = ["too", "small", "to", "profit:", "64", "outputs,", "below"]
    assert row(shown, "h") == ["h", "MatMul", "256", "64", "0%", "small", *small]
    assert row(shown, "i")[:6] == ["i", "MatMul", "64", "256", "50%", "has"]
    assert row(shown, "j") == ["j", "MatMul", "256", "256", "0%", "gains"]
    assert row(shown, "y")[:3] == ["y", "MatMul", "no"]
    found = json.loads(inspect(capsys, str(tmp_path / "net.onnx"), "--json"))["layers"]
    assert [layer["sparsity"] for layer in found] == [
        {"zeros": 0.0, "pattern": None, "axis": None},
        {"zeros": 0.5, "pattern": "2:4", "axis": 0},
        {"zeros": 0.0, "pattern": None, "axis": None},
        None,
    ]
    small_reason = "too small to profit: 64 outputs, below 256"
    assert found[0]["eligibility"] == {
        "eligible": True,
        "profitable": False,
        "reasons": [],
        "small": small_reason,
    }
    assert found[3]["eligibility"]["reasons"] == ["its weight is computed at run time"]


def test_one_group(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx", "--group", "g1")
    assert shown.startswith("group g1: 8 units with 181 parameters each, ")
    assert row(shown, "fc") == ["fc", "1", "1", "8", "Gemm", "fc"]
    assert "pinned: graph output `logits`" in inspect(capsys, "net.onnx", "--group", "g10")


def test_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx", "--why", "stem", "conv2")
    assert "coupled, step by step:\n" in shown and "by Add `sum`" in shown
    assert shown.endswith("groups of both: g1 (8 units)\n")
    shown = inspect(capsys, "net.onnx", "--why", "bias1", "fc")
    assert shown.splitlines() == [
        "`bias1` and `fc` are not coupled: no unit of any group removes channels of both",
        "  bias1: g2 (8 units)",
        "  fc: g1 (8 units), g10 (pinned: graph output `logits`)",
    ]


def test_dump(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, "net.onnx", "--dump")
    assert shown.startswith("group g1 size=8 {@stem:0, ") and shown.endswith("\n}\n")
    assert (
        "%e = Add(%d, %a) : (f32[N, g1:8, 8, 8], f32[N, g1:8, 8, 8]) -> f32[N, g1:8, 8, 8]  // sum" in shown
    )


def test_json_holds_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(inspect(capsys, "net.onnx", "--json", "--why", "stem", "fc"))
    assert found["schema"] == "prunec.inspect/1"
    assert found["model"]["inputs"] == [{"name": "x", "type": "FLOAT", "shape": ["N", 3, 8, 8]}]
    groups = {group["id"]: group for group in found["groups"]}
    assert groups["g1"]["readers"] == ["conv1", "fc"] and groups["g1"]["writers"] == ["stem", "conv2"]
    assert {"tensor": "fc", "axis": 1, "size": 8, "slots": 8, "used_by": None} in groups["g1"]["members"]
    assert groups["g10"]["frozen"] == "graph output `logits`" and groups["g10"]["cause"] == "logits"
    assert sum(layer["parameters"] for layer in found["layers"]) == found["cost"]["parameters"] == 1466
    assert [step["op"] for step in found["why"]][-1] == "Gemm"


def test_graph_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["inspect", "net.onnx", "--dot", "g.dot", "--graphml", "g.graphml"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("wrote g.dot: ")
    dot, graph = Path("g.dot").read_text(), nx.read_graphml("g.graphml")
    assert '"%d:1" -- "%e:1" [label="Add", tooltip="sum"];' in dot
    assert graph.nodes["stem:0"]["groups"] == "g1" and graph.nodes["fc:0"]["frozen"] is True


def test_weights_behind_dequantisation_belong_to_their_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """# WEIGHTS: last
    net (float[N,4] x) => (float[N,3] y)
      <int8[2,4] q = {1,2,3,4,5,6,7,8}, float scale = {0.5}, int8 zero = {0}, float[2,3] last>
    { [dq] w = DequantizeLinear(q, scale, zero) t = Transpose<perm = [1, 0]>(w) [mm] h = MatMul(x, t) y = MatMul(h, last) }"""
    onnx.save(parse_model(text), tmp_path / "net.onnx")
    found = json.loads(inspect(capsys, str(tmp_path / "net.onnx"), "--json"))
    assert [(x["name"], x["parameters"]) for x in found["layers"]] == [("mm", 8), ("", 6)]
    assert found["groups"][0]["writers"] == ["mm"]


def test_nothing_to_prune_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """# WEIGHTS: w
    <ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    net (float[4,4] x) => (float y) <float[4,4] w>
    { h = MatMul(x, w) y = com.acme.Odd(h) }"""
    onnx.save(parse_model(text), tmp_path / "net.onnx")
    shown = inspect(capsys, str(tmp_path / "net.onnx"))
    assert "ops without a rule, which pin what they touch: com.acme::Odd (1)" in shown
    assert "Nothing can be pruned" in shown and "op `com.acme::Odd` has no rule" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.onnx"], "no.onnx: no such file"),
        (["net.onnx", "--group", "xyz"], "this model has no group `xyz`\n  = help: groups are g1 to g10\n"),
        (["net.onnx", "--group", "G2"], "this model has no group `G2`\n  = help: did you mean `g2`?\n"),
        (["net.onnx", "--group", "3"], "this model has no group `3`\n  = help: did you mean `g3`?\n"),
        (["net.onnx", "--group", "fc"], "this model has no group `fc`\n  = help: `fc` is in g"),
        (
            ["net.onnx", "--why", "stem", "conv3"],
            "no node or tensor is called `conv3`\n  = help: the nearest names are",
        ),
        (["net.onnx", "--dot", "net.onnx"], "this output would overwrite an input"),
        (["net.onnx", "--unit", "heads"], "invalid value for '--unit'"),
    ],
)
def test_mistakes(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in inspect(capsys, *arguments, code=2)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 5, "0.0 %"),
        (1, 10_000, "<0.1 %"),
        (9_999, 10_000, ">99.9 %"),
        (5, 5, "100.0 %"),
        (1, 3, "33.3 %"),
        (0, 0, "0.0 %"),
    ],
)
def test_percent(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@pytest.mark.parametrize("path", zoo_models(runs=True))
def test_real_models(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = inspect(capsys, str(path))
    assert "Can" not in shown[:1] and ("What can be pruned" in shown or "Nothing can be pruned" in shown)
    found = json.loads(inspect(capsys, str(path), "--json"))
    assert sum(layer["parameters"] for layer in found["layers"]) == found["cost"]["parameters"]
    assert all(0 <= (layer["prunable"] or 0) <= 1 for layer in found["layers"])
    assert found["cost"]["prunable"] <= found["cost"]["parameters"]
