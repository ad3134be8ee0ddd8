"""Writes a module to disk, whole or not at all.

Everything is written beside its target under a temporary name, flushed to the disk and then renamed. A model
with external data is two files, and no system renames two files at once: so the new data file takes a name
that the old model does not use, and the last step, renaming the model, switches from the old pair to the new
one. A crash at any point leaves a model that loads: the old one or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import onnx

from prunec.ir.atomic import real_target, replace_file
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import ATEN
from prunec.ir.dump.file import save_dump
from prunec.ir.external import buffer_of, map_file
from prunec.ir.files import file_error
from prunec.ir.formats import DUMP_SUFFIX, TEXT_SUFFIXES, is_program
from prunec.ir.fx.entry import program_as_onnx, save_program
from prunec.ir.load import HAD_EXTERNAL_DATA
from prunec.ir.module import Module, require_module
from prunec.ir.pairs import Layout, free_data_name, remove_replaced
from prunec.ir.proto import (
    LARGEST_PROTO,
    graphs_of,
    to_pieces,
    to_proto,
    weight_bytes,
    weights_of,
    without_weights,
)
from prunec.ir.wire import SMALLEST_WEIGHT, WireError, split_weights

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

__all__ = ["save", "to_graphsurgeon", "to_proto"]

LARGEST_TEXT = 16_000_000
"""Bytes of weights that may go into a text file, where a float32 takes about twelve characters."""


def save(module: Module, path: str | os.PathLike[str], *, external_data: bool | None = None) -> None:
    """Write a module, atomically.

    Args:
        module: the module; saving does not change it, and it stays usable when it is saved over its own
            source.
        path: the file; a name that ends in ``.onnxtxt`` or ``.onnx.txt`` gives ONNX text with the weights in
            it, one in ``.prunec`` a dump with its large weights in ``NAME.data``, one in ``.pt2`` a program of
            ``torch.export`` (which only a captured module can be), any other binary ONNX.
        external_data: whether weights go to a file of their own, ``NAME.data`` (``NAME.2.data`` and so on
            while the model being replaced still uses that one, or where it belongs to something else). None
            means where the source had them there, or where they are more than one ONNX file can hold.

    Raises:
        UserError: the folder does not exist or cannot be written, the disk is full, or the weights do not fit
            into the form that was asked for.
    """
    require_module(module)
    target = real_target(Path(path))
    if target.is_dir():
        _refuse(
            target,
            "this is a directory, not a file name",
            f"give a file name, such as {target / 'model.onnx'}",
        )
    if not target.parent.is_dir():
        _refuse(target, "its folder does not exist", f"mkdir -p {target.parent}")
    if is_program(target):
        save_program(module, target)
        return
    if ATEN in module.graph.opset_imports:
        raise program_as_onnx(target)
    try:
        if target.name.endswith(TEXT_SUFFIXES):
            _save_text(module, target, external_data)
        elif target.name.endswith(DUMP_SUFFIX):
            save_dump(module, target)
        elif _wants_external(module, external_data):
            _save_external(module, target)
        else:
            pieces = to_pieces(module)
            replace_file(target, lambda stream: stream.writelines(pieces))
    except OSError as error:
        raise file_error(target, "cannot write the file", error) from error


def to_graphsurgeon(module: Module) -> gs.Graph:
    """The module as an ``onnx_graphsurgeon.Graph``, which keeps less than the IR (no metadata, for example).

    Raises:
        UserError: onnx-graphsurgeon is not installed, or the weights are more than one ``ModelProto`` can
            hold.
    """
    try:
        import onnx_graphsurgeon as gs
    except ImportError as error:
        help = ["pip install 'prunec[graphsurgeon]'"]
        raise UserError("onnx-graphsurgeon is not installed", help=help) from error
    return gs.import_onnx(to_proto(module))


def _wants_external(module: Module, asked: bool | None) -> bool:
    if asked is not None:
        return asked
    return HAD_EXTERNAL_DATA in module.graph.meta or weight_bytes(module.model) > LARGEST_PROTO


def _save_text(module: Module, target: Path, external_data: bool | None) -> None:
    if external_data:
        _refuse(target, "ONNX text holds its weights itself", "save as .onnx to have external data")
    if (size := weight_bytes(module.model)) > LARGEST_TEXT:
        _refuse(
            target,
            f"{size:,} bytes of weights are too many for ONNX text, which may hold {LARGEST_TEXT:,}",
            "save as .onnx",
        )
    content = onnx.printer.to_text(to_proto(module)).encode()
    replace_file(target, lambda stream: stream.writelines([content]))


def _save_external(module: Module, target: Path) -> None:
    weights = weights_of(module.model, smallest=SMALLEST_WEIGHT)
    before = _data_files_of(target)
    data, layout = free_data_name(target, before), Layout()
    placed = {name: (data.name, layout.place(tensor)) for name, tensor in weights.items()}
    content = without_weights(module.model, placed).SerializeToString()
    replace_file(data, layout.write)
    replace_file(target, lambda stream: stream.writelines([content]))
    remove_replaced(module, target, before - {data.name})


def _data_files_of(target: Path) -> set[str]:
    """Locations of the external data of the model that is to be replaced, or none."""
    if not target.exists():
        return set()
    try:
        proto = onnx.ModelProto.FromString(split_weights(buffer_of(map_file(target))).skeleton)
    except (WireError, ValueError, onnx.checker.ValidationError):
        return set()
    tensors = (tensor for graph in graphs_of(proto.graph) for tensor in graph.initializer)
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


def _refuse(path: Path, message: str, help: str) -> NoReturn:
    raise UserError(message, place=Place(file=str(path)), help=[help])
