"""The command ``prunec sensitivity``: what it prints and writes, and what it says when it cannot or must stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunec.passes.sensitivity.profile import Profile
from prunec.tools import prunec as command

DIGITS = ["sensitivity", "examples/digits.onnx", "--data", "examples/digits.npz"]


def test_a_profile_a_figure_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, figure = tmp_path / "p.json", tmp_path / "p.svg"
    arguments = [*DIGITS, "--ratios", "0.2,0.7", "-o", str(profile), "--plot", str(figure)]
    assert command.run(arguments) == 0
    shown = capsys.readouterr()
    assert "top1 of the model as it is: 0.9978 (higher is better; 450 samples)" in shown.out
    assert "g2     /stem/conv/Conv            24     35,904     0  0.038" in shown.out
    assert f"wrote {profile}\nwrote {figure}" in shown.err
    assert Profile.load(profile).ratios == (0.2, 0.7)
    assert figure.read_text().startswith("<?xml")
    assert not profile.with_name("p.json.partial").exists()


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
