"""Predicates over columns: ``length > 400 and label in rare``.

They are expressions of SQL, read by polars' parser (``polars.sql_expr``) and never evaluated as Python: comparisons,
``AND``, ``OR``, ``NOT``, ``IN``, ``BETWEEN``, ``LIKE``, ``IS NULL``, arithmetic, and functions of columns such as
``QUANTILE_CONT(length, 0.9)`` and ``AVG(length)``. Named sets are put in before that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError, nearest
from prunec.ir.manifest import polars_needed
from prunec.ir.source import SourceText
from prunec.passes.judging.columns import column, column_names

if TYPE_CHECKING:
    import polars

Array = NDArray[Any]
Mask = NDArray[np.bool_]

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+|\s+|[^\w\s]")


def matching(
    where: str, arrays: Mapping[str, Array], *, source: SourceText, sets: Mapping[str, tuple[Any, ...]]
) -> Mask:
    """Which samples a predicate holds for, [samples]; where a value is missing, it does not.

    Args:
        where: the predicate.
        arrays: the data.
        source: the text that the predicate stands in, for messages.
        sets: values by the name of a set.

    Raises:
        UserError: the predicate has a mistake, names no column or set, or gives no truth values.
    """
    with polars_needed("a predicate over columns"):
        import polars
    text = _with_sets(where, source, sets)
    expression = _parsed(where, text, source)
    names = column_names(arrays)
    used = expression.meta.root_names()
    for name in used:
        if name not in names:
            raise _unknown("column", name, names, where, source)
    count = len(next(iter(arrays.values())))
    used_arrays = {name: column(arrays, name) for name in dict.fromkeys(used)}
    frame = polars.DataFrame({"": np.arange(count), **used_arrays}, nan_to_null=True)
    try:
        found = frame.with_columns(expression.alias("\0"))["\0"]
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise _error(f"this predicate fails: {_first_line(error)}", where, where, source) from error
    if found.dtype != polars.Boolean:
        help = ["compare it with something: length > 400"]
        raise _error(
            f"this predicate gives {_kind(found.dtype)}, not true or false", where, where, source, help
        )
    return found.fill_null(False).to_numpy()


def _kind(given: polars.DataType) -> str:
    """What values of a type are called."""
    if given.is_numeric():
        return "numbers"
    return "words" if str(given) in ("String", "Categorical", "Enum") else str(given)


def _parsed(where: str, text: str, source: SourceText) -> polars.Expr:
    import polars

    for match in _TOKEN.finditer(where):
        if match[0].lower() == "select":
            raise _error("a predicate reads columns, and holds no query", where, match[0], source)
    try:
        return polars.sql_expr(text)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        reason = _first_line(error)
        message = "this is no predicate" if reason.startswith("unable to parse") else reason
        help = ["comparisons, and, or, not, in, between, like; for example: length > 400 and label in (3, 7)"]
        named = re.search(r"'(\w+)'", reason)
        part = named[1] if named and named[1] in where else _unread(where)
        raise _error(message, where, part, source, help) from error


def _unread(where: str) -> str:
    """The end of a predicate from where it cannot be read on."""
    import polars

    for token in reversed(list(_TOKEN.finditer(where))):
        try:
            polars.sql_expr(where[: token.start()])
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException):
            continue
        return where[token.start() :].strip() or where
    return where


def _with_sets(where: str, source: SourceText, sets: Mapping[str, tuple[Any, ...]]) -> str:
    """The predicate with ``in NAME`` written out as ``in (values)``."""
    parts = [match[0] for match in _TOKEN.finditer(where)]
    words = [index for index, part in enumerate(parts) if not part.isspace()]
    for before, index in pairwise(words):
        if parts[before].lower() != "in" or not parts[index].isidentifier():
            continue
        name = parts[index]
        if name not in sets:
            raise _unknown("set", name, list(sets), where, source)
        parts[index] = f"({', '.join(map(_literal, sets[name]))})"
    return "".join(parts)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _unknown(what: str, name: str, known: list[str], where: str, source: SourceText) -> UserError:
    close = nearest(name, known)
    meant = f" (did you mean '{close}'?)" if close else ""
    among = ", ".join(known) or "none"
    help = [f"{what}s: {among}"]
    if what == "set":
        help.append(f"define it: [sets] {name} = [...]")
    return _error(f"unknown {what} '{name}'{meant}", where, name, source, help)


def _error(
    message: str, where: str, part: str, source: SourceText, help: list[str] | None = None
) -> UserError:
    """An error about a part of the predicate, which is looked for in the file again."""
    shown = source if where in source.text else SourceText.of(where, f"{source.file}, where")
    base = shown.text.find(where)
    found = re.search(rf"(?<!\w){re.escape(part)}(?!\w)", where)
    start = base + (found.start() if found else max(where.find(part), 0))
    return shown.error(message, start, start + len(part), help=help or [])


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    return line[:1].lower() + line[1:]
