"""How each type of option is written: from words to a value and back.

====================  =========================  ===================================
annotation            written                    value
====================  =========================  ===================================
``bool``              ``name``, ``name=false``   ``True``, ``False``
``int``, ``float``    ``8``, ``1e-3``            ``8``, ``0.001``
``Ratio``             ``0.4`` or ``40%``         ``0.4``
``str``               ``head.*``                 ``"head.*"``
``Literal["a", "b"]`` ``a``                      ``"a"``
``tuple[T, ...]``     ``x,y``; empty: ``none``   ``("x", "y")``
``T | None``          as ``T``, or ``none``      ``None``
====================  =========================  ===================================

Anything else is an ``Annotated`` type with an :class:`OptionType` of its own, as patterns of zeros are.
The word ``none`` in double quotes is always the text "none".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from prunec.ir.source import Token
from prunec.passes.checks import Check, within
from prunec.passes.text.words import quoted_if_needed

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_PERCENT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)%")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionType:
    """A type of option.

    Attributes:
        text: short form for help, such as ``int`` or ``l1|l2``.
        takes: completes "option 'x' takes ...", such as ``a whole number``.
        accepts: whether a Python value is of this type.
        parse: the value of a word; raises ValueError when the word is none of this type.
        show: the word for a value, quoted where needed.
        check: what holds for a value where the option brings no check of its own.
        item: type of the items, for a list.
        choices: the words of an enumeration.
        is_flag: whether the name alone means true.
        none_value: what ``none`` stands for, as a one-tuple; None where it is no special word.
    """

    text: str
    takes: str
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    check: Check | None = None
    item: OptionType | None = None
    choices: tuple[str, ...] = ()
    is_flag: bool = False
    none_value: tuple[object] | None = None

    def read(self, words: Sequence[Token]) -> Any:
        """The value of one word or, for a list, of all words; ValueError when they are none of this type."""
        first = words[0]
        if self.none_value is not None and len(words) == 1 and (first.kind, first.text) == ("word", "none"):
            return self.none_value[0]
        if self.item is not None:
            return tuple(self.item.read([word]) for word in words)
        return self.parse(first.text)

    def write(self, value: Any) -> str:
        """The words for a value, such that ``read`` gives the value back."""
        if self.none_value is not None and value == self.none_value[0]:
            return "none"
        words = self.show(value)
        return '"none"' if words == "none" and self.none_value is not None else words


def option_type(annotation: Any) -> OptionType:
    """The option type for a type annotation.

    Raises:
        TypeError: options of this annotation cannot be written as text.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if origin is Annotated:
        marked = [mark for mark in arguments[1:] if isinstance(mark, OptionType)]
        return marked[0] if marked else option_type(arguments[0])
    if origin is Literal:
        return _enumeration(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(option_type(arguments[0]))
    if origin in (Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
        return _optional(option_type(next(a for a in arguments if a is not NoneType)))
    raise TypeError(f"options of type {annotation} cannot be written as text")


def _parse_bool(word: str) -> bool:
    return {"true": True, "false": False}[word] if word in ("true", "false") else _refuse(word)


def _parse_int(word: str) -> int:
    return int(word) if _INTEGER.fullmatch(word) else _refuse(word)


def _parse_float(word: str) -> float:
    return float(word) if _NUMBER.fullmatch(word) else _refuse(word)


def _parse_ratio(word: str) -> float:
    percent = _PERCENT.fullmatch(word)
    # "e-2" and not "/ 100": the nearest float to 33.3 % is then exactly 0.333.
    return float(f"{percent[1]}e-2") if percent else _parse_float(word)


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18


def _is_float(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else _is_int(value) and float(value) == value


def _show_float(value: float) -> str:
    return repr(float(value))


_BOOL = OptionType(
    text="bool",
    takes="true or false",
    accepts=lambda value: isinstance(value, bool),
    parse=_parse_bool,
    show=lambda value: str(value).lower(),
    is_flag=True,
)
_INT = OptionType(text="int", takes="a whole number", accepts=_is_int, parse=_parse_int, show=str)
_FLOAT = OptionType(text="float", takes="a number", accepts=_is_float, parse=_parse_float, show=_show_float)
_STR = OptionType(
    text="word",
    takes="a word",
    accepts=lambda value: isinstance(value, str),
    parse=str,
    show=quoted_if_needed,
)
_RATIO = OptionType(
    text="ratio",
    takes="a number",
    accepts=_is_float,
    parse=_parse_ratio,
    show=_show_float,
    check=within(0, 1, closed="left"),
)
_SCALARS: dict[Any, OptionType] = {bool: _BOOL, int: _INT, float: _FLOAT, str: _STR}

Ratio = Annotated[float, _RATIO]
"""A share, written ``0.4`` or ``40%``; in [0, 1) unless the option's own check says otherwise."""


def _enumeration(values: tuple[Any, ...]) -> OptionType:
    words = {str(value): value for value in values}
    return OptionType(
        text="|".join(words),
        takes=f"one of {', '.join(repr(word) for word in words)}",
        accepts=lambda value: any(value == v and type(value) is type(v) for v in values),
        parse=lambda word: words[word] if word in words else _refuse(word),
        show=lambda value: quoted_if_needed(str(value)),
        choices=tuple(words),
    )


def _list(item: OptionType) -> OptionType:
    if item.none_value is not None:
        raise TypeError("options that are lists of lists or of optional values cannot be written as text")

    def accepts_item(value: Any) -> bool:
        return item.accepts(value) and (item.check is None or item.check.test(value))

    return OptionType(
        text=f"{item.text},...",
        takes=f"a list, each item {item.takes}{f' {item.check.text}' if item.check else ''}",
        accepts=lambda value: isinstance(value, tuple) and all(map(accepts_item, value)),
        parse=_refuse,
        # A one-item list of the text "none" is quoted by `write`, which then differs from the empty list.
        show=lambda value: ",".join(item.write(v) for v in value),
        item=item,
        choices=item.choices,
        none_value=((),),
    )


def _optional(inner: OptionType) -> OptionType:
    if inner.none_value is not None:
        raise TypeError(
            "options that are a list or None cannot be written as text; make no list an empty one"
        )
    return replace(
        inner,
        text=f"{inner.text}|none",
        accepts=lambda value: value is None or inner.accepts(value),
        choices=(*inner.choices, "none") if inner.choices else (),
        none_value=(None,),
    )
