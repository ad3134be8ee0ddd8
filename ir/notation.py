"""How the dump writes names, element types, small constants and attributes."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

LARGEST_LITERAL = 8
"""Elements of an integer constant up to which its contents are printed."""

_PLAIN_NAME = re.compile(r"[^\s,(){}\[\]\"=%@]+")
_SHORT_TYPES = {"b8": "bool", "s": "str"}

AttributeType = onnx_ir.AttributeType


def value_name(value: onnx_ir.Value | None) -> str:
    """``%x`` for a computed value, ``@w`` for a constant, ``_`` for one that is absent."""
    if value is None or not value.name:
        return "_"
    producer = value.producer()
    constant = value.is_initializer() or (producer is not None and producer.op_type == "Constant")
    return sigil_name("@" if constant else "%", value.name)


def sigil_name(sigil: str, name: str | None) -> str:
    """A name behind its sigil, in quotes where it could be misread (at its end a colon is punctuation)."""
    plain = name and _PLAIN_NAME.fullmatch(name) and name.isprintable() and not name.endswith(":")
    return sigil + (name or "" if plain else json.dumps(name or ""))


def element_name(dtype: onnx_ir.DataType) -> str:
    """``f32``, ``i64``, ``bool``."""
    short = dtype.short_name()
    return _SHORT_TYPES.get(short, short)


def literal(array: NDArray[Any]) -> str:
    """The contents of small integer arrays and of single numbers, behind an equals sign."""
    if array.size != 1 and (array.dtype.kind not in "iub" or array.size > LARGEST_LITERAL):
        return ""
    numbers = [str(n).lower() if array.dtype.kind == "b" else str(n) for n in array.ravel()]
    return f"={{{', '.join(numbers)}}}" if array.ndim else f"={numbers[0]}"


def attribute_text(attribute: onnx_ir.Attr) -> str:
    """The value of an attribute; tensors by their type, references to a function's attributes by name."""
    if attribute.is_ref():
        return f"${attribute.ref_attr_name}"
    value, kind = attribute.value, attribute.type
    if kind in (AttributeType.FLOAT, AttributeType.FLOATS):
        value = [str(np.float32(v)) for v in np.atleast_1d(value)]
        return value[0] if kind == AttributeType.FLOAT else f"[{', '.join(value)}]"
    if kind in (AttributeType.STRING, AttributeType.STRINGS):
        return json.dumps(value if kind == AttributeType.STRING else list(value), ensure_ascii=False)
    if kind == AttributeType.TENSOR:
        sizes = ", ".join(str(d) for d in value.shape)
        small = (
            value.size <= LARGEST_LITERAL
            and value.dtype.bitwidth >= 8
            and value.dtype != onnx_ir.DataType.STRING
        )
        return f"{element_name(value.dtype)}[{sizes}]{literal(value.numpy()) if small else ''}"
    return (
        str(list(value))
        if kind == AttributeType.INTS
        else str(value)
        if kind == AttributeType.INT
        else kind.name
    )
