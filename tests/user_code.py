"""Modules of a user's own, written into a folder, whose functions a command line names."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WriteModule = Callable[[str, str], None]
"""Writes a module (its name, its code) into the working directory."""


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """The working directory is a fresh one, and what is imported from it is forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    written: list[str] = []

    def write(name: str, code: str) -> None:
        written.append(name)
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))

    yield write
    for name in written:
        sys.modules.pop(name, None)
