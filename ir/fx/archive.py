"""Programs in ``.pt2`` files, as ``torch.export.save`` writes them.

Loading such a file can run code: tensors of unusual kinds, example inputs and custom objects in it may be
pickled, and torch unpickles them; torch evaluates the text of symbolic sizes, and calls what nodes name. So the
archive is looked through before torch sees it, and refused where it holds a pickle of more than tensors, a size
that is more than arithmetic, or a call of something else than an operator.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import reason_of, write_bytes
from prunec.ir.fx.facts import FAILURES
from prunec.ir.fx.importer import import_program
from prunec.ir.fx.lower import lower
from prunec.ir.fx.modes import FLAGS
from prunec.ir.fx.signature import signature_of
from prunec.ir.module import Module, Source

LARGEST_DESCRIPTION = 256 << 20
"""Bytes of one description of a graph that is still read."""

_ARITHMETIC = (
    *(
        ast.Expression,
        ast.Call,
        ast.Name,
        ast.Load,
        ast.Constant,
        ast.keyword,
        ast.Compare,
        ast.BoolOp,
        ast.Tuple,
    ),
    *(ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Mul|Add|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Max|Min|"
    r"Identity|IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|RoundToInt|CeilToInt|FloorToInt|PowByNatural|FloatPow|"
    r"Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Abs|Equality|Unequality|LessThan|StrictLessThan|GreaterThan|StrictGreaterThan|"
    r"Piecewise|BitwiseFn_\w+|OpaqueUnaryFn_\w+"
)
_CALLS = re.compile(r"torch\.ops\.\w+\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.\w+|math\.\w+")
_IMPORTS = ("default_factory_module", "__enum__")
_PICKLED = "it holds pickled objects, and unpickling runs code"


def load_archive(path: Path) -> Module:
    """Load a program without running code from the file.

    Raises:
        UserError: there is no such file, it is no program, it is damaged, or it holds what would have to be
            unpickled.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        _refuse(path, f"cannot be read: {reason_of(error)}", "give the path of a .pt2 file")
    _check(content, path)
    try:
        program = torch.export.load(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - torch raises what it likes on a damaged archive
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _refuse(
            path, f"torch.export.load cannot read it: {reason}", "export it again with this version of torch"
        )
    digest = hashlib.sha256(content).hexdigest()
    source = Source(name=str(path), path=path, sha256=digest, size=len(content))
    return import_program(program, training=_trains(program), source=source)


def save_archive(module: Module, path: Path) -> None:
    """Write a program beside its target and rename it.

    Raises:
        UserError: torch cannot export the program again, or the file cannot be written.
    """
    program = export_program(module)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_bytes(path, buffer.getvalue())


def export_program(module: Module) -> torch.export.ExportedProgram:
    """A module of the IR as a program of ``torch.export``, with the dynamic axes that it was captured with."""
    signature = signature_of(module.model)
    args, kwargs = signature.examples()
    lowered = lower(module.model, copy=False)
    try:
        return torch.export.export(lowered, args, kwargs, dynamic_shapes=signature.dynamic_shapes())
    except FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"torch.export cannot export the result: {reason}") from error


def _trains(program: torch.export.ExportedProgram) -> bool:
    """Whether some call of a program runs in training mode."""
    return any(
        argument.name in FLAGS and position < len(node.args) and node.args[position] is True
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
        for position, argument in enumerate(node.target._schema.arguments)
    )


def _check(content: bytes, path: Path) -> None:
    """Refuse what is no archive of ``torch.export.save``, or one that could run code."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        names = archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        _refuse(path, "this is no .pt2 archive", "write one with torch.export.save")
    if (broken := _broken(archive)) is not None:
        _refuse(path, f"`{broken}` in it is damaged", "copy the file again, or export it again")
    if not any(re.search(r"(^|/)models/[^/]+\.json$", name) for name in names):
        if "serialized_exported_program.json" in names:
            _refuse(
                path,
                f"the program was saved by an older torch: {_PICKLED}",
                "save it with a newer torch, or give the module to prunec.trace",
            )
        if any(name.endswith("data.pkl") for name in names):
            _refuse(path, f"this is a file of torch.save: {_PICKLED}", "export the module: torch.export.save")
        _refuse(
            path, "the archive holds no program", "write it with torch.export.save of this version of torch"
        )
    for name in names:
        if re.search(r"(^|/)(data|extra|code)/.*\.(pkl|py)$", name) or "/aotinductor/" in name:
            _refuse(
                path, f"`{name}` in it is code or a pickle", "save the program alone, with torch.export.save"
            )
        if name.endswith(".json"):
            _check_description(archive, name, path)
        elif "sample_inputs/" in name:
            _check_examples(archive.read(name), path)


def _broken(archive: zipfile.ZipFile) -> str | None:
    """The first entry whose contents are not those that its checksum is of; torch does not look at them."""
    for name in archive.namelist():
        try:
            with archive.open(name) as entry:
                while entry.read(1 << 20):
                    pass
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError):
            return name
    return None


def _check_description(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    if archive.getinfo(name).file_size > LARGEST_DESCRIPTION:
        _refuse(path, f"`{name}` in it is {archive.getinfo(name).file_size:,} bytes", "export it again")
    text = archive.read(name)
    if any(word.encode() in text for word in _IMPORTS):
        _refuse(
            path, "its arguments are objects of classes that would have to be imported", "use lists and dicts"
        )
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        _refuse(path, f"`{name}` in it is damaged", "export it again")
    for key, value in _entries(tree):
        if key == "use_pickle" and value:
            _refuse(path, _PICKLED, "save a program whose constants are plain tensors")
        if key == "target" and str(value).startswith(("torch.", "#")) and not _CALLS.fullmatch(str(value)):
            _refuse(path, f"it calls `{value}`, which is no operator", "export it again")
        if key == "expr_str" and not is_arithmetic(str(value)):
            _refuse(path, f"a size in it is more than arithmetic: {str(value)[:60]!r}", "export it again")


def is_arithmetic(text: str) -> bool:
    """Whether an expression computes with sizes and does nothing else.

    >>> is_arithmetic("Mul(Integer(2), Symbol('s0', positive=True))"), is_arithmetic("().__class__")
    (True, False)
    """
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return (
        all(isinstance(node, _ARITHMETIC) for node in nodes)
        and all(isinstance(call, ast.Name) and _FUNCTIONS.fullmatch(call.id) for call in calls)
        and not any("__" in name for name in names)
    )


def _check_examples(content: bytes, path: Path) -> None:
    """Torch unpickles example inputs without limits where it cannot read them as tensors; here that ends it."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise _refusal(path, _PICKLED, "save it with plain tensors as example inputs") from error


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested objects with its value."""
    pending = [tree]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            yield from current.items()
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)


def _refuse(path: Path, message: str, help: str) -> NoReturn:
    raise _refusal(path, message, help)


def _refusal(path: Path, message: str, help: str) -> UserError:
    return UserError(message, place=Place(file=str(path)), help=[help])
