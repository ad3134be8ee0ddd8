"""The command ``prunec sensitivity``: what it prints and writes, and what it says when it cannot or must stop."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from prunec.passes.sensitivity.profile import GroupCurve, Point, Profile
from prunec.tools import prunec as command
from prunec.tools.sensitivity_table import render_profile

DIGITS = ["sensitivity", "examples/digits.onnx", "--data", "examples/digits.npz"]


def test_a_profile_a_figure_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, figure = tmp_path / "p.json", tmp_path / "p.svg"
    arguments = [*DIGITS, "--ratios", "0.2,0.7", "-o", str(profile), "--plot", str(figure)]
    assert command.run(arguments) == 0
    shown = capsys.readouterr()
    assert "top1 of the model as it is: 0.9978 (higher is better; 450 samples)" in shown.out
    assert "g2     /stem/conv/Conv            24     35,904     0   0.038" in shown.out
    assert f"wrote {profile}\nwrote {figure}" in shown.err
    assert "top1 is measured: `label` holds whole numbers\n" in shown.err
    assert "say nothing about others" not in shown.out
    assert Profile.load(profile).ratios == (0.2, 0.7)
    assert figure.read_text().startswith("<?xml")
    assert not profile.with_name("p.json.partial").exists()


def test_few_samples_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = tmp_path / "single.npz"
    with np.load("examples/digits.npz") as file:
        np.savez(single, **{name: array[:1] for name, array in file.items()})
    arguments = [*DIGITS[:2], "--data", str(single), "--metric", "top1", "-o", str(tmp_path / "p.json")]
    assert command.run(arguments) == 0
    shown = capsys.readouterr()
    assert "(higher is better; 1 sample)" in shown.out
    assert "less than 10 samples say nothing about others" in shown.out
    assert "is measured" not in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratios", "0..2"], "error: '0..2' is no list of ratios between 0 and 1"),
        (["--plot", "p.pdf"], "error: p.pdf: a plot ends in .svg or .png, not '.pdf'"),
        (["--metric", "topp1"], "error: <metric>:1:1: unknown metric 'topp1'"),
        (["--executor", "dask"], "error: unknown executor 'dask'"),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command.run([*DIGITS, *arguments, "-o", str(tmp_path / "p.json")]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stop", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on from there\nerror: interrupted"),
        (ValueError("no"), 2, "= note: 1 measurement is kept in"),
    ],
)
def test_what_was_measured_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stop: BaseException,
    code: int,
    words: str,
) -> None:
    """Stopped or failed behind some measurements: they stay, and the command says how to go on."""
    from prunec.passes.sensitivity import executor

    run = executor.Threads.run

    def one(self: executor.Threads, sweep: object, candidates: object, report: executor.Report) -> None:
        run(self, sweep, candidates[:1], report)  # type: ignore[arg-type, index]
        if isinstance(stop, KeyboardInterrupt):
            raise stop
        from prunec.ir.diagnostics import UserError

        raise UserError("the metric fails")

    monkeypatch.setattr(executor.Threads, "run", one)
    target = tmp_path / "p.json"
    arguments = [*DIGITS, "--executor", "threads:1", "-o", str(target)]
    assert command.run(arguments) == code
    assert words in capsys.readouterr().err
    kept = target.with_name("p.json.partial").read_text().splitlines()
    assert len(kept) == 2 and json.loads(kept[1])["group"] == "g1"
    monkeypatch.setattr(executor.Threads, "run", run)
    assert command.run(arguments) == 0
    assert len(Profile.load(target).groups) == 7 and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "content", [None, '{"model": "another"}\n', "no words of ours\n"], ids=["none", "other", "text"]
)
def test_an_error_removes_only_a_file_of_partial_results_that_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    from prunec.ir.diagnostics import UserError
    from prunec.passes.sensitivity import executor

    def fail(*_: object) -> None:
        raise UserError("nothing is measured")

    monkeypatch.setattr(executor.Threads, "run", fail)
    partial = tmp_path / "p.json.partial"
    if content is not None:
        partial.write_text(content)
    assert command.run([*DIGITS, "-o", str(tmp_path / "p.json")]) == 2
    assert (partial.read_text() if partial.exists() else None) == content


@pytest.mark.parametrize("width", [48, 60, 80, 100, 200])
def test_a_table_of_many_ratios_cuts_no_number(width: int) -> None:
    """What does not fit stands in a table below, in terminals of any usual width and in files."""
    ratios = (0.001, *(n / 10 for n in range(1, 10)))
    shown = Console(width=width, file=io.StringIO(), record=True)
    shown.print(render_profile(profile_of({ratio: 0.9978 - ratio / 30 for ratio in ratios})))
    text = shown.export_text()
    assert "…" not in text
    words = [word for line in text.splitlines()[2:] for word in line.split()]
    for ratio in ratios:
        assert f"-{100 * ratio:g}%" in words
        assert f"{ratio / 30:.3f}" in words or ratio < 0.3
    assert {"units", "MACs/unit", "35,904", "3.3e-5"} <= set(words)


def profile_of(values: dict[float, float]) -> Profile:
    """A profile of one group with these values by ratio."""
    group = GroupCurve(
        id="g1", groups=("g1",), layers=("/block/first/conv/of/a/long/name/Conv",), tensors=("w:0",), units=24,
        channels=1, macs_per_unit=35_904, parameters_per_unit=20,
        curve=tuple(Point(ratio=ratio, removed=1, value=value) for ratio, value in values.items()),
    )  # fmt: skip
    return Profile(
        model_name="net.onnx", model_sha256=None, data_name="d.npz", samples=450, metric="top1", higher_is_better=True,
        dense=0.9978, criterion="l2", unit="head", seed=0, version="0", groups=(group,),
    )  # fmt: skip
