"""Brings a model into the IR, from a file or from another library's object.

A binary file is memory-mapped and its weights stay there: what is parsed is a few hundred kilobytes of graph.
Whatever is wrong with the input is the user's to know: each check ends in one ``UserError``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import onnx
import onnx_ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from prunec.ir.diagnostics import Place, Remark, UserError
from prunec.ir.dump.model import parse_dump
from prunec.ir.external import Bytes, DataFiles, all_graphs, buffer_of, map_external, map_file, view_tensor
from prunec.ir.files import reason_of
from prunec.ir.formats import DUMP_SUFFIX, TEXT_SUFFIXES, is_program, refuse_foreign_format
from prunec.ir.module import Module, Source, not_a_module
from prunec.ir.proto import placeholder, remember_declared, weights_of
from prunec.ir.repair import may_need_repair, rename_nodes, repair
from prunec.ir.scopes import walk
from prunec.ir.structure import check_model
from prunec.ir.wire import SMALLEST_WEIGHT, Split, WireError, split_weights

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

HAD_EXTERNAL_DATA = "prunec.had_external_data"
"""Key in the main graph's ``meta``: the source kept weights in files of their own."""


def load(source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model | Module | gs.Graph) -> Module:
    """Load a model.

    What a source has wrong and ONNX Runtime tolerates is put right (:mod:`prunec.ir.repair`, and nodes out of
    order), as ``Module.repairs`` tells; apart from that nothing is changed, and saving gives back what was loaded.
    Weights are not copied: those of a file stay memory-mapped (do not overwrite a loaded file in place; replacing
    it, as ``save`` does, is fine), those of an object are shared with it.

    Args:
        source: path of a ``.onnx`` file (with or without external data), of ONNX text (``.onnxtxt``,
            ``.onnx.txt``), of a dump with its constants (``.prunec``) or of a program of ``torch.export.save``
            (``.pt2``); a ``ModelProto``; an
            ``onnx_ir.Model``; an ``onnx_graphsurgeon.Graph``; or a module, returned as it is.

    Raises:
        UserError: there is no such file, it is no ONNX model or a damaged one, its external data is missing
            or lies outside of its folder, or it uses what the IR cannot hold.
    """
    if isinstance(source, Module):
        return source
    if isinstance(source, str | os.PathLike):
        return _load_program(Path(source)) if is_program(Path(source)) else _load_file(Path(source))
    if isinstance(source, onnx.ModelProto):
        return _from_proto(source, DataFiles(file=Source().name, model=None))
    if isinstance(source, onnx_ir.Model):
        return _from_model(source)
    if type(source).__module__.partition(".")[0] == "onnx_graphsurgeon":
        return _from_proto(_export_graphsurgeon(source), DataFiles(file=Source().name, model=None))
    raise not_a_module(source)


def _load_program(path: Path) -> Module:
    from prunec.ir.fx.entry import load_program

    _open(path)
    return load_program(path)


def _load_file(path: Path) -> Module:
    content = _open(path)
    digest = hashlib.sha256(buffer_of(content)).hexdigest()
    files = DataFiles(file=str(path), model=path)
    if path.name.endswith(TEXT_SUFFIXES):
        module = _from_proto(_parse_text(content, path), files)
    elif path.name.endswith(DUMP_SUFFIX):
        module = _from_proto(parse_dump(content.tobytes(), str(path)), files)
        module.graph.meta.pop(HAD_EXTERNAL_DATA, None)  # the data file belongs to the dump alone
    else:
        refuse_foreign_format(content, path)
        split = _split(content, path)
        module = _from_proto(_parse(split.skeleton, path), files, content=content, split=split)
    size = len(content) + files.size
    module.source = Source(name=str(path), path=path, sha256=digest, size=size, data=files.paths)
    return module


def _open(path: Path) -> Bytes:
    """The file's bytes, memory-mapped."""
    try:
        if path.is_dir():
            _refuse(path, "this is a directory, not a model file", ["give the .onnx file inside it"])
        content = map_file(path)
    except FileNotFoundError:
        _refuse(path, "no such file", [_closest_file(path)])
    except (OSError, ValueError) as error:
        _refuse(path, f"cannot be read: {reason_of(error)}")
    if not len(content):
        _refuse(path, "the file is empty", ["the export or download did not finish; repeat it"])
    return content


def _closest_file(path: Path) -> str:
    try:
        there = sorted(
            entry.name
            for entry in path.parent.iterdir()
            if entry.name.endswith((".onnx", ".pt2", *TEXT_SUFFIXES, DUMP_SUFFIX)) and entry.is_file()
        )
    except OSError:
        return f"there is no folder {path.parent} either"
    return f"models in {path.parent}: {', '.join(there[:5])}" if there else f"no model is in {path.parent}"


def _split(content: Bytes, path: Path) -> Split:
    try:
        return split_weights(buffer_of(content))
    except WireError as error:
        if error.missing is None:
            _refuse(path, f"this is not an ONNX file: {error}", ["export the model to ONNX first"])
        _refuse(
            path,
            f"the file is cut off: it has {len(content):,} bytes, at least {error.missing:,} more are missing",
            ["the download or copy did not finish (or this is not an ONNX file); repeat it"],
        )


