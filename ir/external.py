"""Weights that live in files beside the model: checked, then viewed through one memory map a file.

A location comes from an untrusted file. It must be a relative path to a regular file inside the model's
folder, after symbolic links are followed; what it points at is opened once and mapped, so that later changes
to the folder (even replacing the data file on saving) cannot change the weights of a module that is loaded.
``onnx_ir`` has a guard of its own, but only on first access, only where the folder's path is not empty, and
not in local functions.
"""

from __future__ import annotations

import math
import mmap
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import onnx_ir

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import reason_of
from prunec.ir.tensors import byte_size

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


class DataFiles:
    """The data files of one model, each checked and mapped when the first tensor needs it.

    Args:
        file: what messages call the model.
        model: path of the model file; its folder is where data files may lie. None for a model made in
            memory, whose tensors say their folder themselves.
    """

    def __init__(self, *, file: str, model: Path | None) -> None:
        self.file = file
        self.model = model
        self._maps: dict[Path, Bytes] = {}

    @property
    def size(self) -> int:
        """Bytes of all data files together."""
        return sum(len(content) for content in self._maps.values())

    @property
    def paths(self) -> tuple[Path, ...]:
        """Real paths of all data files."""
        return tuple(self._maps)

    def tensor(self, tensor: onnx_ir.ExternalTensor) -> onnx_ir.TensorProtocol:
        """The same tensor as a view of its mapped file; nothing is read.

        Raises:
            UserError: the location is not allowed, or the file is missing or too short.
        """
        needs = byte_size(tensor.dtype, math.prod(tensor.shape.numpy()))
        offset = tensor.offset or 0
        if tensor.length not in (None, needs):
            self._fail(tensor, f"declares {tensor.length} bytes, its shape needs {needs}")
        content = self._content(tensor)
        if offset + needs > len(content):
            self._fail(
                tensor,
                f"ends at byte {offset + needs}, but `{tensor.location}` has only {len(content)} bytes",
                help="the data file is cut off or belongs to another model; copy it again",
            )
        return view_tensor(content[offset : offset + needs], tensor)

    def _content(self, tensor: onnx_ir.ExternalTensor) -> Bytes:
        path = self._allowed_path(tensor)
        if path not in self._maps:
            self._maps[path] = self._map(path, tensor)
        return self._maps[path]

    def _allowed_path(self, tensor: onnx_ir.ExternalTensor) -> Path:
        """The real path of a tensor's file, which is inside the model's folder."""
        location = Path(tensor.location)
        if location.is_absolute() or ".." in location.parts:
            self._fail(tensor, f"points outside of the model's folder: `{location}`")
        folder = self.model.absolute().parent if self.model else Path(tensor.base_dir).absolute()
        real = (folder / location).resolve()
        # a model that is itself a link into a store (as download caches make) has its data in the store
        homes = [folder.resolve(), *([self.model.resolve().parent] if self.model else [])]
        if not any(real.is_relative_to(home) for home in homes):
            self._fail(
                tensor,
                f"leads outside of the model's folder through a symbolic link: `{location}` is `{real}`",
                help="copy the data file into the model's folder",
            )
        return real

    def _map(self, path: Path, tensor: onnx_ir.ExternalTensor) -> Bytes:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                self._fail(tensor, f"is `{tensor.location}`, which is not a regular file")
            if status.st_nlink > 1:
                self._fail(
                    tensor,
                    f"is `{tensor.location}`, which has {status.st_nlink} hard links and so may be any file",
                    help="copy the data file in place of the link",
                )
            return map_file(path)
        except FileNotFoundError:
            self._fail(
                tensor, f"is in `{tensor.location}`, which does not exist", help=f"copy it into {path.parent}"
            )
        except OSError as error:
            self._fail(tensor, f"is in `{tensor.location}`, which cannot be read: {reason_of(error)}")

    def _fail(self, tensor: onnx_ir.ExternalTensor, problem: str, *, help: str | None = None) -> NoReturn:
        message = f"external data of tensor `{tensor.name}` {problem}"
        raise UserError(message, place=Place(file=self.file), help=[help] if help else [])


def map_file(path: Path) -> Bytes:
    """A file's bytes, ``[size]``, memory-mapped; a file replaced later keeps its content here."""
    with path.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def buffer_of(content: Bytes) -> memoryview:
    """The same bytes as a buffer, for hashing and parsing."""
    return memoryview(cast(bytes, content))


def view_tensor(content: Bytes, like: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
    """A tensor over raw bytes, little-endian and packed as in files, without a copy.

    Args:
        content: the tensor's bytes, ``[byte_size(dtype, elements)]``.
        like: gives data type, shape, name, doc string and metadata.
    """
    shape = onnx_ir.Shape(like.shape.numpy())
    about: dict[str, Any] = {
        "name": like.name,
        "doc_string": like.doc_string,
        "metadata_props": dict(like.metadata_props) or None,
    }
    if like.dtype.bitwidth < 8:
        return onnx_ir.PackedTensor(content, like.dtype, shape=shape, **about)
    elements = content.view(like.dtype.numpy().newbyteorder("<"))
    return onnx_ir.Tensor(elements.reshape(shape.numpy()), dtype=like.dtype, shape=shape, **about)


def map_external(model: onnx_ir.Model, files: DataFiles) -> bool:
    """Replace every external tensor of a model, wherever it is, by a view of its mapped file.

    Returns:
        Whether there was any.

    Raises:
        UserError: a location is not allowed, or a file is missing or too short.
    """
    found = False
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if isinstance(value.const_value, onnx_ir.ExternalTensor):
                value.const_value = files.tensor(value.const_value)
                found = True
        for node in graph:
            found |= _map_attributes(node, files)
    return found


def _map_attributes(node: onnx_ir.Node, files: DataFiles) -> bool:
    found = False
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref() or not isinstance(attribute.value, onnx_ir.ExternalTensor):
            continue
        node.attributes[name] = onnx_ir.AttrTensor(
            name, files.tensor(attribute.value), doc_string=attribute.doc_string
        )
        found = True
    return found


def all_graphs(model: onnx_ir.Model) -> Iterator[onnx_ir.Graph]:
    """The main graph, the bodies of local functions, and every subgraph of both."""
    yield model.graph
    yield from model.graph.subgraphs()
    for function in model.functions.values():
        yield function.graph
        yield from function.graph.subgraphs()
