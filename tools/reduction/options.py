"""The options of commands that ask a shell command whether a model is bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from prunec.tools.options import seed_option, verbose_option


def command_options(help: str, *, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``--test``, ``--match``, ``--timeout``, ``--seed`` and ``--verbose``.

    Args:
        help: of ``--test``.
        required: whether it must be given.
    """

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            verbose_option("Show every try."),
            seed_option(),
            click.option(
                "--timeout",
                default=300.0,
                show_default=True,
                metavar="S",
                type=click.FloatRange(min=0.1),
                help="Seconds for a command.",
            ),
            click.option("--match", metavar="REGEX", help="The output of a bad model must match this too."),
            click.option("--test", "command", metavar="CMD", required=required, help=help),
        ):
            command = option(command)
        return command

    return give
