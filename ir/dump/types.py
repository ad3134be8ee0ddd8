"""Types in a dump: ``f32[N, 3, 8, 8]``, ``seq(i64[...])``, ``?`` for none; written and read.

The size of an axis may be written in channel groups (``g1:8*16``), of which only the size is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx
import onnx_ir

from prunec.ir.dump.cursor import NESTING_LIMIT, Cursor
from prunec.ir.dump.words import ELEMENTS, properties_text, size_of, word_text
from prunec.ir.notation import element_name
from prunec.ir.source import shown

_HOLDERS = {"seq": "sequence_type", "optional": "optional_type"}
_WORDS = {field: word for word, field in _HOLDERS.items()}
TYPE_PROPERTIES = ("denotation", "dims")
VALUE_PROPERTIES = (*TYPE_PROPERTIES, "doc", "metadata")


def entries(props: Any) -> dict[str, str]:
    """ONNX's list of keys and values as a map."""
    return {entry.key: entry.value for entry in props}


def value_text(info: onnx.ValueInfoProto, axes: Sequence[str | None] = ()) -> str:
    """The type that a model declares for a value, and what it says about the value.

    Args:
        info: the declaration.
        axes: for every axis what to write in place of its size, where that means the same size.
    """
    more = {"doc": info.doc_string, "metadata": entries(info.metadata_props)}
    return type_text(info.type, axes, more)


def type_text(
    kind: onnx.TypeProto, axes: Sequence[str | None] = (), more: dict[str, Any] | None = None
) -> str:
    """A type, its denotations, and ``more`` properties."""
    which = kind.WhichOneof("value")
    denotations: list[str] = []
    if which in _WORDS:
        text = f"{_WORDS[which]}({type_text(getattr(kind, which).elem_type, axes)})"
    elif which is None:
        text = "?"
    else:
        tensor = getattr(kind, which)
        text = _tensor_text(tensor, axes)
        text = f"sparse({text})" if which == "sparse_tensor_type" else text
        denotations = [dim.denotation for dim in tensor.shape.dim]
    dims = denotations if any(denotations) else []
    return text + properties_text({"denotation": kind.denotation, "dims": dims, **(more or {})})


def _tensor_text(tensor: Any, axes: Sequence[str | None]) -> str:
    element = element_name(onnx_ir.DataType(tensor.elem_type)) if tensor.elem_type else "?"
    if not tensor.HasField("shape"):
        return f"{element}[...]"
    annotated = [*axes, *[None] * len(tensor.shape.dim)]
    return (
        f"{element}[{', '.join(_dim_text(d, a) for d, a in zip(tensor.shape.dim, annotated, strict=False))}]"
    )


def _dim_text(dim: onnx.TensorShapeProto.Dimension, axis: str | None) -> str:
    if dim.HasField("dim_value"):
        return axis if axis is not None and size_of(axis) == dim.dim_value else str(dim.dim_value)
    return word_text(dim.dim_param) if dim.dim_param else "?"


def read_value(cursor: Cursor, name: str) -> onnx.ValueInfoProto:
    """Read the declaration of a value."""
    info = onnx.ValueInfoProto(name=name)
    more = read_type(cursor, info.type, VALUE_PROPERTIES)
    info.doc_string = more.get("doc", "")
    onnx.helper.set_metadata_props(info, more.get("metadata", {}))
    return info


def read_type(
    cursor: Cursor, into: onnx.TypeProto, properties: Sequence[str] = TYPE_PROPERTIES, depth: int = 0
) -> dict[str, Any]:
    """Read a type, and give back the properties behind it."""
    if depth > NESTING_LIMIT:
        cursor.fail("types are nested too deep", cursor.current)
    token = cursor.current
    tensor = None
    if token.text in (*_HOLDERS, "sparse") and cursor.following.text == "(":
        cursor.take()
        cursor.take()
        if token.text == "sparse":
            tensor = into.sparse_tensor_type
            _read_tensor_type(cursor, tensor)
        else:
            held = getattr(into, _HOLDERS[token.text])
            held.SetInParent()
            read_type(cursor, held.elem_type, depth=depth + 1)
        cursor.expect(")", "a type")
    elif token.text != "?" or cursor.following.text == "[":
        tensor = into.tensor_type
        _read_tensor_type(cursor, tensor)
    else:
        cursor.take()
    found = cursor.properties(properties, "a type")
    if found.get("denotation"):
        into.denotation = found["denotation"]
    for dim, text in zip(tensor.shape.dim if tensor is not None else (), found.get("dims", ()), strict=False):
        dim.denotation = text
    return found


def read_element(cursor: Cursor) -> int:
    """Read an element type; ``?`` is none."""
    if cursor.accept("?"):
        return 0
    token = cursor.kind("word", "an element type", "a type")
    if token.text not in ELEMENTS:
        cursor.fail(f"unknown element type {shown(token.text)}", token, known=ELEMENTS)
    return int(ELEMENTS[token.text])


def _read_tensor_type(cursor: Cursor, tensor: Any) -> None:
    tensor.elem_type = read_element(cursor)
    cursor.expect("[", "a type")
    if cursor.accept("..."):
        cursor.expect("]", "a type")
        return
    tensor.shape.SetInParent()
    cursor.items("]", "a shape", lambda: _read_dim(cursor, tensor.shape.dim.add()))


def _read_dim(cursor: Cursor, dim: onnx.TensorShapeProto.Dimension) -> None:
    grouped = cursor.following.text in (":", "(")
    if cursor.current.kind in ("word", "quoted") and not grouped:
        dim.dim_param = cursor.take().text
    elif not cursor.accept("?"):
        dim.dim_value = read_size(cursor)


def read_size(cursor: Cursor) -> int:
    """Read the size of an axis, in channel groups or not."""
    start = cursor.current
    if cursor.accept("mix"):
        cursor.expect("(", "a shape")
        size = sum(cursor.items(")", "a shape", lambda: _read_factor(cursor)))
    else:
        size = _read_term(cursor)
        while cursor.accept("+"):
            size += _read_term(cursor)
    if not -(2**63) <= size < 2**63:
        cursor.fail("this size does not fit into 64 bits", start)
    return size


def _read_term(cursor: Cursor) -> int:
    factors = [_read_factor(cursor)]
    while cursor.accept("*"):
        factors.append(_read_factor(cursor))
    return math.prod(factors)


def _read_factor(cursor: Cursor) -> int:
    if cursor.current.kind == "word":
        cursor.take()
        cursor.expect(":", "a shape")
    return cursor.integer("a size", "a shape")
