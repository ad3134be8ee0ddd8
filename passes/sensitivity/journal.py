"""Measurements of a sweep that is not finished, one a line, so that a sweep that was stopped goes on from there.

The first line says which sweep it is: model, data, metric with its value for the model as it is, what chooses units.
Every other line is a point. A line that a kill has cut short is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import reason_of

SUFFIX = ".partial"
_ROUNDING = 1e-6
"""By how much of itself a metric may differ from one run to the next."""


def partial_path(target: Path) -> Path:
    """Where the measurements for a profile are kept until it is complete: a file beside it."""
    return target.with_name(target.name + SUFFIX)


class Journal:
    """An append-only file of measurements; a context manager, which leaves no file that it began and put nothing in.

    Args:
        path: the file; what it holds already counts.
        header: what tells one sweep from another.

    Attributes:
        values: what was measured so far, by row and number of removed units.

    Raises:
        UserError: the file is that of another sweep, or cannot be read or written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.values: dict[tuple[str, int], float | None] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            whole = [line for line in lines if line.endswith("\n")]
            if whole:
                self._check(self._parsed(whole, 0), header)
            for number in range(1, len(whole)):
                row, removed, value = self._point(whole, number)
                self.values[row, removed] = value
            self._stream: IO[str] = path.open("w" if not whole else "r+", encoding="utf-8")
            self._stream.writelines(whole)  # without a last line that was cut short
            self._stream.truncate()
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(reason_of(error)) from error
        self._is_new = not whole
        if self._is_new:
            self._write(header)

    def add(self, row: str, removed: int, value: float | None) -> None:
        """Keep a measurement; it is in the file when this returns."""
        self.values[row, removed] = value
        self._write({"group": row, "removed": removed, "value": value})

    def discard(self) -> None:
        """Remove the file: what it held is in the profile."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if self._is_new and not self.values:
            self.path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _point(self, lines: Sequence[str], number: int) -> tuple[str, int, float | None]:
        """Row, removed units and value of one line."""
        point = self._parsed(lines, number)
        try:
            row, removed, value = str(point["group"]), int(point["removed"]), point["value"]
            return row, removed, None if value is None else float(value)
        except (KeyError, TypeError, ValueError) as error:
            raise self._unusable(f"line {number + 1} is no measurement") from error

    def _parsed(self, lines: Sequence[str], number: int) -> Mapping[str, Any]:
        try:
            found = json.loads(lines[number])
        except ValueError as error:
            raise self._unusable(f"line {number + 1} of {len(lines)} is no JSON") from error
        if not isinstance(found, dict):
            raise self._unusable(f"line {number + 1} of {len(lines)} is no object")
        return found

    def _unusable(self, reason: str) -> UserError:
        return UserError(
            f"cannot use the partial results: {reason}",
            place=Place(file=str(self.path)),
            help=["remove the file to begin anew"],
        )

    def _check(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        """See that the file belongs to this sweep."""
        different = [key for key in header if not _same(found.get(key), header[key])]
        if different:
            key = different[0]
            what = "the metric of the dense model" if key == "dense" else key
            changed = ["the code of the metric has changed, or what it reads"] if key == "dense" else []
            raise UserError(
                f"these partial results are of another sweep: {what} is {found.get(key)}, not {header[key]}",
                place=Place(file=str(self.path)),
                notes=changed,
                help=["remove the file to begin anew, or write the profile elsewhere: -o OTHER.json"],
            )


def _same(found: Any, wanted: Any) -> bool:
    """Whether two facts are equal; numbers but for the order in which threads add them up."""
    if isinstance(found, float) and isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=_ROUNDING, abs_tol=1e-12)
    return bool(found == wanted)
