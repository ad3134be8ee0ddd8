"""Tables and lines for people, in the width of the terminal, or in one of ours where the output is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 100
"""Columns where the output is no terminal."""
WIDE = 120
"""The same, of tables that name places or give intervals."""


def show(*parts: RenderableType, width: int = WIDTH, stderr: bool = False) -> None:
    """Print tables and lines, each from a line of its own; a ``Text`` is never wrapped.

    Args:
        parts: what is printed.
        width: columns where the output is no terminal.
        stderr: print there, and not on stdout.
    """
    from rich.console import Console
    from rich.text import Text

    stream = sys.stderr if stderr else sys.stdout
    console = Console(stderr=stderr, highlight=False, width=None if stream.isatty() else width)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
