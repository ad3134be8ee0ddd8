"""What is shown on stderr while work goes on: a moving line on a terminal, every step with ``--verbose``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Progress = Callable[[str], None]
"""Called with one line of text whenever a new step begins."""


@contextmanager
def show_progress(*, verbose: bool) -> Iterator[Progress]:
    """Show the steps of long work until the block ends.

    Args:
        verbose: print every step with the seconds since the beginning; otherwise steps are shown on a
            terminal alone, each in place of the one before.
    """
    if verbose:
        start = time.perf_counter()
        yield lambda step: click.echo(f"[{time.perf_counter() - start:7.2f} s] {step}", err=True)
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status("starting") as status:
            yield lambda step: status.update(escape(step))
    else:
        yield _quiet


def _quiet(_step: str) -> None:
    """Nobody watches."""
