"""Reads a dump into a ``ModelProto``.

::

    dump      ::= "model" properties { function } graph
    function  ::= "function" "@" DOMAIN "::" NAME opsets properties [ "with" attributes ] signature body
    graph     ::= "graph" NAME opsets properties signature body
    signature ::= "(" [ NAME ":" type { "," ... } ] ")" "->" "(" ... ")"
    body      ::= "{" { constant | node } "}"
    constant  ::= NAME ":" type "=" contents properties [ "declared" type ]
    node      ::= names "=" [ DOMAIN "::" ] OP "(" names ")" [ attributes ] properties [ types ] { region }
    region    ::= ATTRIBUTE [ "[" NUMBER "]" ] NAME properties signature body

The head is what tells such a dump from one that is only meant to be read, which has no constants.
"""

from __future__ import annotations

from typing import Any

import onnx

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dump.cursor import Cursor
from prunec.ir.dump.graphs import GraphReader, read_main_graph
from prunec.ir.dump.words import tokenize
from prunec.ir.source import SourceText

_HEAD = ("ir_version", "producer", "producer_version", "domain", "version", "doc", "metadata", "data")
_TEXTS = {
    "producer": "producer_name",
    "producer_version": "producer_version",
    "domain": "domain",
    "doc": "doc_string",
}


def parse_dump(content: bytes, file: str) -> onnx.ModelProto:
    """The model of a dump, its large constants as external data that nobody has looked at yet.

    Args:
        content: the bytes of the file.
        file: what messages call it.

    Raises:
        UserError: the text is no dump, is one without constants, or has a mistake, of which it says the place.
    """
    try:
        source = SourceText.of(content.decode("utf-8"), file)
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start} is not UTF-8 text", place=Place(file=file)) from error
    cursor = Cursor(source=source, tokens=list(tokenize(source)))
    try:
        return _read_model(cursor)
    except (UnicodeEncodeError, TypeError, AttributeError) as error:
        raise _wrong_property(cursor, error) from error


def _wrong_property(cursor: Cursor, error: Exception) -> UserError:
    """Protobuf refused what a property says: text that is no Unicode, or a number where it wants text."""
    problem = (
        "is not Unicode text" if isinstance(error, UnicodeEncodeError) else "has a value of the wrong kind"
    )
    before = cursor.tokens[max(0, cursor.position - 1)]
    return cursor.error(f"a string or a property before this place {problem}", before)


def _read_model(cursor: Cursor) -> onnx.ModelProto:
    _expect_head(cursor)
    proto = onnx.ModelProto()
    _read_head(cursor, cursor.properties(_HEAD, "the head"), proto)
    while cursor.accept("function"):
        GraphReader(cursor=cursor).function(proto.functions.add())
    if not cursor.accept("graph"):
        cursor.fail_expected("'function' or 'graph'", "the dump", ["function", "graph"])
    read_main_graph(cursor, proto)
    if cursor.current.kind != "end":
        cursor.fail_expected("the end of the text", "the dump")
    return proto


def _expect_head(cursor: Cursor) -> None:
    if cursor.at("graph") or cursor.at("function"):
        cursor.fail(
            "this dump is made to be read: it has no constants", cursor.current,
            help=["write one that loads with: prunec inspect MODEL --dump-to net.prunec"],
        )  # fmt: skip
    if not cursor.accept("model"):
        cursor.fail_expected("'model'", "the head of a dump", ["model", "graph", "function"])


def _read_head(cursor: Cursor, about: dict[str, Any], proto: onnx.ModelProto) -> None:
    proto.ir_version = about.get("ir_version", 0)
    proto.model_version = about.get("version", 0)
    for key, attribute in _TEXTS.items():
        setattr(proto, attribute, about.get(key, ""))
    onnx.helper.set_metadata_props(proto, about.get("metadata", {}))
    cursor.data = str(about["data"]) if "data" in about else None
