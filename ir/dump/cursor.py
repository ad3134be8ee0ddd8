"""Where the reader of a dump stands in its tokens, and the smallest things that it reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from prunec.ir.diagnostics import UserError, nearest
from prunec.ir.source import SourceText, Token, shown

NESTING_LIMIT = 64
"""Depth of bodies in bodies, and of types in types."""
_INT64 = range(-(2**63), 2**63)
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class Cursor:
    """A position in the tokens of a dump.

    Attributes:
        source: the text.
        tokens: its tokens, an ``end`` last.
        data: name of the file with the large constants, as the head of the dump says.
        position: index of the current token.
    """

    source: SourceText
    tokens: Sequence[Token]
    data: str | None = None
    position: int = 0

    @property
    def current(self) -> Token:
        """The token that is read next."""
        return self.tokens[self.position]

    @property
    def following(self) -> Token:
        """The token behind the current one."""
        return self.tokens[min(self.position + 1, len(self.tokens) - 1)]

    def take(self) -> Token:
        """Read a token; the ``end`` stays."""
        token = self.current
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def at(self, text: str) -> bool:
        """Whether a mark or a word comes next."""
        return self.current.kind in ("mark", "word") and self.current.text == text

    def accept(self, text: str) -> bool:
        """Read a mark or a word if it comes next."""
        if not self.at(text):
            return False
        self.take()
        return True

    def expect(self, text: str, where: str) -> Token:
        """Read a mark or a word that must come next."""
        if not self.at(text):
            self.fail_expected(f"'{text}'", where, [text])
        return self.take()

    def kind(self, kinds: str | Collection[str], what: str, where: str) -> Token:
        """Read a token of one kind or of several."""
        if self.current.kind not in ([kinds] if isinstance(kinds, str) else kinds):
            self.fail_expected(what, where)
        return self.take()

    def key(self, what: str, where: str) -> str:
        """Read a word, in quotes or not."""
        return self.kind(("word", "quoted"), what, where).text

    def integer(self, what: str, where: str) -> int:
        """Read a whole number of 64 bits."""
        token = self.kind("number", what, where)
        digits = token.text.removeprefix("-")
        if not digits.isdigit() or len(digits) > 20 or int(token.text) not in _INT64:
            self.fail(f"{what} must be a whole number of 64 bits, not {shown(token.text)}", token)
        return int(token.text)

    def items(self, closer: str, where: str, read: Callable[[], _T]) -> list[_T]:
        """Read a list whose opening mark has been read: items between commas, up to ``closer``."""
        found: list[_T] = []
        while not self.accept(closer):
            if found and not self.accept(","):
                self.fail_expected(f"',' or '{closer}'", where, [closer])
            if self.current.kind == "end":
                self.fail_expected(f"'{closer}'", where)
            found.append(read())
        return found

    def properties(self, allowed: Collection[str], where: str) -> dict[str, Any]:
        """Read ``<key=value, ...>``, or nothing where none comes."""
        found: dict[str, Any] = {}

        def entry() -> None:
            token = self.kind(("word", "quoted"), "a property", where)
            if token.text not in allowed or token.text in found:
                problem = "is given twice" if token.text in found else "is unknown"
                self.fail(f"property {shown(token.text)} of {where} {problem}", token, known=allowed)
            self.expect("=", where)
            found[token.text] = self.plain(where)

        if self.accept("<"):
            self.items(">", where, entry)
        return found

    def plain(self, where: str, depth: int = 0) -> Any:
        """Read a value as JSON has it: a string, a whole number, a list or a map."""
        if depth > 3:
            self.fail(f"the properties of {where} are nested too deep", self.current)
        if self.accept("["):
            return self.items("]", where, lambda: self.plain(where, depth + 1))
        if self.accept("{"):

            def entry() -> tuple[str, Any]:
                key = self.kind("quoted", "a string", where).text
                self.expect(":", where)
                return key, self.plain(where, depth + 1)

            return dict(self.items("}", where, entry))
        if self.current.kind == "number":
            return self.integer("a property", where)
        return self.kind("quoted", "a string, a number, a list or a map", where).text

    def fail_expected(self, what: str, where: str, candidates: Collection[str] = ()) -> NoReturn:
        """Say what should have come next, and what was likely meant."""
        token = self.current
        found = (
            "the end of the text" if token.kind == "end" else shown(self.source.text[token.start : token.end])
        )
        likely = nearest(token.text, candidates) if token.kind == "word" else None
        meant = f" (did you mean '{likely}'?)" if likely else ""
        raise self.source.error_at(f"expected {what} in {where}, found {found}{meant}", token)

    def fail(
        self, message: str, token: Token, *, known: Iterable[str] = (), help: Iterable[str] = ()
    ) -> NoReturn:
        """Raise an error at a token, with the known word that is nearest to it."""
        raise self.error(message, token, known=known, help=help)

    def error(
        self, message: str, token: Token, *, known: Iterable[str] = (), help: Iterable[str] = ()
    ) -> UserError:
        """An error at a token, with the known word that is nearest to it."""
        likely = nearest(token.text, known)
        meant = f" (did you mean '{likely}'?)" if likely else ""
        return self.source.error_at(message + meant, token, help=help)
