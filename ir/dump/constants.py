"""Tensors in a dump: small ones inline, large ones by their place in one file; written and read.

Numbers are written so that they read back bit for bit; where decimal digits cannot do that (NaNs with a payload) and
for types that NumPy does not have, the bytes are written in hexadecimal, little-endian and packed as in ONNX files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.dump.cursor import Cursor
from prunec.ir.dump.types import read_element, read_size
from prunec.ir.dump.words import properties_text, string_text
from prunec.ir.notation import element_name
from prunec.ir.pairs import Layout
from prunec.ir.source import Token
from prunec.ir.tensors import byte_size

INLINE = 16
"""Elements up to which a constant is written inline unless more are asked for."""
_DECIMAL = (
    "FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
)  # fmt: skip
_NUMPY = {int(onnx_ir.DataType[name]): onnx_ir.DataType[name].numpy().newbyteorder("<") for name in _DECIMAL}
_PROPERTIES = ("name", "doc", "metadata")


@dataclass(kw_only=True)
class Constants:
    """Writes tensors, and collects those that go to the data file.

    Attributes:
        inline: elements up to which a tensor is written inline.
        layout: where the others lie in the data file.
    """

    inline: int = INLINE
    layout: Layout = field(default_factory=Layout)

    def text(self, tensor: onnx_ir.TensorProtocol, *, named: bool = True) -> str:
        """``f32[2]={1.0, 2.0}`` or ``f32[64, 3]=data[0]``; the tensor's own name only where ``named``."""
        shape = tensor.shape.numpy()
        own = {
            "name": (tensor.name or "") if named else "",
            "doc": tensor.doc_string or "",
            "metadata": dict(tensor.metadata_props),
        }
        head = f"{element_name(tensor.dtype)}[{', '.join(map(str, shape))}]"
        return f"{head}={self._content(tensor, math.prod(shape))}{properties_text(own)}"

    def _content(self, tensor: onnx_ir.TensorProtocol, size: int) -> str:
        if tensor.dtype == onnx_ir.DataType.STRING:
            words = np.asarray(tensor.numpy(), dtype=object).ravel()
            return f"{{{', '.join(string_text(_decoded(word)) for word in words)}}}"
        if size > self.inline:
            return f"data[{self.layout.place(tensor)}]"
        return inline_text(tensor.dtype, tensor.tobytes())

    def write(self, stream: IO[bytes]) -> None:
        """Write the data file."""
        self.layout.write(stream)


def inline_text(dtype: onnx_ir.DataType, data: bytes) -> str:
    """The contents of a small tensor from its bytes."""
    kind = _NUMPY.get(int(dtype))
    if kind is None:
        return f"0x{data.hex()}"
    array = np.frombuffer(data, kind)
    words = [str(n).lower() if kind.kind == "b" else str(n) for n in array]
    return f"{{{', '.join(words)}}}" if _array(words, kind).tobytes() == data else f"0x{data.hex()}"


def read_tensor(cursor: Cursor, name: str | None = None) -> onnx.TensorProto:
    """Read a tensor.

    Args:
        cursor: stands at its element type.
        name: its name where it is an initializer, whose name stands in front of it.
    """
    start = cursor.current
    tensor = onnx.TensorProto(name=name or "", data_type=read_element(cursor))
    cursor.expect("[", "a tensor")
    tensor.dims.extend(cursor.items("]", "a shape", lambda: _dim(cursor)))
    cursor.expect("=", "a tensor")
    _read_content(cursor, tensor, start)
    own = cursor.properties(_PROPERTIES, "a tensor")
    tensor.name = tensor.name if name is not None else own.get("name", "")
    tensor.doc_string = own.get("doc", "")
    onnx.helper.set_metadata_props(tensor, own.get("metadata", {}))
    return tensor


def _dim(cursor: Cursor) -> int:
    token = cursor.current
    size = read_size(cursor)
    if size < 0:
        cursor.fail(f"a constant cannot have {size} elements along an axis", token)
    return size


