"""Whole files that a user named: what cannot be read or written is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prunec.ir.diagnostics import UserError
from prunec.ir.files import read_text, write_bytes, write_text


def test_a_text_comes_back_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "plan.json", "größer\n")
    assert read_text(str(tmp_path / "plan.json")) == "größer\n"


@pytest.mark.parametrize(
    ("use", "name", "message"),
    [
        (read_text, "missing", "cannot read the file: no such file or directory"),
        (lambda path: read_text(path, "plan"), "folder", "cannot read the plan: is a directory"),
        (read_text, "model", "cannot read the file: not UTF-8 text: byte 1 is 0xff"),
        (lambda path: write_bytes(path, b"", "plot"), "folder", "cannot write the plot: is a directory"),
        (lambda path: write_text(path, ""), "missing/file", "cannot write the file: no such file or directory"),
    ],
)  # fmt: skip
def test_mistakes_name_the_file_and_the_reason(
    tmp_path: Path, use: Callable[[Path], object], name: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "model").write_bytes(b"\x08\xff")
    with pytest.raises(UserError) as caught:
        use(tmp_path / name)
    assert caught.value.render() == f"error: {tmp_path / name}: {message}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "model"]