def _parse(skeleton: bytes, path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.ModelProto()
        proto.ParseFromString(skeleton)
        return proto
    except DecodeError:
        _refuse(
            path, "this is not an ONNX file: protobuf cannot parse it", ["export the model to ONNX first"]
        )


def _parse_text(content: Bytes, path: Path) -> onnx.ModelProto:
    try:
        text = content.tobytes().decode("utf-8")
        return onnx.parser.parse_model(text)
    except UnicodeDecodeError as error:
        _refuse(path, f"byte {error.start} is not UTF-8 text", ["a binary model's name must end in .onnx"])
    except onnx.parser.ParseError as error:
        raise _syntax_error(error, text, path) from error


def _syntax_error(error: Exception, text: str, path: Path) -> UserError:
    """onnx's parser error, ``[ParseError at position (line: 1 column: 6)]...``, with the line it is about."""
    said = error.args[0] if error.args else ""
    said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    where = re.search(r"line: (\d+) column: (\d+)", said)
    problem = (said.strip().splitlines() or ["cannot be parsed"])[-1].rstrip(".")
    message = f"ONNX text: {problem[:1].lower()}{problem[1:]}"
    if where is None:
        return UserError(message, place=Place(file=str(path)))
    line, column = int(where[1]), int(where[2])
    lines = text.splitlines()
    excerpt = f"{lines[line - 1]}\n{' ' * (column - 1)}^" if 0 < line <= len(lines) else None
    return UserError(message, place=Place(file=str(path), line=line, column=column), excerpt=excerpt)


def _from_proto(
    proto: onnx.ModelProto, files: DataFiles, *, content: Bytes | None = None, split: Split | None = None
) -> Module:
    """Check a proto and build the IR from it.

    Args:
        proto: the model, less the weights that ``split`` says are in ``content``.
        files: where its external data may be.
        content: the mapped file.
        split: which weights of the main graph to take from ``content``.
    """
    spans = split.spans if split else ()
    if content is None and may_need_repair(proto):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        proto = copy
    try:
        repairs = repair(proto, file=files.file)
        check_model(proto, file=files.file, stored=[span and span.stop - span.start for span in spans])
        repairs += rename_nodes(proto)
        model = onnx_ir.from_proto(proto)
    except (onnx_ir.serde.SerdeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(_root_cause(error)).partition("\n")[0].rstrip(".")
        raise UserError(
            f"the model cannot be read into the IR: {reason}", place=Place(file=files.file)
        ) from error
    for tensor, span in zip(proto.graph.initializer, spans, strict=False):
        value = model.graph.initializers[tensor.name]
        if (
            content is not None
            and span is not None
            and not isinstance(value.const_value, onnx_ir.ExternalTensor)
        ):
            assert value.const_value is not None
            value.const_value = view_tensor(content[span], value.const_value)
    remember_declared(model, proto)
    return _finish(model, files, repairs)


def _from_model(model: onnx_ir.Model) -> Module:
    files = DataFiles(file=Source().name, model=None)
    check_model(_outline(model), file=files.file)
    return _finish(model, files)


def _outline(model: onnx_ir.Model) -> onnx.ModelProto:
    """The model as a proto without its large weights; works on broken graphs too, which cannot be cloned."""
    weights = weights_of(model, smallest=SMALLEST_WEIGHT)
    values = model.graph.initializers
    try:
        for name, tensor in weights.items():
            values[name].const_value = placeholder(tensor, name)
        return onnx_ir.to_proto(model)
    finally:
        for name, tensor in weights.items():
            values[name].const_value = tensor


def _finish(model: onnx_ir.Model, files: DataFiles, repairs: tuple[Remark, ...] = ()) -> Module:
    if sort(model):
        text = "nodes came before what they read: put into topological order"
        repairs += (Remark(kind="analysis", origin="load", message=text),)
    if map_external(model, files):
        model.graph.meta[HAD_EXTERNAL_DATA] = True
    return Module(model, repairs=repairs)


def sort(model: onnx_ir.Model) -> bool:
    """Put the nodes of every graph into topological order, as ONNX demands; whether they were in another."""
    if all(_is_sorted(graph) for graph in all_graphs(model)):
        return False
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        graph.sort()
    return True


def _is_sorted(graph: onnx_ir.Graph) -> bool:
    made: set[onnx_ir.Value] = set()
    for node in graph:
        if any(value.producer() and value.graph is graph and value not in made for value in _reads(node)):
            return False
        made.update(node.outputs)
    return True


def _reads(node: onnx_ir.Node) -> Iterable[onnx_ir.Value]:
    """What a node reads, its bodies included."""
    return [value for reader in walk([node]) for value in reader.inputs if value is not None]


def _export_graphsurgeon(graph: Any) -> onnx.ModelProto:
    import onnx_graphsurgeon as gs

    proto: onnx.ModelProto = gs.export_onnx(graph)
    return proto


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _refuse(path: Path, message: str, help: Iterable[str] = ()) -> NoReturn:
    raise UserError(message, place=Place(file=str(path)), help=help)
