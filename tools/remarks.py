"""Remarks as text for people and as YAML for programs.

The YAML is LLVM's shape for optimisation remarks: one document each, tagged ``!Passed``, ``!Missed`` or ``!Analysis``.
Every value is a JSON string or object, which YAML reads. ``Op`` and ``Source`` are those of the input model's node.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.ir.diagnostics import Remark
from prunec.ir.files import write_text

if TYPE_CHECKING:
    from prunec.ir.module import Module

Origin = tuple[str, str | None]
"""The op that something in a graph belongs to, and its line in the user's program where that is known."""


def from_passes(remarks: Iterable[Remark], globs: Iterable[str]) -> list[Remark]:
    """The remarks of the passes (or analyses) whose names match one of the globs."""
    patterns = list(globs)
    return [remark for remark in remarks if any(fnmatchcase(remark.origin, glob) for glob in patterns)]


def origins_in(module: Module) -> dict[str, Origin]:
    """Op and source of every node, by its name and by those of the tensors that it makes or alone reads first."""
    from prunec.ir.location import source_of
    from prunec.ir.scopes import walk

    found: dict[str, Origin] = {}
    for node in walk(module.graph):
        constants = (value for value in node.inputs if value is not None and value.is_initializer())
        for name in (node.name, *(value.name for value in (*node.outputs, *constants))):
            if name:
                found.setdefault(name, (node.op_type, source_of(node)))
    return found


def with_source(remark: Remark, origins: Mapping[str, Origin]) -> str:
    """A remark as text, with the line of the user's program that it is about where that is known."""
    _, source = origins.get(remark.node or "", ("", None))
    return f"{remark}\n  = at: {source}" if source else str(remark)


def to_yaml(remarks: Iterable[Remark], origins: Mapping[str, Origin]) -> str:
    """One YAML document for each remark.

    Args:
        remarks: the remarks.
        origins: ops and sources by name, from :func:`origins_in`.
    """
    return "".join(_document(remark, origins) for remark in remarks)


def _document(remark: Remark, origins: Mapping[str, Origin]) -> str:
    op, source = origins.get(remark.node or "", (None, None))
    fields = {
        "Pass": remark.origin,
        "Name": remark.node,
        "Group": remark.group,
        "Op": op,
        "Source": source,
        "Message": remark.message,
        "Reason": remark.reason,
        "Help": remark.help,
        "Numbers": dict(remark.numbers) or None,
    }
    lines = [
        f"{key}: {json.dumps(text, ensure_ascii=False)}" for key, text in fields.items() if text is not None
    ]
    return "\n".join([f"--- !{remark.kind.capitalize()}", *lines, "...", ""])


def save_remarks(remarks: Iterable[Remark], path: Path, origins: Mapping[str, Origin]) -> None:
    """Write a YAML file; see :func:`to_yaml`.

    Raises:
        UserError: it cannot be written.
    """
    write_text(path, to_yaml(remarks, origins), "remarks")
