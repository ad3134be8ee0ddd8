"""Attributes in a dump, of every kind but graphs (which are bodies below their node); written and read.

A number with a point or an exponent is a FLOAT, one without an INT; what could be either, such as an empty list, says
its kind in front (``floats[]``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx_ir.serde import deserialize_tensor

from prunec.ir.dump.constants import Constants, encoded, read_tensor
from prunec.ir.dump.cursor import Cursor
from prunec.ir.dump.types import read_type, type_text
from prunec.ir.dump.words import ELEMENTS, properties_text, string_text, word_text
from prunec.ir.source import Token, shown

Attribute = onnx.AttributeProto
_NAMED_LISTS = ("ints", "floats", "strings", "tensors", "types", "graphs")
_WORDS = (*ELEMENTS, *_NAMED_LISTS, "type", "undefined")


def attribute_line(attribute: onnx.AttributeProto, constants: Constants) -> str:
    """``pads=[1, 1, 1, 1]``."""
    doc = properties_text({"doc": attribute.doc_string})
    return f"{word_text(attribute.name)}={_value_text(attribute, constants)}{doc}"


def _value_text(attribute: onnx.AttributeProto, constants: Constants) -> str:
    if attribute.ref_attr_name:
        return f"${word_text(attribute.ref_attr_name)}:{Attribute.AttributeType.Name(attribute.type).lower()}"
    match attribute.type:
        case Attribute.INT:
            return str(attribute.i)
        case Attribute.FLOAT:
            return _float_text(attribute.f)
        case Attribute.STRING:
            return _string_text(attribute.s)
        case Attribute.INTS:
            return _listed("ints", [str(i) for i in attribute.ints])
        case Attribute.FLOATS:
            return _listed("floats", [_float_text(f) for f in attribute.floats])
        case Attribute.STRINGS:
            return _listed("strings", [_string_text(s) for s in attribute.strings])
        case Attribute.TENSOR:
            return constants.text(deserialize_tensor(attribute.t))
        case Attribute.TENSORS:
            inline = Constants(
                inline=max((t.size for t in map(deserialize_tensor, attribute.tensors)), default=0)
            )
            return f"tensors[{', '.join(inline.text(deserialize_tensor(t)) for t in attribute.tensors)}]"
        case Attribute.TYPE_PROTO:
            return f"type {type_text(attribute.tp)}"
        case Attribute.TYPE_PROTOS:
            return f"types[{', '.join(type_text(t) for t in attribute.type_protos)}]"
    return "graphs[]" if attribute.type == Attribute.GRAPHS else "undefined"


def _listed(kind: str, items: list[str]) -> str:
    return f"[{', '.join(items)}]" if items else f"{kind}[]"


def _float_text(number: float) -> str:
    with np.errstate(over="ignore"):
        return str(np.float32(number))


def _string_text(data: bytes) -> str:
    return string_text(data.decode("utf-8", "surrogateescape"))


def read_attributes(cursor: Cursor) -> list[onnx.AttributeProto]:
    """Read ``{name=value, ...}``, or nothing where none comes."""
    found: dict[str, onnx.AttributeProto] = {}

    def read() -> None:
        token = cursor.kind(("word", "quoted"), "the name of an attribute", "the attributes")
        if token.text in found:
            cursor.fail(f"attribute {shown(token.text)} is given twice", token)
        cursor.expect("=", "an attribute")
        found[token.text] = attribute = onnx.AttributeProto(name=token.text)
        _read_attribute(cursor, attribute)
        attribute.doc_string = cursor.properties(["doc"], "an attribute").get("doc", "")

    if cursor.accept("{"):
        cursor.items("}", "the attributes", read)
    return list(found.values())


def _read_attribute(cursor: Cursor, into: onnx.AttributeProto) -> None:
    token = cursor.current
    if token.kind == "number":
        _set_number(cursor, into, cursor.take())
    elif token.kind == "quoted":
        into.type, into.s = Attribute.STRING, encoded(cursor.take().text)
    elif token.kind == "ref":
        _read_reference(cursor, into)
    elif cursor.at("["):
        cursor.take()
        _read_list(cursor, into)
    elif token.kind == "word" and token.text in _NAMED_LISTS:
        cursor.take()
        cursor.expect("[", "an attribute")
        _NAMED[token.text](cursor, into)
    elif token.kind == "word":
        _read_word(cursor, into)
    else:
        cursor.fail_expected("the value of an attribute", "the attributes")


def _read_word(cursor: Cursor, into: onnx.AttributeProto) -> None:
    token = cursor.current
    if token.text not in _WORDS:
        cursor.fail(
            f"{shown(token.text)} is no value of an attribute", token, known=_WORDS,
            help=["strings stand in double quotes"],
        )  # fmt: skip
    if cursor.accept("undefined"):
        return
    if cursor.accept("type"):
        into.type = Attribute.TYPE_PROTO
        into.tp.SetInParent()
        read_type(cursor, into.tp)
    else:
        into.type = Attribute.TENSOR
        into.t.CopyFrom(read_tensor(cursor))


def _read_reference(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.ref_attr_name = cursor.take().text
    cursor.expect(":", "a reference to an attribute")
    kinds = {name.lower(): number for name, number in Attribute.AttributeType.items()}
    token = cursor.kind("word", "the kind of the attribute", "a reference to an attribute")
    if token.text not in kinds:
        cursor.fail(f"unknown kind of attribute {shown(token.text)}", token, known=kinds)
    into.type = kinds[token.text]


def _is_float(text: str) -> bool:
    return not text.removeprefix("-").isdigit()


def _set_number(cursor: Cursor, into: onnx.AttributeProto, token: Token) -> None:
    if _is_float(token.text):
        into.type, into.f = Attribute.FLOAT, float(token.text)
    else:
        cursor.position -= 1
        into.type, into.i = Attribute.INT, cursor.integer("an attribute", "the attributes")


def _read_list(cursor: Cursor, into: onnx.AttributeProto) -> None:
    """A list of one kind, told by its first element."""
    if cursor.at("]"):
        cursor.fail("an empty list must say its kind: ints[], floats[] or strings[]", cursor.current)
    if cursor.current.kind == "quoted":
        _read_strings(cursor, into)
    elif _is_float(cursor.current.text):
        _read_floats(cursor, into)
    else:
        _read_ints(cursor, into)


def _read_ints(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.type = Attribute.INTS
    into.ints.extend(cursor.items("]", "a list", lambda: cursor.integer("an element", "a list")))


def _read_floats(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.type = Attribute.FLOATS
    into.floats.extend(
        cursor.items("]", "a list", lambda: float(cursor.kind("number", "a number", "a list").text))
    )


def _read_strings(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.type = Attribute.STRINGS
    texts = cursor.items("]", "a list", lambda: cursor.kind("quoted", "a string", "a list").text)
    into.strings.extend(encoded(text) for text in texts)


def _read_tensors(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.type = Attribute.TENSORS
    into.tensors.extend(cursor.items("]", "a list", lambda: read_tensor(cursor)))


def _read_types(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.type = Attribute.TYPE_PROTOS
    cursor.items("]", "a list", lambda: read_type(cursor, into.type_protos.add()))


def _read_graphs(cursor: Cursor, into: onnx.AttributeProto) -> None:
    into.type = Attribute.GRAPHS
    cursor.expect("]", "a list of bodies, which stand below their node")


_NAMED: Mapping[str, Callable[[Cursor, onnx.AttributeProto], None]] = {
    "ints": _read_ints,
    "floats": _read_floats,
    "strings": _read_strings,
    "tensors": _read_tensors,
    "types": _read_types,
    "graphs": _read_graphs,
}


def is_known_op(op: str) -> bool:
    """Whether ONNX defines an op of this name in its default domain, at any version."""
    return bool(onnx.defs.has(op))


def known_ops() -> list[str]:
    """Names of all ops of ONNX's default domain."""
    return sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
