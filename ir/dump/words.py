"""How words, strings, names and sizes stand in a dump, and its tokens.

Names keep the printer's form: ``%`` or ``@``, then the name, in double quotes where it could be misread. Strings are
those of JSON. Comments run from ``//`` to the end of the line; a line that begins with ``group``, and the note on
sparsity behind a type (``#2:4(axis=1)``), are comments too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir

from prunec.ir.diagnostics import UserError
from prunec.ir.notation import element_name
from prunec.ir.source import SourceText, Token

ELEMENTS: Mapping[str, onnx_ir.DataType] = {
    element_name(dtype): dtype for dtype in onnx_ir.DataType if dtype != onnx_ir.DataType.UNDEFINED
}
"""Element types by their short names."""

_QUOTED = r'"(?:[^"\\\n]|\\[^\n])*"'
_WORD = r"[^\W\d](?:[\w.]|-(?!>))*"
_TOKEN = re.compile(
    rf"""
      (?P<blank>  \s+ | //[^\n]* | ^group[ ][^\n]* | \#[^\s,()\[\]{{}}]*(?:\([^()\n]*\))? )
    | (?P<quoted> {_QUOTED} )
    | (?P<name>   [%@] (?: {_QUOTED} | [^\s,(){{}}\[\]"=%@]*[^\s,(){{}}\[\]"=%@:] ) )
    | (?P<ref>    \$ (?: {_QUOTED} | {_WORD} ) )
    | (?P<hex>    0x[0-9a-f]* (?!\w) )
    | (?P<number> -? (?: \d+ (?:\.\d*)? (?:e[-+]?\d+)? | inf | nan ) (?![\w.]) )
    | (?P<word>   {_WORD} )
    | (?P<mark>   \.\.\. | -> | :: | [(){{}}\[\]=,:<>~?*+] )
    """,
    re.VERBOSE | re.MULTILINE,
)
_WORD_ALONE = re.compile(_WORD)
_NUMBERS = ("inf", "nan")


def string_text(text: str) -> str:
    """A string in JSON's form; characters that do not show are escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def word_text(text: str) -> str:
    """A word as it is where the grammar can tell it, else as a string."""
    bare = _WORD_ALONE.fullmatch(text) and text.isprintable() and text not in ("_", *_NUMBERS)
    return text if bare else string_text(text)


def properties_text(properties: Mapping[str, Any]) -> str:
    """``<doc="...", metadata={...}>``: what is said about a thing, empty entries left out."""
    told = [
        f"{key}={json.dumps(value, ensure_ascii=not _shows(value))}"
        for key, value in properties.items()
        if value
    ]
    return f"<{', '.join(told)}>" if told else ""


def _shows(value: Any) -> bool:
    return json.dumps(value, ensure_ascii=False).isprintable()


def size_of(axis: str) -> int | None:
    """The size of an axis written in groups (``g1:8*16``, ``g1:4+g2:4``, ``mix(g1:3,5)``); None for anything else."""
    terms = re.split(r"[+,]", axis.removeprefix("mix(").removesuffix(")"))
    try:
        return sum(math.prod(int(part.rpartition(":")[2]) for part in term.split("*")) for term in terms)
    except ValueError:
        return None


def tokenize(source: SourceText) -> Iterator[Token]:
    """The tokens of a dump, without blanks and comments; then an ``end``.

    Raises:
        UserError: a character belongs to no token, or a string is not closed.
    """
    position = 0
    while position < len(source.text):
        match = _TOKEN.match(source.text, position)
        if match is None:
            raise _stray(source, position)
        kind, start, position = str(match.lastgroup), position, match.end()
        if kind == "blank":
            continue
        text = match.group()
        if kind in ("name", "ref"):
            text = _unquoted(source, text[1:], start + 1)
        elif kind == "quoted":
            text = _unquoted(source, text, start)
        yield Token(kind=kind, text=text, start=start, end=position)
    yield Token(kind="end", text="", start=position, end=position)


def _unquoted(source: SourceText, text: str, start: int) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text, strict=False))
    except json.JSONDecodeError as error:
        at = start + error.pos
        raise source.error(
            "unknown escape in a string", at, at + 1, help=["escapes are those of JSON"]
        ) from error


def _stray(source: SourceText, position: int) -> UserError:
    character = source.text[position]
    if character == '"' or source.text[position : position + 2] in ('%"', '@"', '$"'):
        line = source.text[position:].split("\n", 1)[0]
        return source.error(
            "this double quote is not closed on its line", position, position + len(line.rstrip())
        )
    if character in "%@$":
        return source.error(f"a name must follow '{character}'", position, position + 1)
    return source.error(f"stray character U+{ord(character):04X}", position, position + 1)
