"""The file of slices (TOML), and every mistake in it with its place.

::

    metric = "top1"                  # of every slice that names no other

    [all]                            # thresholds of the whole set
    max-drop = 0.01

    [sets]
    rare = [3, 7]

    [slices.rare-digits]
    where = "label in rare"
    min = 0.9
    max-drop = 0.02                  # against the dense model; "2%" is a share of its value
    min-size = 50

    [robustness.noise]
    kind = "noise"
    strength = 0.1
    max-drop = 0.05

Predicates are read by :mod:`prunec.passes.judging.predicates`, robustness by :mod:`prunec.passes.judging.perturb`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunec.ir.diagnostics import Place, UserError, nearest
from prunec.ir.files import read_text
from prunec.ir.source import SourceText, shown
from prunec.passes.judging.metrics import parse_metric
from prunec.passes.judging.perturb import KINDS, Perturbation
from prunec.passes.judging.slices import Slice, SliceFile
from prunec.passes.judging.thresholds import Limits

LIMITS = ("min", "max", "max-drop", "min-size")
TOP = ("metric", "undecided", "all", "sets", "slices", "robustness")
_PERCENT = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*%\s*")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_slices(path: str | Path) -> SliceFile:
    """Read a file of slices.

    Raises:
        UserError: it cannot be read, names no slice, or has a mistake; the message has line and column.
    """
    found = parse_slices(read_text(path, "slices"), file=str(path))
    if not found.slices:
        help = ["name one: [slices.NAME] with where = PREDICATE; thresholds of the whole set go into [all]"]
        raise UserError("no slice is in this file", place=Place(file=str(path)), help=help)
    return found


def parse_slices(text: str, *, file: str = "<slices>") -> SliceFile:
    """Parse the text of a file of slices.

    Args:
        text: TOML.
        file: what messages call it.

    Raises:
        UserError: it is no TOML, a key is unknown or missing, or a value is wrong.
    """
    source = SourceText.of(text, file)
    try:
        tables = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(source, str(error)) from error
    return _Reader(source=source, tables=tables).read()


def _syntax_error(source: SourceText, message: str) -> UserError:
    found = _TOML_PLACE.search(message)
    line, column = (int(found[1]), int(found[2])) if found and found[1] else (None, None)
    reason = _TOML_PLACE.sub("", message)
    written = len(source.text.rstrip())  # what ends too early is missed at the end of what is there
    start = written if line is None else min(_offset(source.text, line) + (column or 1) - 1, written)
    return source.error(f"{reason[:1].lower()}{reason[1:]}", start, start + 1)


def _offset(text: str, line: int) -> int:
    return sum(len(part) for part in text.splitlines(keepends=True)[: line - 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Turns the tables of one file into slices."""

    source: SourceText
    tables: dict[str, Any]

    def read(self) -> SliceFile:
        tables = self.tables
        self._check_keys("", tables, TOP)
        undecided = tables.get("undecided", "pass")
        if undecided not in ("pass", "fail"):
            raise self._error("", "undecided", f'\'undecided\' takes "pass" or "fail", got {undecided!r}')
        whole = [self._whole(self._table("", "all"))] if "all" in tables else []
        slices = [self._slice(f"slices.{n}", n, t) for n, t in self._tables("slices")]
        perturbed = [self._perturbed(n, t) for n, t in self._tables("robustness")]
        for section in ("slices", "robustness"):
            if "all" in self._table("", section):
                message = f"[{section}.all]: 'all' is the whole set"
                raise self._error(
                    "", f"{section}.all", message, ["give it another name; thresholds of all go into [all]"]
                )
        names = [item.name for item in (*whole, *slices, *perturbed)]
        for name in names:
            if names.count(name) > 1:
                raise self._error("", name, f"'{name}' names two slices")
        return SliceFile(
            source=self.source,
            slices=(*whole, *slices, *perturbed),
            sets={name: self._set(name, values) for name, values in self._table("", "sets").items()},
            metric=self._metric("", tables),
            undecided=undecided,
        )

    def _whole(self, table: dict[str, Any]) -> Slice:
        """Thresholds of the whole set, whose metric is that of the file."""
        self._check_keys("all", table, LIMITS)
        return Slice(name="all", limits=self._limits("all", table))

    def _slice(self, section: str, name: str, table: dict[str, Any]) -> Slice:
        self._check_keys(section, table, ("where", "metric", *LIMITS))
        if not isinstance(table.get("where"), str):
            what = "is missing" if "where" not in table else f"takes text, got {table['where']!r}"
            help = ['write a predicate over columns: where = "length > 400 and label = 3"']
            raise self._error(section, "where", f"'where' of [{section}] {what}", help)
        return Slice(
            name=name,
            where=table["where"],
            limits=self._limits(section, table),
            metric=self._metric(section, table),
        )

    def _perturbed(self, name: str, table: dict[str, Any]) -> Slice:
        section = f"robustness.{name}"
        kind = str(table.get("kind", ""))
        if kind not in KINDS:
            close = nearest(kind, KINDS)
            what = f"is {shown(kind)}" if kind else "is missing"
            meant = f" (did you mean '{close}'?)" if close else ""
            help = [f"kinds: {', '.join(KINDS)}"]
            raise self._error(section, "kind", f"'kind' of [{section}] {what}{meant}", help)
        self._check_keys(section, table, ("kind", "metric", *KINDS[kind].options, *LIMITS))
        options = {key: self._number(section, table, key) for key in KINDS[kind].options if key in table}
        try:
            perturbation = Perturbation.of(name, kind, options)
        except UserError as error:
            key = next((key for key in options if error.message.startswith(f"'{key}'")), "kind")
            raise self._error(section, key, error.message) from error
        limits, metric = self._limits(section, table), self._metric(section, table)
        return Slice(name=name, limits=limits, metric=metric, perturbation=perturbation)

    def _limits(self, section: str, table: dict[str, Any]) -> Limits:
        drop, relative = table.get("max-drop"), False
        if isinstance(drop, str) and (percent := _PERCENT.fullmatch(drop)):
            drop, relative = float(percent[1]) / 100, True
        size = table.get("min-size", 1)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise self._error(section, "min-size", f"'min-size' takes a whole number from 1, got {size!r}")
        return Limits(
            minimum=self._number(section, table, "min"),
            maximum=self._number(section, table, "max"),
            max_drop=self._number(section, {"max-drop": drop}, "max-drop"),
            relative=relative,
            min_size=size,
        )

    def _number(self, section: str, table: Mapping[str, Any], key: str) -> float | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            extra = ' or a share such as "2%"' if key == "max-drop" else ""
            raise self._error(section, key, f"'{key}' takes a number{extra}, got {value!r}")
        return float(value)

    def _metric(self, section: str, table: Mapping[str, Any]) -> str | None:
        text = table.get("metric")
        if text is None:
            return None
        if not isinstance(text, str):
            raise self._error(section, "metric", f"'metric' takes text, got {text!r}")
        try:
            parse_metric(text)
        except UserError as error:
            raise self._error(section, "metric", error.message, error.help) from error
        return text

    def _set(self, name: str, values: Any) -> tuple[Any, ...]:
        scalar = bool | int | float | str
        if not isinstance(values, list) or not values or not all(isinstance(v, scalar) for v in values):
            raise self._error("sets", name, f"set '{name}' takes a list of numbers or words, got {values!r}")
        return tuple(values)

    def _table(self, section: str, key: str) -> dict[str, Any]:
        table = self.tables.get(key, {})
        if not isinstance(table, dict):
            raise self._error(section, key, f"'{key}' is a table: write [{key}]")
        return table

    def _tables(self, key: str) -> Iterable[tuple[str, dict[str, Any]]]:
        for name, table in self._table("", key).items():
            if not isinstance(table, dict):
                raise self._error(key, name, f"'{name}' of [{key}] is a table: write [{key}.{name}]")
            yield name, table

    def _check_keys(self, section: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        allowed = list(known)
        for key in table:
            if key not in allowed:
                close = nearest(key, allowed)
                meant = f" (did you mean '{close}'?)" if close else ""
                where = f" in [{section}]" if section else ""
                help = [f"keys: {', '.join(allowed)}"]
                raise self._error(section, key, f"unknown key {shown(key)}{where}{meant}", help)

    def _error(self, section: str, key: str, message: str, help: Iterable[str] = ()) -> UserError:
        """An error at a key of a section, as far as it can be found in the text again."""
        text, start = self.source.text, 0
        header = re.search(rf"^\s*\[\s*{re.escape(section)}\s*\]", text, re.MULTILINE) if section else None
        start = header.end() if header else 0
        found = re.compile(rf"^\s*\[?\"?({re.escape(key)})\"?[\s=\].]", re.MULTILINE).search(text, start)
        if found is None and header is None:
            return UserError(message, place=Place(file=self.source.file), help=help)
        begin, end = found.span(1) if found else (header.start(), header.end())  # type: ignore[union-attr]
        return self.source.error(message, begin, end, help=help)
