"""One thing with options, such as a target or a metric, written as one element of a pipeline is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import UserError
from prunec.ir.source import SourceText, shown
from prunec.passes.text.options import build
from prunec.passes.text.syntax import parse_elements

if TYPE_CHECKING:
    from prunec.passes.registry import Registry


def parse_single(text: str, registry: Registry, *, file: str) -> Any:
    """What a text such as ``ort{level=basic}`` means.

    Args:
        text: a name of the registry, and options in braces.
        registry: where the name is looked up.
        file: what messages call the text.

    Raises:
        UserError: the text has a mistake; the message has the place, an excerpt and help.
    """
    source, noun = SourceText.of(text, file), registry.base.noun
    elements = parse_elements(source)
    if len(elements) != 1:
        help = [f"{registry.listing}: {', '.join(registry.names())}"]
        raise UserError(f"expected one {noun}, got {len(elements)}: {shown(text)}", help=help)
    name = elements[0].name
    try:
        found = registry.load(name.text)
    except UserError as error:
        raise source.error_at(error.message, name, notes=error.notes, help=error.help) from error
    if elements[0].body is not None:
        raise source.error_at(f"{noun} '{name.text}' takes no body in parentheses", name)
    return build(found, elements[0].options, source=source, name=name)
