"""All that is known about one compile: its result, and what other tools have measured, in the form of their JSON.

Measurements come as objects (``Evaluation``, ``Profile``, ``BenchReport``, ``QuantizationTable``), as the JSON that
these write, or as files of it. They are read by their schema alone, so that a file of yesterday serves as well as an
object.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import file_error, read_text
from prunec.passes.result import Result

Document = Mapping[str, Any]

SCHEMAS = {
    "evaluation": ("prunec.evaluation/", "prunec eval MODEL --data D --json FILE"),
    "profile": ("prunec.sensitivity/", "prunec sensitivity MODEL --data D -o FILE"),
    "bench": ("prunec.bench/", "prunec bench A B --json FILE"),
    "quantization": ("prunec.quantization/", "prunec.quantization_table(...).to_json()"),
}
"""By what it is, how the schema begins, and what makes such a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file as others can find it again.

    Attributes:
        name: as the user gave it.
        sha256: of its bytes, or None where it is no file.
        size: bytes, of external data too; None where it is no file.
    """

    name: str
    sha256: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, path: Path, *, size: int | None = None) -> FileFacts:
        """The facts of a file.

        Args:
            path: the file.
            size: bytes where other files belong to it; by default its own.

        Raises:
            UserError: it cannot be read.
        """
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return cls(name=str(path), sha256=digest, size=path.stat().st_size if size is None else size)
        except OSError as error:
            raise file_error(path, "cannot read the file", error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a report is made from.

    Attributes:
        result: of the compile.
        output: the file that was written, or None.
        evaluation: metric and slices of the result.
        profile: how sensitive the model is, group by group.
        bench: latencies of the model before and after.
        quantization: dense, pruned, quantised and both.
    """

    result: Result
    output: FileFacts | None = None
    evaluation: Document | None = None
    profile: Document | None = None
    bench: Document | None = None
    quantization: Document | None = None

    @classmethod
    def of(
        cls, result: Result, *, output: str | os.PathLike[str] | FileFacts | None = None, **documents: Any
    ) -> Evidence:
        """Evidence from objects, JSON or files.

        Args:
            result: of the compile.
            output: the file that was written.
            **documents: ``evaluation``, ``profile``, ``bench``, ``quantization``.

        Raises:
            UserError: a file cannot be read, holds something else, or is about another model.
        """
        if not isinstance(result, Result):
            raise UserError(
                f"a report is made from the result of a run, got {type_of(result)}",
                help=["prunec.run returns one"],
            )
        facts = output if isinstance(output, FileFacts) or output is None else FileFacts.of(Path(output))
        known = {kind: read_document(kind, given) for kind, given in documents.items() if given is not None}
        evidence = cls(result=result, output=facts, **known)
        for kind, document in known.items():
            evidence._check_model(kind, document, documents[kind])
        return evidence

    def _check_model(self, kind: str, document: Document, given: Any) -> None:
        """See that all measured models are the one before or the one after, as far as their hashes are known.

        What is judged must be the one after.
        """
        source, output = self.result.module.source.original, self.output
        before = self.result.module.source if kind == "evaluation" else source
        known = {before.sha256, None if output is None else output.sha256} - {None}
        models = document.get("models") or ([document["model"]] if "model" in document else [])
        about = [
            (str(model.get("name")), model["sha256"])
            for model in models
            if isinstance(model, Mapping) and model.get("sha256") is not None
        ]
        others = [name for name, digest in about if digest not in known]
        if source.sha256 is None and len(others) < len(about):
            others = []  # a model that was made in memory may well be in a file, too
        if not others or (source.sha256 is None and not known):
            return
        relation = "is" if before is source else "was made from"
        notes = [f"the model here {relation} '{source.name}', sha256 {(source.sha256 or '')[:12]}"]
        help = [f"make it again: {SCHEMAS[kind][1]}"]
        if output is not None:
            notes.append(f"it became '{output.name}', sha256 {(output.sha256 or '')[:12]}")
        elif kind == "evaluation" or len(others) < len(about):
            help.append("or say which file the result was written to: `output`")
        raise UserError(
            f"this {_NAMES[kind]} is of another model: {', '.join(others)}",
            place=Place(file=_name(given)),
            notes=notes,
            help=help,
        )


_NAMES = {
    "evaluation": "evaluation",
    "profile": "sensitivity profile",
    "bench": "bench",
    "quantization": "quantisation table",
}


def read_document(kind: str, given: Any) -> Document:
    """Measurements as plain data.

    Args:
        kind: a key of ``SCHEMAS``.
        given: an object with ``to_json()``, its JSON (a mapping or text), or the path of a file of it.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    if isinstance(given, str | os.PathLike):
        found = _parsed(read_text(given), str(given))
    else:
        made = given if isinstance(given, Mapping) else given.to_json()
        found = made if isinstance(made, Mapping) else _parsed(made, "<memory>")
    schema, command = SCHEMAS[kind]
    if not (isinstance(found, Mapping) and str(found.get("schema", "")).startswith(schema)):
        raise UserError(
            f"this is no {_NAMES[kind]}: its schema is not {schema}1",
            place=Place(file=_name(given)),
            help=[f"make one: {command}"],
        )
    return found


def _name(given: Any) -> str:
    return str(given) if isinstance(given, str | os.PathLike) else "<memory>"


def _parsed(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"this is no JSON: {error}", place=Place(file=file)) from error
