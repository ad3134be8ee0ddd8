"""``prunec bench``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from bench_models import perceptron

from prunec.tools import prunec as command

QUICK = ("--runs", "12", "--seconds", "1", "--no-memory")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``a.onnx`` and ``b.onnx``."""
    onnx.save(perceptron(64), tmp_path / "a.onnx")
    onnx.save(perceptron(32), tmp_path / "b.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tables_and_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("real.npz", x=np.zeros((10, 16), np.float32))
    options = ("--batch", "1,4", "--data", "real.npz", "--json", "out.json")
    assert command.run(["bench", "a.onnx", "b.onnx", *options, *QUICK]) == 0
    captured = capsys.readouterr()
    assert captured.err == "wrote out.json\n"
    out = captured.out
    for expected in (
        "p99 ms",
        "samples/s",
        "1,280",
        "95 % interval",
        "at batch 4 b.onnx",
        "inputs from real.npz",
    ):
        assert expected in out
    found = json.loads((models / "out.json").read_text(encoding="utf-8"))
    assert found["schema"] == "prunec.bench/1"
    assert [model["name"] for model in found["models"]] == ["a.onnx", "b.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx", "--batch", "1,x"], "'1,x' is no list of batch sizes such as 1,8,64"),
        (["a.onnx", "--json", "a.onnx"], "this output would overwrite an input"),
        (["a.onnx", "--size", "seq=0"], "'seq=0' is no size such as seq=128"),
        (["a.onnx", "--size", "seq=8"], "no input has a free size `seq`"),
        (["c.onnx"], "c.onnx"),
        (["a.onnx", "--batch", "0"], "a batch of 0 is no batch"),
        (["a.onnx", "--batch", "1000000000000"], "a.onnx: a batch of 1,000,000,000,000 needs about"),
    ],
)
def test_mistakes(
    models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command.run(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error.splitlines()[0]


def test_a_profile_is_shown_on_request(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["bench", "a.onnx", "b.onnx", "--batch", "1", "--profile", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "where the time of a.onnx goes at batch 1" in out and "where the time of b.onnx goes" in out
    (up,) = [line for line in out.splitlines() if line.split()[:1] == ["up"] and "16x64" in line]
    assert "1,024" in up


def test_inspect_predicts_a_ceiling(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(perceptron(512, inputs=512), "wide.onnx")
    options = ["--ceiling=estimated:1T,0.1T", "--kernel-speedup", "1.9", "--batch", "64"]
    assert command.run(["inspect", "wide.onnx", *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2:4 can make wide.onnx at most 1.") and "1.9x faster at most" in " ".join(
        out.split()
    )
    assert command.run(["inspect", "wide.onnx", "--ceiling", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["ceilings"]
    assert (found["source"], found["kernel"], found["batch"]) == ("measured", 2.0, 1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("fast", "'fast' is no way to know where time goes"),
        ("measured:1,2", "'measured:1,2' is no way to know where time goes"),
        ("estimated:1", "'1' are not operations and bytes a second"),
        ("estimated:1x,2", "'1x' is no number"),
        ("estimated:0,2", "0 is no speed"),
    ],
)
def test_mistakes_in_a_ceiling(
    models: Path, capsys: pytest.CaptureFixture[str], how: str, message: str
) -> None:
    assert command.run(["inspect", "a.onnx", f"--ceiling={how}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --ceiling: {message}\n")
