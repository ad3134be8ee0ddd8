"""``prunec diff``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from core_graphs import graph, weights
from coupling_graphs import coupled
from sabotage import put

import prunec
from prunec.tools import prunec as command


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``a.onnx``, and ``b.onnx`` in which one weight is another."""
    module = coupled("residual")
    prunec.save(module, tmp_path / "a.onnx")
    put(module, "w2", weights(module)["w2"] * 1.5)
    prunec.save(module, tmp_path / "b.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert command.run(["diff", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_it_names_the_weight_and_the_place(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in shown(capsys, "a.onnx", "b.onnx")[0].splitlines()]
    assert ["weight", "w2", "f32[6,", "4,", "1,", "1]", "f32[6,", "4,", "1,", "1]", "5.0e-01"] in lines
    assert ["4", "of", "7", "aligned", "values", "differ;", "it", "begins", "at"] in lines
    assert lines[-1][:2] == ["d", "Conv"]


def test_a_model_is_equal_to_itself(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = shown(capsys, "a.onnx", "a.onnx", "--fail-above", "0")
    assert "the graphs are the same" in out and "all 7 aligned values agree to 0.0001" in out


def test_a_limit_is_a_gate(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, error = shown(capsys, "a.onnx", "b.onnx", "--fail-above", "1e-6", code=3)
    assert error.startswith("error: output `y` differs by ") and error.endswith(
        ", at most 1e-06 is allowed\n"
    )
    shown(capsys, "a.onnx", "b.onnx", "--fail-above", "10")


def test_everything_as_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capsys, "a.onnx", "b.onnx", "--json")[0])
    assert (found["aligned"], found["only_a"], found["only_b"]) == (7, 0, 0)
    assert [d["name"] for d in found["differences"]] == ["w2"]
    assert [value["name"] for value in found["values"] if value["begins"]] == ["d"]


def test_given_inputs_take_the_place_of_random_ones(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = [
        value if isinstance(value, int) else 3 for value in prunec.load("a.onnx").graph.inputs[0].shape or ()
    ]
    np.savez("zeros.npz", x=np.zeros(shape, np.float32))
    given = shown(capsys, "a.onnx", "b.onnx", "--data", "zeros.npz")[0]
    assert "4 of 7 aligned values differ" in given and given != shown(capsys, "a.onnx", "b.onnx")[0]
    np.savez("other.npz", z=np.zeros(shape, np.float32))
    _, error = shown(capsys, "a.onnx", "b.onnx", "--data", "other.npz", code=2)
    assert error.startswith("error: other.npz: no array is named as the graph input `x`\n")
    _, error = shown(capsys, "a.onnx", "b.onnx", "--data", "zeros.npz", "--no-run", code=2)
    assert error.startswith("error: --data and --no-run contradict each other\n")


def test_models_that_take_other_inputs_are_compared_as_graphs(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prunec.save(coupled("heads"), "heads.onnx")
    out, _ = shown(capsys, "a.onnx", "heads.onnx")
    assert "numbers are not compared: " in out
    assert shown(capsys, "a.onnx", "b.onnx", "--no-run")[0].splitlines()[-1] == (
        "numbers are not compared: they were not run"
    )
    _, error = shown(capsys, "a.onnx", "heads.onnx", "--fail-above", "1", code=3)
    assert error.startswith("error: no output could be compared: ")


def test_numbers_inside_bodies_are_said_to_be_compared_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, op in (("a.onnx", "Exp"), ("b.onnx", "Sin")):
        text = f"net (float[N,4] x, bool c) => (float[N,4] y) {{ h = Tanh(x) y = If (c) <then_branch = t () => (float[N,4] p) {{ n = Neg(h) p = {op}(n) }}, else_branch = e () => (float[N,4] q) {{ q = {op}(h) }}> }}"
        prunec.save(graph(text), tmp_path / name)
    out, _ = shown(capsys, "a.onnx", "b.onnx")
    assert "numbers of 1 node inside bodies are compared where they leave the node that holds them\n" in out
    assert out.splitlines()[-1].split()[:2] == ["y", "If"]
    assert json.loads(shown(capsys, "a.onnx", "b.onnx", "--json")[0])["inside_bodies"] == 1
