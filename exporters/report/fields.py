"""What of a model card only people know: the fields, and how they are read.

The fields are those of model-card practice (Mitchell et al., *Model Cards for Model Reporting*, FAT* 2019), sorted by
the functions of NIST's AI Risk Management Framework (NIST AI 100-1, 2023) that they serve: map, measure, manage.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunec.ir.diagnostics import Place, UserError, nearest
from prunec.ir.files import read_text

NOT_STATED = "not stated"

FIELDS: Mapping[str, Mapping[str, str]] = {
    "model": {
        "name": "Name",
        "version": "Version",
        "owner": "Owner",
        "contact": "Contact",
        "licence": "Licence",
        "reference": "Where to read more",
    },
    "use": {
        "intended": "Intended use",
        "users": "Intended users",
        "out_of_scope": "Out of scope",
    },
    "context": {
        "people": "People who are affected",
        "factors": "Groups, instruments and environments that matter",
        "harms": "What a mistake can do",
    },
    "data": {
        "training": "Training data",
        "evaluation": "Evaluation data",
    },
    "manage": {
        "oversight": "Human oversight",
        "monitoring": "Monitoring",
        "response": "When it fails",
        "risks": "Known risks and recommendations",
    },
}
"""By table of the file, its keys and what the card calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFields:
    """What people say about a model.

    Attributes:
        values: by table and key; what is not there is not stated.
    """

    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def rows(self, table: str) -> list[tuple[str, str]]:
        """The fields of one table: what the card calls them, and what is said."""
        said = self.values.get(table, {})
        return [(label, said.get(key, NOT_STATED)) for key, label in FIELDS[table].items()]

    @property
    def missing(self) -> int:
        """How many fields are not stated."""
        return sum(text == NOT_STATED for table in FIELDS for _, text in self.rows(table))

    @classmethod
    def of(cls, given: CardFields | Mapping[str, Any] | str | os.PathLike[str] | None) -> CardFields:
        """Fields from a mapping or a TOML file.

        Raises:
            UserError: the file cannot be read, or has a field that no card has, or one that is no text.
        """
        if given is None or isinstance(given, CardFields):
            return given or cls()
        if isinstance(given, Mapping):
            return cls(values=_checked(given, "<fields>"))
        return cls(values=_checked(_read(Path(given)), str(given)))


def _read(path: Path) -> Mapping[str, Any]:
    text = read_text(path, "card's fields")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"this is no TOML: {_lower(str(error))}", place=Place(file=str(path))) from error


def _checked(given: Mapping[str, Any], file: str) -> dict[str, dict[str, str]]:
    place = Place(file=file)
    found: dict[str, dict[str, str]] = {}
    for table, entries in given.items():
        if table not in FIELDS:
            raise UserError(
                _unknown("table", table, FIELDS), place=place, help=[f"tables: {', '.join(FIELDS)}"]
            )
        if not isinstance(entries, Mapping):
            raise UserError(f"'{table}' is a table: write [{table}] on a line of its own", place=place)
        for key, value in entries.items():
            if key not in FIELDS[table]:
                keys = f"fields of [{table}]: {', '.join(FIELDS[table])}"
                raise UserError(_unknown(f"field in [{table}]", key, FIELDS[table]), place=place, help=[keys])
            found.setdefault(table, {})[key] = _text(f"{table}.{key}", value, place)
    return found


def _text(name: str, value: Any, place: Place) -> str:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float) for part in parts):
        raise UserError(f"field {name} takes text or a list of texts", place=place)
    return "; ".join(" ".join(str(part).split()) for part in parts) or NOT_STATED


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    likely = nearest(name, known)
    return f"unknown {what}: '{name}'" + (f" (did you mean '{likely}'?)" if likely else "")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
