"""Measurements of a sweep that is not finished, one a line, so that a sweep that was stopped goes on from there.

The first line says which sweep it is: model, data, metric, what chooses units. Every other line is a point. A line
that a kill has cut short is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from prunec.ir.diagnostics import Place, UserError

SUFFIX = ".partial"


def partial_path(target: Path) -> Path:
    """Where the measurements for a profile are kept until it is complete: a file beside it."""
    return target.with_name(target.name + SUFFIX)


class Journal:
    """An append-only file of measurements; a context manager.

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
                self._check(whole[0], header)
            for line in whole[1:]:
                point = json.loads(line)
                self.values[point["group"], point["removed"]] = point["value"]
            self._stream: IO[str] = path.open("w" if not whole else "r+", encoding="utf-8")
            self._stream.writelines(whole)  # without a last line that was cut short
            self._stream.truncate()
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            help = ["remove the file to begin anew"]
            raise UserError(
                f"cannot use the partial results: {reason}", place=Place(file=str(path)), help=help
            ) from error
        if not whole:
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

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _check(self, first: str, header: Mapping[str, Any]) -> None:
        """See that the file belongs to this sweep."""
        found = json.loads(first)
        different = [key for key in header if found.get(key) != header[key]]
        if different:
            key = different[0]
            raise UserError(
                f"these partial results are of another sweep: {key} is {found.get(key)}, not {header[key]}",
                place=Place(file=str(self.path)),
                help=["remove the file to begin anew, or write the profile elsewhere: -o OTHER.json"],
            )
