"""Remarks as text for people and as YAML for programs.

The YAML is LLVM's shape for optimisation remarks: one document each, tagged ``!Passed``, ``!Missed`` or ``!Analysis``.
Every value is a JSON string, which YAML reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from prunec.ir.atomic import real_target, replace_file
from prunec.ir.diagnostics import Place, Remark, UserError


def from_passes(remarks: Iterable[Remark], globs: Iterable[str]) -> list[Remark]:
    """The remarks of the passes (or analyses) whose names match one of the globs."""
    patterns = list(globs)
    return [remark for remark in remarks if any(fnmatchcase(remark.origin, glob) for glob in patterns)]


def to_yaml(remarks: Iterable[Remark]) -> str:
    """One YAML document for each remark."""
    return "".join(map(_document, remarks))


def _document(remark: Remark) -> str:
    fields = {
        "Pass": remark.origin,
        "Name": remark.node,
        "Message": remark.message,
        "Reason": remark.reason,
        "Help": remark.help,
    }
    lines = [
        f"{key}: {json.dumps(text, ensure_ascii=False)}" for key, text in fields.items() if text is not None
    ]
    return "\n".join([f"--- !{remark.kind.capitalize()}", *lines, "...", ""])


def save_remarks(remarks: Iterable[Remark], path: Path) -> None:
    """Write a YAML file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        replace_file(real_target(path), lambda stream: stream.write(to_yaml(remarks).encode()))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write the remarks: {reason}", place=Place(file=str(path))) from error
