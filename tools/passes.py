"""``prunec passes``: which passes there are, and what one of them does and takes."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator

import click

from prunec.ir.diagnostics import UserError
from prunec.passes.registry import load_pass, pass_names
from prunec.passes.text.options import Configurable, OptionField, fields_of

CONTRACTS = {
    "same": "verified: computes what its input computed",
    "masked": "verified: equals its input with the removed slices set to zero",
    "sparse": "verified: differs from its input in masked weights alone, which have the pattern",
    "repaired": "verified: new numbers in the tensors that it names hold all of the change",
    "quantised": "verified: weights within one step of what they were, outputs finite, their change measured",
    "none": "not verified: it changes nothing, or changes results on purpose",
}


@click.command("passes", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
def list_passes(name: str | None) -> None:
    """List all passes with their options, or explain the pass NAME."""
    width = terminal_width()
    if name is None:
        lines = [*overview(pass_names(), load_pass, width), "`prunec passes NAME` explains one of them."]
    else:
        pass_class = load_pass(name)
        lines = [*page(pass_class, width), CONTRACTS[pass_class.contract]]
    click.echo("\n".join(lines))


def terminal_width() -> int:
    """Columns for text: those of the terminal, at most 100."""
    return min(100, shutil.get_terminal_size(fallback=(100, 24)).columns)


def overview(names: Iterable[str], load: Callable[[str], type[Configurable]], width: int) -> Iterator[str]:
    """Lines on several classes with options: their summaries, and a line for each option.

    Args:
        names: their names.
        load: gives the class of a name.
        width: columns.
    """
    for name in names:
        try:
            pass_class = load(name)
        except UserError as error:
            yield from textwrap.wrap(f"{name}  ({error.message})", width, subsequent_indent="    ")
        else:
            summary = " ".join(_doc(pass_class).split("\n\n")[0].split())
            yield from textwrap.wrap(f"{name}  {summary}", width, subsequent_indent="    ")
            yield from _option_lines(pass_class, width)
        yield ""


def page(pass_class: type[Configurable], width: int) -> Iterator[str]:
    """Lines on one class with options: its whole description, and a line for each option; then an empty one."""
    yield pass_class.name
    yield ""
    for paragraph in _doc(pass_class).split("\n\n"):
        verbatim = paragraph.startswith(" ") or "\n " in paragraph
        yield paragraph if verbatim else textwrap.fill(paragraph, width, break_on_hyphens=False)
        yield ""
    yield from ("options:", *_option_lines(pass_class, width)) if fields_of(pass_class) else ("no options",)
    yield ""


def _option_lines(pass_class: type[Configurable], width: int) -> Iterator[str]:
    fields = fields_of(pass_class)
    column = 6 + max((len(_usage(field)) for field in fields), default=0)
    for field in fields:
        head = f"    {_usage(field)}".ljust(column)
        yield from textwrap.wrap(
            _explained(field),
            width,
            initial_indent=head,
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )


def _usage(field: OptionField) -> str:
    return field.name if field.type.is_flag else f"{field.name}={field.type_text}"


def _explained(field: OptionField) -> str:
    default = "must be given" if field.default_text is None else f"default: {field.default_text}"
    return f"{field.help}  [{'; '.join(filter(None, [default, field.bounds]))}]"


def _doc(pass_class: type[Configurable]) -> str:
    return inspect.cleandoc(pass_class.__doc__ or "no description")
