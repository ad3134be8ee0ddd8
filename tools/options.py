"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def seed_option(help: str = "For all that is random.") -> Callable[[Command], Command]:
    """The option ``--seed``, a whole number from 0."""
    return click.option(
        "--seed", default=0, show_default=True, metavar="N", type=click.IntRange(min=0), help=help
    )


def verbose_option(help: str = "Show every step and its time.") -> Callable[[Command], Command]:
    """The flag ``-v``."""
    return click.option("-v", "--verbose", is_flag=True, help=help)


def unit_option() -> Callable[[Command], Command]:
    """The option ``--unit`` of commands that look at channel groups."""
    return click.option(
        "--unit",
        type=click.Choice(["head", "head-dim"]),
        default="head",
        show_default=True,
        help="What attention loses: whole heads, or the same positions of every head (and group of a convolution).",
    )
