"""``--report`` and ``--card``: what a compile puts into them, and mistakes that are found before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from documents import ROOT

import prunec
from prunec.ir.diagnostics import Place, UserError
from prunec.tools import prunec as command

MODEL = str(ROOT / "examples" / "digits.onnx")
DATA = str(ROOT / "examples" / "digits.npz")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    return command.run([MODEL, "-p", "fold-norm, prune-channels{ratio=50%}", "-o", "out.onnx", *arguments])


def test_both_are_written_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--report", "r.html", "--card", "c.md", "--data", DATA, "--seed", "7") == 0
    assert "wrote out.onnx, r.html, c.md" in capsys.readouterr().err
    page, card = Path("r.html").read_text("utf-8"), Path("c.md").read_text("utf-8")
    for text in (page, card):
        assert "99.78 %" in text
        assert "450" in text
    assert "| seed | 7 |" in card
    assert "Latency was not measured" in card
    assert run("--card", "c.md") == 0  # a card may be written again


def test_the_slices_of_a_gate_and_the_profile_of_a_budget_are_shown() -> None:
    profile = ["sensitivity", MODEL, "--data", DATA, "--ratios", "0.3,0.6", "-o", "p.json"]
    assert command.run(profile) == 0
    slices = ROOT / "examples" / "slices.toml"
    pipeline = f"fold-norm, prune-channels{{budget=p.json target=params:0.5}}, gate{{slices={slices}}}"
    assert command.run([MODEL, "-p", pipeline, "-o", "out.onnx", "--data", DATA, "--report", "r.html"]) == 0
    page = Path("r.html").read_text("utf-8")
    assert "all thresholds hold" in page
    assert "rare-digits" in page
    assert '<section id="sensitivity"' in page
    assert 'class="taken"' in page


def gated(*arguments: str) -> int:
    gate = f"gate{{slices={ROOT / 'examples' / 'slices.toml'}}}"
    given = [MODEL, "-p", f"fold-norm, prune-channels{{ratio=60%}}, {gate}", "-o", "out.onnx", "--data", DATA]
    return command.run([*given, *arguments])


def test_what_a_gate_stops_is_described_and_not_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    once = prunec.run
    monkeypatch.setattr(prunec, "run", lambda *args, **how: runs.append(args) or once(*args, **how))
    assert gated("--report", "r.html", "--card", "c.md") == 3
    assert len(runs) == 1
    err = capsys.readouterr().err
    assert "top1 drops by" in err
    assert err.rstrip().endswith("= help: what was stopped is described in r.html and c.md")
    assert not Path("out.onnx").exists()
    page = Path("r.html").read_text("utf-8")
    assert "a threshold fails" in page
    assert "drop at most 5.00 points: fails" in page
    assert "slice rare-digits: at least 90 %: fails." in Path("c.md").read_text("utf-8")


def test_a_page_that_cannot_be_written_leaves_the_error_of_the_gate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("the disk is full", place=Place(file="r.html"))

    monkeypatch.setattr("prunec.ir.files.write_text", fail)
    assert gated("--report", "r.html") == 3
    err = capsys.readouterr().err
    assert "top1 drops by" in err
    assert "= note: what was stopped is not described: r.html: the disk is full\n" in err
    assert "is described in" not in err


@pytest.mark.parametrize("ratio", ["0%", "60%"])
def test_a_page_judges_by_the_metric_of_the_gate(ratio: str) -> None:
    """Both where it stops the compile and where it does not."""
    Path("s.toml").write_text("[all]\nmin = 0.9\n", "utf-8")
    pipeline = f"prune-channels{{ratio={ratio}}}, gate{{slices=s.toml metric=f1}}"
    arguments = [MODEL, "-p", pipeline, "-o", "out.onnx", "--data", DATA, "--card", "c.md"]
    assert command.run(arguments) == (0 if ratio == "0%" else 3)
    card = Path("c.md").read_text("utf-8")
    assert "f1" in card
    assert "top1" not in card.replace("metric=f1", "")


def test_latencies_are_measured_or_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunec.tools.papers.SECONDS", 0.1)
    assert run("--report", "r.html", "--bench") == 0
    assert "batch 8" in Path("r.html").read_text("utf-8")
    arguments = [
        "bench",
        MODEL,
        "out.onnx",
        "--json",
        "b.json",
        "--batch",
        "2",
        "--seconds",
        "0.1",
        "--no-memory",
    ]
    assert command.run(arguments) == 0
    assert run("--report", "r.html", "--bench=b.json") == 0
    page = Path("r.html").read_text("utf-8")
    assert "batch 2" in page
    assert "batch 8" not in page
    assert run("--report", "r.html", "--bench=b.json", "-p", "fold-norm, prune-channels{ratio=25%}") == 2
    assert "error: b.json: this bench is of another model: out.onnx" in capsys.readouterr().err


def test_what_cannot_be_judged_is_a_remark(capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(DATA) as data:
        np.savez("odd.npz", image=data["image"], label=data["label"] + 100)
    assert run("--report", "r.html", "--data", "odd.npz") == 0
    assert "remark[missed]: report: the result is not judged" in capsys.readouterr().err
    assert "the result is not judged" in Path("r.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--card-fields", "f.toml"],
            "error: --card-fields is for a model card\n  = help: add --card FILE.md",
        ),
        (["--bench"], "error: --bench is for a report or a model card\n  = help: add --report FILE.html"),
        (
            ["--report", "r.html", "--bench", "../b.json"],
            "error: got unexpected extra argument (../b.json): a value of --bench is attached by `=`: "
            "--bench=../b.json\n  = help: prunec --help",
        ),
        (
            ["--report", "r.html", "--bench=no.json"],
            "error: no.json: cannot read the file: no such file or directory",
        ),
        (
            ["--card", "c.md", "--card-fields", "f.toml"],
            "error: f.toml: cannot read the card's fields: no such file",
        ),
        (["--report", "out.onnx"], "error: out.onnx: two outputs have this name"),
        (["--report", "no/r.html"], "error: no/r.html: folder 'no' does not exist"),
        (
            ["--card", "notes.md"],
            "error: notes.md: this file exists, and its name is that of no model or report",
        ),
        (["--report", DATA], f"error: {DATA}: "),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.md").write_text("# Notes\n", "utf-8")
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not Path("out.onnx").exists()


def test_latencies_of_another_model_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    other = {"schema": "prunec.bench/1", "models": [{"name": "other.onnx", "sha256": "00"}], "timings": []}
    Path("b.json").write_text(json.dumps(other), "utf-8")
    assert run("--report", "r.html", "--bench=b.json") == 2
    assert "error: b.json: this bench is of another model: other.onnx" in capsys.readouterr().err
