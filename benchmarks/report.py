"""One table of results: for a terminal, for a page, and as JSON.

::

    python benchmarks/report.py RESULT.json ...        # print stored results again
    python benchmarks/report.py --readme README.md     # bring the tables of a page up to date

A page has a line ``<!-- results: FILE.json -->`` for each table and ``<!-- end -->`` behind it; what is
between them is written anew.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine

SCHEMA = "prunec.benchmark/1"
_FILE_WIDTH = 250
_PLACE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the value in a row.
        title: heading.
        format: format specification of a number.
    """

    key: str
    title: str
    format: str = ""

    def show(self, row: Mapping[str, Any]) -> str:
        """The cell of a row; ``-`` where the row has no value."""
        value = row.get(self.key)
        if value is None:
            return "-"
        return format(value, self.format) if isinstance(value, int | float) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a benchmark measured.

    Attributes:
        benchmark: its name.
        title: what the table shows.
        columns: of the table.
        rows: values by column key; a row may hold more than the table shows.
        options: how it was measured.
        notes: lines beneath the table.
        machine: where it was measured.
        date: when (UTC).
    """

    benchmark: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    machine: machine.Facts = field(default_factory=machine.facts)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    def print(self) -> None:
        """Print the table for people, as wide as it is."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column.title, justify="right" if self._is_number(column) else "left")
        for row in self.rows:
            table.add_row(*(column.show(row) for column in self.columns))
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = _FILE_WIDTH
        console.print(table)
        for line in self._footer():
            console.print(line, soft_wrap=True)

    def markdown(self) -> str:
        """The table for a page."""
        rule = ["---:" if self._is_number(column) else "---" for column in self.columns]
        cells = [
            [column.title for column in self.columns],
            rule,
            *([column.show(row).replace("|", "\\|") for column in self.columns] for row in self.rows),
        ]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        return "\n".join([f"**{self.title}**", "", *lines, "", "\\\n".join(self._footer()), ""])

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        content = {"schema": SCHEMA, **asdict(self)}
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what :meth:`save` wrote."""
        content = json.loads(path.read_text())
        if content.pop("schema", None) != SCHEMA:
            raise SystemExit(f"error: {path} is no result of these benchmarks")
        columns = [Column(**column) for column in content.pop("columns")]
        return cls(columns=columns, **content)

    def _footer(self) -> list[str]:
        return [*self.notes, f"{self.date}; {machine.describe(self.machine)}"]

    def _is_number(self, column: Column) -> bool:
        return any(isinstance(row.get(column.key), int | float) for row in self.rows)


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's documentation as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how to show the results."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def publish(report: Report, options: argparse.Namespace) -> None:
    """Show a report as the command line asks."""
    if options.markdown:
        print(report.markdown())
    else:
        report.print()
    if options.json is not None:
        report.save(options.json)


def refresh(page: Path) -> None:
    """Write the tables of a page anew, from the results beside it; one without results stays as it is."""

    def table(match: re.Match[str]) -> str:
        if not (page.parent / match[2]).exists():
            return match[0]
        return f"{match[1]}\n{Report.load(page.parent / match[2]).markdown()}\n{match[3]}"

    page.write_text(_PLACE.sub(table, page.read_text()))


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="results as JSON")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--readme", type=Path, metavar="PAGE", help="bring the tables of a page up to date")
    options = parser.parse_args()
    for path in options.results:
        report = Report.load(path)
        print(report.markdown()) if options.markdown else report.print()
    if options.readme is not None:
        refresh(options.readme)


if __name__ == "__main__":
    main()
