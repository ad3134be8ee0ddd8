"""``prunec eval``: tables, JSON, thresholds and mistakes as a user sees them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import prunec
from prunec.tools import prunec as command

RARE = "[sets]\nrare = [3, 7]\n[slices.rare]\nwhere = 'label in rare'\nmax-drop = 0.02\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, its data, and two cuts of it."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(Path("examples") / name, folder)
    for ratio in (50, 60):
        cut = prunec.run(
            prunec.load(folder / "digits.onnx"), f"prune-channels{{ratio={ratio}%}}", verify=False
        )
        cut.save(folder / f"p{ratio}.onnx")
    return folder


@pytest.fixture
def folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(models)
    return models


def test_a_table_a_model_and_exit_3_where_a_threshold_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("slices.toml").write_text(RARE)
    base = ["eval", "digits.onnx", "p50.onnx"]
    options = ["--data", "digits.npz", "--slices", "slices.toml"]
    assert command.run([*base, *options]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "p50.onnx against digits.onnx: top1 of 450 samples of digits.npz (higher is better)"
    assert rows[2].split()[:4] == ["slice", "samples", "dense", "value"]
    assert rows[3].split()[:4] == ["all", "450", "0.9978", "0.9956"]
    assert rows[4].split()[:4] == ["rare", "91", "1.0000", "1.0000"] and rows[4].split()[-1] == "holds"
    assert command.run([*base, "p60.onnx", *options, "--json", "eval.json"]) == 3
    shown = capsys.readouterr()
    assert shown.err.startswith(
        "wrote eval.json\nerror: slices.toml: p60.onnx: slice `rare` (91 samples): top1 drops by"
    )
    found = json.loads(Path("eval.json").read_text())
    assert found["schema"] == "prunec.evaluations/1" and set(found["versions"]) == {"prunec", "onnxruntime"}
    first, second = found["evaluations"]
    assert first["model"]["sha256"] == prunec.load("p50.onnx").source.sha256
    assert [row["status"] for row in second["rows"]] == [None, "fails"] and first["status"] == "holds"


def test_one_model_by_itself_and_by_agreement_without_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(["eval", "p60.onnx", "--data", "digits.npz", "--metric", "perplexity"]) == 0
    assert "perplexity of 450 samples of digits.npz (lower is better)" in capsys.readouterr().out
    with np.load("digits.npz") as file:
        np.savez("bare.npz", image=file["image"])
    assert command.run(["eval", "p60.onnx", "--data", "bare.npz", "--against", "digits.onnx"]) == 0
    assert "agreement of 450 samples" in capsys.readouterr().out


def test_an_undecided_threshold_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("slices.toml").write_text("[all]\nmin = 0.998\n")
    arguments = ["eval", "p50.onnx", "--data", "digits.npz", "--slices", "slices.toml"]
    assert command.run(arguments) == 0
    shown = capsys.readouterr().out
    assert "min 0.998  undecided" in shown and shown.endswith("more samples would decide\n")
    Path("slices.toml").write_text("undecided = 'fail'\n[all]\nmin = 0.998\n")
    assert command.run(arguments) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: missing argument 'A.onnx [B.onnx ...]'\n  = help: prunec eval --help\n"),
        (["p50.onnx"], "error: missing option '--data'\n  = help: prunec eval --help\n"),
        (["p50.onnx", "--data", "digits.npz", "--metric", "top2"],
         "error: --metric:1:1: unknown metric 'top2' (did you mean 'top5'?)\n"),
        (["p50.onnx", "--data", "bare2.npz", "--metric", "top1"],
         "error: bare2.npz: metric `top1` needs labels, and no array is named `label`\n  = note: arrays: image\n"),
        (["p50.onnx", "--data", "bare2.npz"],
         "error: bare2.npz: metric `agreement` compares with the dense model, and none is given\n"),
        (["p50.onnx", "--data", "short.npz"],
         "error: short.npz: array `image` has 450 samples, array `label` has 449\n"),
        (["p50.onnx", "--data", "no.csv"], "error: no.csv: no such file\n"),
        (["p50.onnx", "--data", "digits.npz", "--slices", "no.toml"],
         "error: no.toml: cannot read the slices: no such file or directory\n"),
        (["p50.onnx", "--data", "digits.npz", "--json", "digits.npz"],
         "error: digits.npz: this output would overwrite an input\n"),
        (["p50.onnx", "--data", "digits.npz", "--slices", "drop.toml"],
         "error: drop.toml: 'all' limits the drop against the dense model, and none is given\n"),
    ],
)  # fmt: skip
def test_mistakes(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with np.load("digits.npz") as file:
        np.savez("bare2.npz", image=file["image"])
        np.savez("short.npz", image=file["image"], label=file["label"][1:])
    Path("drop.toml").write_text("[all]\nmax-drop = 0.1\n")
    assert command.run(["eval", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)
