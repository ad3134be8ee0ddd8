"""The grammar of pipeline text: from characters to untyped elements, all mistakes placed.

::

    pipeline  ::= [ element { separator element } ]
    element   ::= NAME [ "{" { option } "}" ] [ "(" pipeline ")" ]
    option    ::= NAME [ "=" WORD { "," WORD } ]
    separator ::= one or more of "," and line end

``#`` starts a comment anywhere outside double quotes, a line end inside braces is white space, and separators
before the first and behind the last element are ignored. What names and words mean is not decided here
(``prunec.passes.pipeline`` does).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prunec.ir.diagnostics import UserError
from prunec.ir.source import SourceText, Token, shown
from prunec.passes.text.words import quoted_if_needed

NESTING_LIMIT = 32

_TOKEN = re.compile(
    r"""
      (?P<blank>   [ \t]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<mark>    [{}()=,] )
    | (?P<quoted>  "(?: [^"\\\n] | \\[^\n] )*" )
    | (?P<word>    [^\s{}()=,"\#]+ )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOption:
    """An option as written; no values where the name stands alone."""

    name: Token
    values: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of a pipeline as written; ``body`` is None where there are no parentheses."""

    name: Token
    options: tuple[RawOption, ...] = ()
    body: tuple[Element, ...] | None = None


def parse_elements(source: SourceText) -> tuple[Element, ...]:
    """Parse a whole text.

    Raises:
        UserError: the text does not follow the grammar; it says where and what was expected.
    """
    parser = _Parser(source=source, tokens=list(tokenize(source)))
    return parser.elements(opener=None, depth=1)


def tokenize(source: SourceText) -> Iterator[Token]:
    """The tokens of a text without blanks, comments, and line ends inside braces; then an ``end``."""
    position, in_braces, previous_word_end = 0, False, -1
    while position < len(source.text):
        match = _TOKEN.match(source.text, position)
        if match is None:
            raise _stray(source, position)
        position = match.end()
        token = _token(source, match)
        if token is None or (in_braces and token.kind == "newline"):
            continue
        if token.is_word and token.start == previous_word_end:
            raise source.error_at("a word is quoted as a whole or not at all", token)
        previous_word_end = token.end if token.is_word else -1
        in_braces = token.text == "{" if token.is_mark("{}") else in_braces
        yield token
    yield Token(kind="end", text="", start=position, end=position)


def _token(source: SourceText, match: re.Match[str]) -> Token | None:
    text, start, end = match.group(), match.start(), match.end()
    match match.lastgroup:
        case "blank":
            return None
        case "newline":
            return Token(kind="newline", text=text, start=start, end=end)
        case "mark":
            return Token(kind="mark", text=text, start=start, end=end)
        case "quoted":
            return Token(kind="quoted", text=_unquoted(source, text, start), start=start, end=end)
    if not text.isprintable():
        raise _stray(source, start + next(i for i, c in enumerate(text) if not c.isprintable()))
    return Token(kind="word", text=text, start=start, end=end)


def _unquoted(source: SourceText, text: str, start: int) -> str:
    try:
        return str(json.loads(text, strict=False))
    except json.JSONDecodeError as error:
        at = start + error.pos
        help = 'inside double quotes, write \\\\ for a backslash and \\" for a quote'
        raise source.error("unknown escape in a quoted word", at, at + 1, help=[help]) from error


def _stray(source: SourceText, position: int) -> UserError:
    character = source.text[position]
    if character == '"':
        line = source.text[position:].split("\n", 1)[0]
        message = "this double quote is not closed on its line"
        return source.error(message, position, position + len(line.rstrip()))
    import unicodedata

    name = unicodedata.name(character, "control character").lower()
    help = ["put it in double quotes if it belongs to a word"]
    return source.error(f"stray character U+{ord(character):04X} ({name})", position, position + 1, help=help)


@dataclass(slots=True, kw_only=True)
class _Parser:
    """Recursive descent over the tokens; depth is bounded by ``NESTING_LIMIT``."""

    source: SourceText
    tokens: Sequence[Token]
    position: int = 0

    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def elements(self, *, opener: Token | None, depth: int) -> tuple[Element, ...]:
        """The elements up to the end of the text, or up to the parenthesis that closes ``opener``."""
        found: list[Element] = []
        while True:
            while self.current.kind == "newline" or self.current.is_mark(","):
                self.take()
            if self.current.kind == "end":
                if opener is not None:
                    raise self.source.error_at("this '(' is never closed", opener)
                return tuple(found)
            if self.current.is_mark(")") and opener is not None:
                self.take()
                return tuple(found)
            found.append(self.element(depth=depth))
            self.expect_separator(found[-1])

    def element(self, *, depth: int) -> Element:
        name = self.take()
        if name.kind != "word":
            raise self.misplaced_element(name)
        options = self.options(self.take()) if self.current.is_mark("{") else ()
        body = self.body(self.take(), depth=depth) if self.current.is_mark("(") else None
        return Element(name=name, options=options, body=body)

    def body(self, opener: Token, *, depth: int) -> tuple[Element, ...]:
        if depth >= NESTING_LIMIT:
            message = f"passes are nested more than {NESTING_LIMIT} levels deep"
            raise self.source.error_at(message, opener)
        return self.elements(opener=opener, depth=depth + 1)

    def expect_separator(self, element: Element) -> None:
        token = self.current
        if token.kind in ("newline", "end") or token.is_mark(",)"):
            return
        name = element.name.text
        if token.is_mark("="):
            help = f"options go in braces: {name}{{option=value}}"
        elif token.is_word and self.tokens[self.position + 1].is_mark("="):
            help = f"options go in braces: {name}{{{quoted_if_needed(token.text)}=...}}"
        else:
            help = "passes are separated by a comma or a line end"
        raise self.source.error_at(f"{_found(token)} is out of place after pass '{name}'", token, help=[help])

    def options(self, opener: Token) -> tuple[RawOption, ...]:
        found: list[RawOption] = []
        while not self.current.is_mark("}"):
            if self.current.kind == "end" or self.current.is_mark("{"):
                raise self.source.error_at("this '{' is never closed", opener)
            found.append(self.option())
        self.take()
        return tuple(found)

    def option(self) -> RawOption:
        name = self.take()
        if name.kind != "word":
            raise self.misplaced_in_braces(name)
        if not self.current.is_mark("="):
            return RawOption(name=name)
        before = self.take()
        values = [self.value(before)]
        while self.current.is_mark(","):
            before = self.take()
            values.append(self.value(before))
        if self.current.is_mark("="):
            raise self.second_equals(name, before, values[-1])
        return RawOption(name=name, values=tuple(values))

    def value(self, before: Token) -> Token:
        if not self.current.is_word:
            raise self.source.error_at(f"value missing after '{before.text}'", before)
        return self.take()

    def misplaced_element(self, token: Token) -> UserError:
        """An error for a token that stands where the name of a pass is due."""
        if token.is_mark(")"):
            return self.source.error_at("this ')' closes nothing", token)
        help = []
        if token.kind == "quoted":
            help = ["names are written without quotes"]
        elif token.is_mark("{("):
            help = [f"write '{token.text}' on the line of its pass"]
        message = f"expected the name of a pass, found {_found(token)}"
        return self.source.error_at(message, token, help=help)

    def misplaced_in_braces(self, token: Token) -> UserError:
        """An error for a token that cannot begin an option."""
        if token.is_mark(","):
            help = "options are separated by white space; a comma continues a list of values"
        elif token.kind == "quoted":
            help = "names are written without quotes"
        else:
            help = f"put words that contain '{token.text}' in double quotes"
        message = f"expected the name of an option or '}}', found {_found(token)}"
        return self.source.error_at(message, token, help=[help])

    def second_equals(self, option: Token, before: Token, value: Token) -> UserError:
        """An error for ``a= b=1``, ``a=1, b=2`` or ``a=b=c``: the token before the value tells which."""
        if before.is_mark(","):
            help = "options are separated by white space; a comma continues a list of values"
            message = f"this comma continues the values of option '{option.text}', but an option follows"
            return self.source.error_at(message, before, help=[help])
        if before.end < value.start:
            return self.source.error_at("value missing after '='", before)
        help = "put words that contain '=' in double quotes"
        return self.source.error_at("stray '='", self.current, help=[help])


def _found(token: Token) -> str:
    names = {"newline": "a line end", "end": "the end of the text"}
    return names.get(token.kind) or shown(token.text)
