"""Prints the graph around passes: whole, or what a pass changed of it as a diff."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import click

from prunec.passes.base import Outcome
from prunec.passes.instruments import Instrument, Stage

CONTEXT_LINES = 3
"""Unchanged lines around each change."""

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def dump(stage: Stage) -> str:
    """The module of a stage as text, with its channel groups."""
    from prunec.passes.printer import print_module

    return print_module(stage.module, coupling=stage.analyses.coupling())


@dataclass(slots=True, kw_only=True)
class PrintIR(Instrument):
    """Prints dumps before and after the passes whose names match.

    Attributes:
        before: globs of pass names.
        after: globs of pass names.
        changes: also print, behind every pass that changed something, what it changed as a diff.
        echo: takes lines, with colours as ANSI codes.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    changes: bool = False
    echo: Callable[[str], None] = click.echo
    _previous: str = field(default="", init=False)

    def before_pass(self, stage: Stage) -> None:
        """Print the graph that the pass gets."""
        if self.changes:
            self._previous = dump(stage)
        if _matches(stage, self.before):
            self._print("before", stage, dump(stage))

    def after_pass(self, stage: Stage, outcome: Outcome) -> None:
        """Print the graph that the pass leaves, or what is new in it."""
        if _matches(stage, self.after):
            self._print("after", stage, dump(stage))
        if self.changes and outcome.changed:
            self._print("changed by", stage, "\n".join(_diff(self._previous, dump(stage))))

    def _print(self, when: str, stage: Stage, text: str) -> None:
        self.echo(f"// {when} {stage.pass_} ({stage.number} of {len(stage.passes)})")
        self.echo(text)


def _matches(stage: Stage, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(stage.pass_.name, glob) for glob in globs)


def _diff(old: str, new: str) -> Iterator[str]:
    """The lines of a unified diff, coloured; its two lines of file names left out."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=CONTEXT_LINES)
    for number, line in enumerate(lines):
        if number >= 2:
            yield click.style(line, fg=_COLOURS.get(line[:1]))
