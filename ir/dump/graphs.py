"""Reads the graphs and functions of a dump; every name must be defined, every op of ONNX's own known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import onnx

from prunec.ir.dump.attributes import Attribute, is_known_op, known_ops, read_attributes
from prunec.ir.dump.constants import read_tensor
from prunec.ir.dump.cursor import NESTING_LIMIT, Cursor
from prunec.ir.dump.types import read_type, read_value
from prunec.ir.source import Token, shown

_NODE = "a node"
_GRAPH = ("doc", "metadata", "quantization")
_FUNCTION = ("overload", "attributes", "doc", "metadata")
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(slots=True)
class Scope:
    """The names of one graph.

    Attributes:
        defined: those that it defines.
        wanted: where names are read that it may define.
    """

    defined: set[str] = field(default_factory=set)
    wanted: list[Token] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class GraphReader:
    """Reads graphs.

    Attributes:
        cursor: where to read.
        scopes: the names of the graphs that are open, the innermost last.
    """

    cursor: Cursor
    scopes: list[Scope] = field(default_factory=list)

    def function(self, into: onnx.FunctionProto) -> None:
        """Read a function, whose keyword has been read."""
        cursor = self.cursor
        domain = cursor.kind("name", "@DOMAIN::NAME", "a function").text
        if "::" in domain and not cursor.at("::"):
            into.domain, _, into.name = domain.partition("::")
        else:
            into.domain = domain
            cursor.expect("::", "a function")
            into.name = cursor.key("the name of the function", "a function")
        read_opsets(cursor, into.opset_import)
        about = cursor.properties(_FUNCTION, "a function")
        _set_texts(into, about)
        into.overload = about.get("overload", "")
        into.attribute.extend(about.get("attributes", []))
        if cursor.accept("with"):
            into.attribute_proto.extend(read_attributes(cursor))
        inputs, outputs = self._signature()
        into.input.extend(info.name for info in inputs)
        into.output.extend(info.name for info in outputs)
        into.value_info.extend(info for info in inputs if _says_something(info))
        self._body(into, outputs=())

    def graph(self, into: onnx.GraphProto, about: dict[str, Any]) -> None:
        """Read the signature and the body of a graph, whose name and properties have been read."""
        if len(self.scopes) >= NESTING_LIMIT:
            self.cursor.fail(f"bodies are nested more than {NESTING_LIMIT} levels deep", self.cursor.current)
        _set_texts(into, about)
        for name, scales in about.get("quantization", {}).items():
            annotation = into.quantization_annotation.add(tensor_name=name)
            for key, value in scales.items():
                annotation.quant_parameter_tensor_names.add(key=key, value=value)
        inputs, outputs = self._signature()
        into.input.extend(inputs)
        into.output.extend(outputs)
        self._body(into, outputs={info.name for info in outputs})

    def _signature(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
        """Read inputs and outputs; opens the scope."""
        cursor, scope = self.cursor, Scope()
        self.scopes.append(scope)
        cursor.expect("(", "a signature")
        inputs = cursor.items(")", "a signature", lambda: self._argument(None))
        scope.defined.update(info.name for info in inputs)
        cursor.expect("->", "a signature")
        cursor.expect("(", "a signature")
        return inputs, cursor.items(")", "a signature", lambda: self._argument(scope))

    def _argument(self, wanted: Scope | None) -> onnx.ValueInfoProto:
        token = self.cursor.kind("name", "a name (%x or @x)", "a signature")
        if wanted is not None:
            wanted.wanted.append(token)
        typed = self.cursor.accept(":")
        return read_value(self.cursor, token.text) if typed else onnx.ValueInfoProto(name=token.text)

    def _body(self, into: Any, *, outputs: Collection[str]) -> None:
        """Read a body, and close the scope."""
        cursor, opener = self.cursor, self.cursor.expect("{", "a body")
        while not cursor.accept("}"):
            if cursor.current.kind == "end":
                cursor.fail("this '{' is never closed", opener)
            if cursor.current.kind == "name" and cursor.following.text == ":":
                self._constant(into)
            else:
                self._node(into, outputs)
        self._close_scope()

    def _close_scope(self) -> None:
        """Names that are not defined here must be those of a graph around this one."""
        scope = self.scopes.pop()
        missing = [token for token in scope.wanted if token.text not in scope.defined]
        if missing and self.scopes:
            self.scopes[-1].wanted.extend(missing)
        elif missing:
            token = missing[0]
            self.cursor.fail(f"{shown(token.text)} is defined nowhere", token, known=scope.defined)

    def _constant(self, into: Any) -> None:
        cursor, token = self.cursor, self.cursor.take()
        if isinstance(into, onnx.FunctionProto):
            cursor.fail("a function holds no constants; make one with the op Constant", token)
        cursor.expect(":", "a constant")
        into.initializer.append(read_tensor(cursor, token.text))
        self.scopes[-1].defined.add(token.text)
        if cursor.accept("declared"):
            into.value_info.append(read_value(cursor, token.text))

    # -- nodes ------------------------------------------------------------

    def _node(self, into: Any, outputs: Collection[str]) -> None:
        cursor, node = self.cursor, into.node.add()
        made = [] if cursor.at("=") else [self._name("an output (%x)")]
        while made and cursor.accept(","):
            made.append(self._name("an output (%x)"))
        cursor.expect("=", _NODE)
        node.output.extend(token.text for token in made)
        self.scopes[-1].defined.update(filter(None, node.output))
        self._op(node)
        cursor.expect("(", _NODE)
        read = cursor.items(")", _NODE, lambda: self._name("an input (%x, @x or _)"))
        node.input.extend(token.text for token in read)
        self.scopes[-1].wanted.extend(token for token in read if token.text)
        node.attribute.extend(read_attributes(cursor))
        about = cursor.properties(("name", "overload", "doc", "metadata"), _NODE)
        _set_texts(node, about)
        node.name, node.overload = about.get("name", ""), about.get("overload", "")
        if cursor.accept(":"):
            into.value_info.extend(info for info in self._types(node) if info.name not in outputs)
        while cursor.current.kind in ("word", "quoted") and cursor.current.text != "_":
            self._region(node)

    def _name(self, what: str) -> Token:
        """A name, or ``_`` with an empty text for an absent one."""
        token = self.cursor.kind(("name", "word"), what, _NODE)
        if token.kind == "name":
            return token
        if token.text != "_":
            self.cursor.fail(f"expected {what} in {_NODE}, found {shown(token.text)}", token)
        return Token(kind="name", text="", start=token.start, end=token.end)

    def _op(self, node: onnx.NodeProto) -> None:
        cursor = self.cursor
        token = cursor.current
        explicit = cursor.accept("::")
        name = cursor.kind(("word", "quoted"), "an op", _NODE)
        if not explicit and cursor.accept("::"):
            node.domain = name.text
            name, explicit = cursor.kind(("word", "quoted"), "an op", _NODE), True
        node.op_type = name.text
        if not explicit and not is_known_op(name.text):
            help = [f"an op of another domain is written DOMAIN::{name.text}"]
            cursor.fail(f"ONNX has no op {shown(name.text)}", token, known=known_ops(), help=help)

    def _types(self, node: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
        """Read the types of a node: those of its operands, which are told elsewhere, then those of its results."""
        cursor = self.cursor
        self._skip_operands()
        cursor.expect("->", "the types of a node")
        names, start = iter(node.output), cursor.current
        if cursor.accept("("):
            found = cursor.items(")", "the types of a node", lambda: self._result(next(names, None)))
        else:
            found = [self._result(next(names, None))]
        if len(found) != len(node.output):
            cursor.fail(f"{len(found)} types for {len(node.output)} outputs", start)
        return [info for info in found if info is not None and _says_something(info)]

    def _result(self, name: str | None) -> onnx.ValueInfoProto | None:
        """One declared type; ``none`` and what is inferred (``~``) are none."""
        cursor = self.cursor
        if cursor.accept("none"):
            return None
        if not cursor.accept("~"):
            return read_value(cursor, name or "")
        read_type(cursor, onnx.TypeProto())
        if cursor.accept("="):
            if cursor.at("{"):
                self._skip_operands()
            else:
                cursor.take()
        return None

    def _skip_operands(self) -> None:
        """Skip all between brackets, which are not nested wrongly."""
        cursor, depth = self.cursor, 0
        opener = cursor.current
        if opener.text not in ("(", "{"):
            cursor.fail_expected("'('", "the types of a node")
        while True:
            token = cursor.take()
            if token.kind == "end":
                cursor.fail(f"this '{opener.text}' is never closed", opener)
            if token.kind == "mark" and token.text in (*_OPEN, *_CLOSE):
                depth += 1 if token.text in _OPEN else -1
                if depth == 0:
                    return

    def _region(self, node: onnx.NodeProto) -> None:
        """Read a body of a node: ``then_branch @name (...) -> (...) {...}``, numbered in a list of bodies."""
        cursor, token = self.cursor, self.cursor.take()
        if token.kind == "word" and cursor.at("="):
            cursor.fail(f"a node's outputs begin with '%', as in %{token.text} = ...", token)
        numbered = cursor.accept("[")
        attribute = next((a for a in node.attribute if a.name == token.text), None)
        if attribute is not None and not (numbered and attribute.type == Attribute.GRAPHS):
            cursor.fail(f"attribute {shown(token.text)} is given twice", token)
        if attribute is None:
            kind = Attribute.GRAPHS if numbered else Attribute.GRAPH
            attribute = node.attribute.add(name=token.text, type=kind)
        if numbered:
            number = cursor.integer("the number of a body", "a body")
            if number != len(attribute.graphs):
                cursor.fail(
                    f"this is body {len(attribute.graphs)} of {shown(token.text)}, not {number}", token
                )
            cursor.expect("]", "a body")
        graph = attribute.graphs.add() if numbered else attribute.g
        graph.name = cursor.take().text if cursor.current.kind == "name" else token.text
        about = cursor.properties((*_GRAPH, "attribute_doc"), "a body")
        attribute.doc_string = about.get("attribute_doc", "")
        self.graph(graph, about)


def read_opsets(cursor: Cursor, into: Any) -> None:
    """Read ``{opset=17, com.acme=3}``."""

    def read() -> None:
        token = cursor.kind(("word", "quoted"), "'opset' or a domain", "the opset imports")
        cursor.expect("=", "the opset imports")
        domain = "" if token.kind == "word" and token.text == "opset" else token.text
        into.add(domain=domain, version=cursor.integer("the version of an opset", "the opset imports"))

    cursor.expect("{", "the opset imports")
    cursor.items("}", "the opset imports", read)


def read_main_graph(cursor: Cursor, into: onnx.ModelProto) -> None:
    """Read the main graph, whose keyword has been read."""
    into.graph.name = cursor.kind("name", "the name of the graph (@net)", "the graph").text
    read_opsets(cursor, into.opset_import)
    GraphReader(cursor=cursor).graph(into.graph, cursor.properties(_GRAPH, "the graph"))


def _set_texts(into: Any, about: dict[str, Any]) -> None:
    into.doc_string = about.get("doc", "")
    onnx.helper.set_metadata_props(into, about.get("metadata", {}))


def _says_something(info: onnx.ValueInfoProto) -> bool:
    return bool(info.name) and bool(info.type.WhichOneof("value") or info.doc_string or info.metadata_props)
