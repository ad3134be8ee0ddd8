"""Options whose value may be left out: ``--print-ir-after`` (every pass) or ``--print-ir-after=fold-norm``.

As in LLVM and git the value is attached by ``=``, so that the word behind a bare option is never taken for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import click


class OptionalValue(click.Option):
    """An option that may be given several times, bare or as ``NAME=VALUE``; its value is a tuple.

    Args:
        declarations: its names.
        bare: the value that the bare option stands for.
        **attributes: of ``click.Option``; ``metavar`` is shown as ``[=METAVAR]``.
    """

    def __init__(self, declarations: Sequence[str], *, bare: str, **attributes: Any) -> None:
        super().__init__(declarations, multiple=True, callback=_without_equals, **attributes)
        self.bare = bare

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Its names with the value in brackets, and its help."""
        record = super().get_help_record(ctx)
        return record and (f"{', '.join(self.opts)}[={self.metavar}]", record[1])


class OptionalValues(click.Command):
    """A command some of whose options are :class:`OptionalValue`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write out what a bare option stands for.

        Raises:
            click.UsageError: there is an argument too many, perhaps the value of a bare option.
        """
        bare = {name: p.bare for p in self.get_params(ctx) if isinstance(p, OptionalValue) for name in p.opts}
        loose = [
            (word, after) for word, after in pairwise(args) if word in bare and after[:1] not in ("-", "")
        ]
        written = [f"{word}={bare[word]}" if word in bare else word for word in args]
        try:
            return super().parse_args(ctx, written)
        except click.UsageError as error:
            if not loose or "extra argument" not in error.message:
                raise
            word, after = loose[0]
            message = f"{error.message.rstrip('.')}: a value of {word} is attached by `=`: {word}={after}"
            raise click.UsageError(message, ctx) from error


def _without_equals(
    _ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """The values; behind a short option click leaves the ``=`` standing."""
    return tuple(text.removeprefix("=") for text in value)
