"""Writes a dump and its data file to disk, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from prunec.ir.atomic import replace_file
from prunec.ir.dump.constants import INLINE, Constants
from prunec.ir.dump.writer import Writer
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.ir.pairs import free_data_name, remove_replaced
from prunec.ir.printer import Annotator, Printer

_LONGEST_HEAD = 65_536
_DATA = re.compile(rb'^model <.*data="([^"/\\]+)"', re.MULTILINE)


def save_dump(
    module: Module,
    target: Path,
    *,
    printer: Printer | None = None,
    above: Iterable[str] = (),
    inline: int = INLINE,
) -> Path | None:
    """Write a module as a dump that loads; its large constants go to ``NAME.data`` beside it.

    Args:
        module: the module.
        target: the file.
        printer: prints inferred types, and axes in terms of groups; one for the module without groups if None.
        above: comment lines above the graph.
        inline: elements up to which a constant is written inline.

    Returns:
        The data file, if there is one.

    Raises:
        OSError: a file cannot be written.
    """
    before = _data_files_of(target)
    data, constants = free_data_name(target, before), Constants(inline=inline)
    content = dump_text(module, constants, data=data.name, printer=printer, above=above).encode()
    if constants.layout.placed:
        replace_file(data, constants.write)
    replace_file(target, lambda stream: stream.write(content))
    remove_replaced(module, target, before - {data.name})
    return data if constants.layout.placed else None


def dump_text(
    module: Module,
    constants: Constants,
    *,
    data: str,
    printer: Printer | None = None,
    above: Iterable[str] = (),
) -> str:
    """The text of a dump that loads; see :func:`save_dump`.

    Args:
        module: the module.
        constants: collects what is to go to the data file.
        data: name of the data file.
        printer: prints inferred types.
        above: comment lines above the graph.
    """
    if printer is None:
        facts = infer_facts(module.model)
        printer = Printer(model=module.model, facts=facts, annotator=Annotator(), all=True)
    head, *body = Writer(printer=printer, constants=constants).lines(data=data)
    return "\n".join([head, *above, *body]) + "\n"


def _data_files_of(target: Path) -> set[str]:
    """The data file of the dump that is to be replaced, or none."""
    if not target.is_file():
        return set()
    with target.open("rb") as stream:
        found = _DATA.search(stream.read(_LONGEST_HEAD))
    return {found[1].decode("utf-8", "replace")} if found else set()
