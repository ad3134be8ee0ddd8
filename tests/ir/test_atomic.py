"""A file is replaced whole; what is no file is left alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from prunec.ir.atomic import real_target, replace_file
from prunec.ir.diagnostics import UserError


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link, loose = tmp_path / "real", tmp_path / "link", tmp_path / "loose"
    real.write_text("old")
    link.symlink_to("real")
    loose.symlink_to("new")
    for path in (link, loose):
        replace_file(real_target(path), lambda stream: stream.write(b"content"))
        assert path.is_symlink()
    assert real.read_text() == (tmp_path / "new").read_text() == "content"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        replace_file(target, lambda stream: stream.write(b"new") / 0)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("linked", [False, True])
def test_pipes_and_devices_are_refused(tmp_path: Path, linked: bool) -> None:
    # a pipe stands for a device, which a test must not risk
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with pytest.raises(UserError, match="a device or a pipe, not a file"):
        real_target(link if linked else pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