def _read_content(cursor: Cursor, tensor: onnx.TensorProto, start: Token) -> None:
    count, token = math.prod(tensor.dims), cursor.current
    if tensor.data_type == 0:
        cursor.fail("a constant must have an element type", start)
    if cursor.accept("data"):
        _read_place(cursor, tensor, token)
    elif token.kind == "hex":
        _read_bytes(cursor, tensor, cursor.take())
    else:
        words = _read_words(cursor)
        if len(words) != count:
            cursor.fail(f"{len(words):,} values for {count:,} elements of {list(tensor.dims)}", token)
        if tensor.data_type == onnx.TensorProto.STRING:
            tensor.string_data.extend(_word_bytes(cursor, word) for word in words)
        else:
            tensor.raw_data = _numbers(cursor, tensor.data_type, words)


def _read_place(cursor: Cursor, tensor: onnx.TensorProto, token: Token) -> None:
    if cursor.data is None:
        cursor.fail(
            "this constant lies in a data file, but the head of the dump names none", token,
            help=['name it: model <ir_version=10, data="net.prunec.data">'],
        )  # fmt: skip
    if tensor.data_type == onnx.TensorProto.STRING:
        cursor.fail("a tensor of strings cannot lie in a data file", token)
    cursor.expect("[", "a constant")
    offset = cursor.integer("the place in the data file", "a constant")
    if offset < 0:
        cursor.fail(f"the data file has no byte {offset}", token)
    cursor.expect("]", "a constant")
    needs = byte_size(onnx_ir.DataType(tensor.data_type), math.prod(tensor.dims))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", cursor.data), ("offset", str(offset)), ("length", str(needs))):
        tensor.external_data.add(key=key, value=value)


def _read_bytes(cursor: Cursor, tensor: onnx.TensorProto, token: Token) -> None:
    dtype = onnx_ir.DataType(tensor.data_type)
    if dtype == onnx_ir.DataType.STRING:
        cursor.fail("strings are written as strings, not as bytes", token)
    needs, has = byte_size(dtype, math.prod(tensor.dims)), len(token.text) - 2
    if has != 2 * needs:
        cursor.fail(f"{has:,} hexadecimal digits for {needs:,} bytes of {list(tensor.dims)}", token)
    tensor.raw_data = bytes.fromhex(token.text[2:])


def _read_words(cursor: Cursor) -> list[Token]:
    kinds = ("number", "word", "quoted")
    if not cursor.accept("{"):
        return [cursor.kind(kinds, "the contents of a constant", "a tensor")]
    return cursor.items("}", "a tensor", lambda: cursor.kind(kinds, "a number", "a tensor"))


def _word_bytes(cursor: Cursor, token: Token) -> bytes:
    if token.kind != "quoted":
        cursor.fail("the elements of a tensor of strings are strings in double quotes", token)
    return encoded(token.text)


def _numbers(cursor: Cursor, data_type: int, words: list[Token]) -> bytes:
    kind = _NUMPY.get(data_type)
    if kind is None:
        element = element_name(onnx_ir.DataType(data_type))
        start = words[0] if words else cursor.current
        if not words:
            return b""
        cursor.fail(f"the contents of {element} are written in hexadecimal, such as 0x00", start)
    for word in words:
        if not _fits(word, kind):
            cursor.fail(f"this is no {element_name(onnx_ir.DataType(data_type))} number", word)
    return _array([word.text for word in words], kind).tobytes()


def _fits(word: Token, kind: np.dtype[Any]) -> bool:
    if kind.kind == "b":
        return word.kind == "word" and word.text in ("true", "false")
    if word.kind != "number":
        return False
    if kind.kind == "f":
        return True
    limits = np.iinfo(kind)
    digits = word.text.removeprefix("-")
    return digits.isdigit() and len(digits) <= 20 and int(limits.min) <= int(word.text) <= int(limits.max)


def _array(words: list[str], kind: np.dtype[Any]) -> NDArray[Any]:
    """Numbers from their texts, ``[len(words)]``; a float that is too large is infinite."""
    if kind.kind == "b":
        return np.array([word == "true" for word in words], kind)
    convert = float if kind.kind == "f" else int
    with np.errstate(over="ignore"):
        return np.array([convert(word) for word in words], np.float64 if kind.kind == "f" else kind).astype(
            kind
        )


def _decoded(word: Any) -> str:
    return word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else str(word)


def encoded(text: str) -> bytes:
    """A string's bytes; those that were no UTF-8 text come back as they were."""
    return text.encode("utf-8", "surrogateescape")
