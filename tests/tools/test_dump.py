"""Dumps on the command line: written, read, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunec.ir.load import load
from prunec.tools.prunec import run

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "digits.onnx")


def test_a_dump_goes_through_a_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written by inspect, read by a pipeline, which writes another one."""
    first, second = tmp_path / "net.prunec", tmp_path / "small.prunec"
    assert run(["inspect", EXAMPLE, "--dump-to", str(first), "--dump-constants", "100"]) == 0
    assert run([str(first), "-p", "fold-norm", "-o", str(second)]) == 0
    assert "verified: fold-norm" in capsys.readouterr().err
    assert len(load(second).graph) < len(load(first).graph)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.prunec", "net.prunec.data", "small.prunec", "small.prunec.data",
    ]  # fmt: skip


def test_a_dump_to_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `--dump` prints has no constants; the message says how to get them."""
    assert run(["inspect", EXAMPLE, "--dump"]) == 0
    (tmp_path / "net.prunec").write_text(capsys.readouterr().out)
    assert run([str(tmp_path / "net.prunec"), "-p", "fold-norm"]) == 2
    message = capsys.readouterr().err
    assert "this dump is made to be read: it has no constants" in message
    assert "= help: write one that loads with: prunec inspect MODEL --dump-to net.prunec" in message


def test_small_constants_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """In the dump to read, they stand as in the one that loads."""
    assert run(["inspect", EXAMPLE, "--dump"]) == 0
    plain = capsys.readouterr().out.splitlines()
    assert run(["inspect", EXAMPLE, "--dump", "--dump-constants", "10"]) == 0
    more = [line for line in capsys.readouterr().out.splitlines() if line not in plain]
    assert [line.partition(" = {")[0] for line in more] == ["  @classifier.bias: f32[10]"]
    assert more[0].count(",") == 9
    assert run(["inspect", EXAMPLE, "--dump-constants", "10"]) == 2
    assert "--dump-constants goes with --dump or --dump-to" in capsys.readouterr().err


def test_the_name_of_a_dump_ends_in_prunec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With another suffix it could not be read back."""
    assert run(["inspect", EXAMPLE, "--dump-to", str(tmp_path / "net.txt")]) == 2
    assert "the name of a dump must end in .prunec" in capsys.readouterr().err


def test_a_folder_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the model is looked at."""
    assert run(["inspect", EXAMPLE, "--dump-to", str(tmp_path / "no" / "net.prunec")]) == 2
    assert "does not exist" in capsys.readouterr().err
