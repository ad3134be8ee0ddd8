"""A text that a person wrote, a pipeline or a dump, and how a mistake at a place in it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prunec.ir.diagnostics import Place, UserError

_EXCERPT_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of a text.

    Attributes:
        kind: what it is: ``word`` and ``quoted`` carry a value, ``mark`` is punctuation; grammars have more.
        text: the value; for a quoted word without quotes and escapes.
        start: offset of its first character.
        end: offset behind its last character.
    """

    kind: str
    text: str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        """Whether it can be the value of an option."""
        return self.kind in ("word", "quoted")

    def is_mark(self, marks: str) -> bool:
        """Whether it is one of ``marks``."""
        return self.kind == "mark" and self.text in marks


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """A text with the name of its file; make it with ``of``, which brings all line ends to one form."""

    file: str
    text: str

    @classmethod
    def of(cls, text: str, file: str) -> SourceText:
        """A source text whose lines end in ``\\n``."""
        return cls(file=file, text=text.replace("\r\n", "\n").replace("\r", "\n"))

    def place(self, start: int) -> Place:
        """Line and column (both 1-based, in characters) of an offset."""
        line_start = self.text.rfind("\n", 0, start) + 1
        line = self.text.count("\n", 0, start) + 1
        return Place(file=self.file, line=line, column=start - line_start + 1)

    def error(
        self, message: str, start: int, end: int, *, notes: Iterable[str] = (), help: Iterable[str] = ()
    ) -> UserError:
        """An error about the characters from ``start`` to ``end``, with the line and carets beneath it."""
        excerpt = self._excerpt(start, end)
        return UserError(message, place=self.place(start), excerpt=excerpt, notes=notes, help=help)

    def error_at(
        self, message: str, token: Token, *, notes: Iterable[str] = (), help: Iterable[str] = ()
    ) -> UserError:
        """An error about one token."""
        return self.error(message, token.start, token.end, notes=notes, help=help)

    def _excerpt(self, start: int, end: int) -> str:
        place = self.place(start)
        line = self.text[start - (place.column or 1) + 1 :].split("\n", 1)[0]
        column = (place.column or 1) - 1
        # A very long line is shown as a window around the mistake.
        cut = max(0, column - _EXCERPT_WIDTH // 2) if len(line) > _EXCERPT_WIDTH else 0
        shown, column = line[cut : cut + _EXCERPT_WIDTH], column - cut
        shown = ("..." + shown[3:] if cut else shown) + ("..." if len(line) > cut + _EXCERPT_WIDTH else "")
        width = max(1, min(end - start, len(shown) - column))
        gutter = " " * len(str(place.line))
        return f"{place.line} | {_printable(shown)}".rstrip() + f"\n{gutter} | {' ' * column}{'^' * width}"


def shown(text: str) -> str:
    """``text`` as messages quote it: in single quotes, on one line, cut after 60 characters."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"'{text}'" if text.isprintable() else ascii(text)


def _printable(line: str) -> str:
    """The line with one visible column for every character, so that carets stay below their word."""
    if line.isprintable():
        return line
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in line
    )
