"""``prunec eval``: tables, JSON, thresholds and mistakes as a user sees them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.tools import prunec as command

RARE = "[sets]\nrare = [3, 7]\n[slices.rare]\nwhere = 'label in rare'\nmax-drop = 0.05\n"


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
    shown = capsys.readouterr().out
    assert "agreement of 450 samples" in shown
    assert "agreement is measured: the data have no array `label`" in shown


def test_an_undecided_threshold_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("slices.toml").write_text("[all]\nmin = 0.998\n")
    arguments = ["eval", "p50.onnx", "--data", "digits.npz", "--slices", "slices.toml"]
    assert command.run(arguments) == 0
    shown = capsys.readouterr().out
    assert "min 0.998  undecided" in shown and shown.endswith("more samples would decide\n")
    Path("slices.toml").write_text("undecided = 'fail'\n[all]\nmin = 0.998\n")
    assert command.run(arguments) == 3


def halves(folder: Path) -> None:
    """``one.npz`` and ``two.npz`` are halves of the samples; ``dark.npz`` is the second without labels, and darker."""
    with np.load("digits.npz") as file:
        order = np.random.default_rng(0).permutation(450)
        for name, rows in (("one", order[:225]), ("two", order[225:])):
            np.savez(f"{name}.npz", image=file["image"][rows], label=file["label"][rows])
        np.savez("dark.npz", image=file["image"][order[225:]] * np.float32(0.6))


def test_a_baseline_holds_on_samples_of_its_kind_and_shows_drift_without_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves(folder)
    assert command.run(["eval", "p50.onnx", "--data", "one.npz", "--save-baseline", "base.json"]) == 0
    assert capsys.readouterr().err == "wrote base.json\n"
    assert json.loads(Path("base.json").read_text())["schema"] == "prunec.baseline/1"
    base = ["eval", "p50.onnx", "--baseline", "base.json"]
    assert command.run([*base, "--data", "two.npz", "--json", "eval.json"]) == 0
    shown = capsys.readouterr().out
    assert "as before" in shown and "drifted" not in shown
    assert {d["status"] for d in json.loads(Path("eval.json").read_text())["comparison"]["drifts"]} == {
        "stable"
    }
    assert command.run([*base, "--data", "dark.npz"]) == 3
    shown = capsys.readouterr()
    assert "not in the new samples: top1 of all, label" in shown.out
    assert shown.err.startswith("error: base.json: image_mean has drifted: stability index 5.")
    assert command.run([*base, "--data", "dark.npz", "--max-psi", "20"]) == 0


def test_one_sample_is_too_few_to_tell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load("digits.npz") as file:
        np.savez("single.npz", image=file["image"][:1], label=file["label"][:1])
    base = ["eval", "p50.onnx", "--data"]
    assert command.run([*base, "digits.npz", "--save-baseline", "base.json"]) == 0
    capsys.readouterr()
    assert command.run([*base, "single.npz", "--baseline", "base.json"]) == 0
    shown = capsys.readouterr().out
    assert "top1 of 1 sample of single.npz" in shown
    assert "all          1  1.0000  [0.2065, 1.0000]" in shown
    assert "stable\n" not in shown and "as before" not in shown
    assert "too few: by chance so few samples are as far from the baseline; more would tell\n" in shown


def test_agreement_with_the_dense_model_is_watched_without_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves(folder)
    against = ["--against", "digits.onnx"]
    assert (
        command.run(["eval", "p60.onnx", "--data", "one.npz", *against, "--save-baseline", "base.json"]) == 0
    )
    assert command.run(["eval", "p60.onnx", "--data", "dark.npz", *against, "--baseline", "base.json"]) == 3
    shown = capsys.readouterr()
    assert "slice  baseline" in shown.out and "agreement  all" in shown.out and "worse" in shown.out
    assert "error: base.json: the whole set: agreement is 0." in shown.err


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
        (["digits.onnx", "--data", "digits.npz", "--baseline", "base50.json"],
         "error: base50.json: this is the baseline of another model: of 'p50.onnx', not of 'digits.onnx'\n  = note: sha256 "),
        (["p50.onnx", "--data", "digits.npz", "--baseline", "no.json"],
         "error: no.json: cannot read the baseline: no such file or directory\n"),
        (["p50.onnx", "--data", "digits.npz", "--baseline", "drop.toml"], "error: drop.toml: this is no JSON: "),
        (["p50.onnx", "--data", "digits.npz", "--baseline", "plan.json"],
         "error: plan.json: this is no baseline: its schema is 'prunec.plan/1', not 'prunec.baseline/1'\n"),
        (["digits.onnx", "p50.onnx", "p60.onnx", "--data", "digits.npz", "--save-baseline", "b.json"],
         "error: a baseline is of one model, and 2 are given\n  = help: name one model\n"),
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
    Path("plan.json").write_text('{"schema": "prunec.plan/1"}')
    if "base50.json" in arguments:
        command.run(["eval", "p50.onnx", "--data", "digits.npz", "--save-baseline", "base50.json"])
        capsys.readouterr()
    assert command.run(["eval", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


OWN = """
import numpy as np

def data():
    with np.load("digits.npz") as file:
        yield dict(file)

def margin(outputs, columns):
    scores = np.sort(outputs["logits"], axis=1)
    return scores[:, -1] - scores[:, -2]

def fails(outputs, columns):
    return columns["weight"]

def short(outputs, columns):
    return np.zeros(3)

def leaves(outputs, columns):
    raise SystemExit(0)
"""


@pytest.mark.parametrize(
    ("metric", "code", "message"),
    [
        ("own_code:margin", 0, ""),
        (
            "own_code:fails",
            2,
            "error: own_code:data: metric own_code:fails raises KeyError: 'weight'\n  = note: at ",
        ),
        (
            "own_code:leaves",
            2,
            "error: own_code:data: metric own_code:leaves raises SystemExit: 0\n  = note: at ",
        ),
        ("own_code:short", 2, "error: own_code:data: metric own_code:short gives shape [3] for 16 samples\n"),
        (
            "own_code:margi",
            2,
            "error: own_code:margi: 'own_code' has no 'margi'\n  = help: did you mean 'margin'?\n",
        ),
    ],
)
def test_data_and_metrics_of_the_users(
    folder: Path, capsys: pytest.CaptureFixture[str], metric: str, code: int, message: str
) -> None:
    Path("own_code.py").write_text(OWN)
    assert command.run(["eval", "p50.onnx", "--data", "own_code:data", "--metric", metric]) == code
    shown = capsys.readouterr()
    assert shown.err.startswith(message)
    assert code or "own_code:margin of 450 samples of own_code:data (higher is better)" in shown.out


def test_nan_is_named_with_its_output_and_sample(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = graph("net (float[N,1,8,8] image) => (float[N,1,8,8] y) { z = Sub(image, image)\n y = Div(z, z) }")
    prunec.save(net, "nan.onnx")
    assert command.run(["eval", "nan.onnx", "--data", "digits.npz", "--metric", "mae"]) == 2
    assert capsys.readouterr().err == "error: nan.onnx: output `y` is NaN, first for sample 0\n"
