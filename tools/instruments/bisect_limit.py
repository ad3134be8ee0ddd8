"""Stops a pipeline after its first N transforms, to find by halving which of them breaks something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import click

from prunec.passes.instruments import Instrument, Stage


def _say(line: str) -> None:
    click.echo(line, err=True)


@dataclass(slots=True, kw_only=True)
class BisectLimit(Instrument):
    """Lets the first ``limit`` transforms run and says of each whether it does.

    Passes that change nothing on purpose, such as ``verify``, are not counted and always run.

    Attributes:
        limit: how many may run.
        echo: takes lines.
        count: how many the pipeline had so far.
    """

    limit: int
    echo: Callable[[str], None] = _say
    count: int = field(default=0, init=False)

    def allows(self, stage: Stage) -> bool:
        """Whether the pass is one of the first."""
        if stage.pass_.contract == "none":
            return True
        self.count += 1
        runs = self.count <= self.limit
        self.echo(f"bisect: {'run' if runs else 'skip'} {self.count} {stage.pass_}")
        return runs
