"""The IR as text, one op a line: made to be read and to be compared by ``diff``.

``%`` is a computed value, ``@`` a parameter or another constant. Types are an element type and the sizes of
the axes, symbolic ones by name (``?`` where they have none); small integer constants, such as shapes, show
their contents behind ``=``. No weight values are printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir

from prunec.ir.dump.constants import Constants
from prunec.ir.dump.types import type_text
from prunec.ir.dump.words import word_text
from prunec.ir.facts import Facts
from prunec.ir.location import source_of
from prunec.ir.notation import attribute_text, element_name, literal, sigil_name, value_name
from prunec.ir.scopes import graphs_in
from prunec.ir.sizes import open_inputs, symbol_of


class Annotator:
    """What a printer may add to types; this one adds nothing."""

    def axes(self, value: onnx_ir.Value, use: tuple[onnx_ir.Node, int] | None) -> Sequence[str | None]:
        """For every axis of a value the text to print in place of its size, or None; may be shorter."""
        del value, use
        return ()

    def note(self, value: onnx_ir.Value, use: tuple[onnx_ir.Node, int] | None) -> str:
        """Text to print behind a type."""
        del value, use
        return ""


@dataclass(kw_only=True)
class Printer:
    """Prints one model.

    Attributes:
        model: the model.
        facts: shapes, types and known numbers of its main graph.
        annotator: adds to types.
        all: print shape arithmetic and ``Constant`` nodes too.
        constants: elements up to which the initializers of the main graph are printed with their contents.
    """

    model: onnx_ir.Model
    facts: Facts
    annotator: Annotator
    all: bool = False
    constants: int = 0

    def lines(self) -> Iterator[str]:
        """The model's functions and its main graph."""
        for function in self.model.functions.values():
            yield from self._function(function)
        graph = self.model.graph
        opsets = ", ".join(f"{domain or 'opset'}={v}" for domain, v in sorted(graph.opset_imports.items()))
        signature = f"({self._arguments(self._inputs)}) -> ({self._arguments(graph.outputs)})"
        yield f"graph {sigil_name('@', graph.name)} {{{opsets}}} {signature} {{"
        yield from self._constants()
        yield from self._nodes(graph, "  ")
        yield "}"

    def _constants(self) -> Iterator[str]:
        """The small initializers, in the form of the dump that loads."""
        contents = Constants(inline=self.constants)
        for value in self.model.graph.initializers.values():
            if value.const_value is not None and value.const_value.size <= self.constants:
                kind, _, numbers = contents.text(value.const_value, named=False).partition("=")
                yield f"  {value_name(value)}: {kind} = {numbers}"

    @cached_property
    def _inputs(self) -> list[onnx_ir.Value]:
        return open_inputs(self.model.graph)

    @cached_property
    def symbols(self) -> dict[str, int]:
        """The named dimensions of the inputs, with the sizes that the facts were made at."""
        return {
            symbol: self.facts.shapes[value][axis]
            for value in self._inputs
            if value in self.facts.shapes and value.shape is not None
            for axis in range(len(value.shape))
            if (symbol := symbol_of(value, axis)) is not None and ":" not in symbol
        }

    def _arguments(self, values: Iterable[onnx_ir.Value]) -> str:
        return ", ".join(f"{value_name(v)}: {self.type(v)}" for v in values)

    def _function(self, function: onnx_ir.Function) -> Iterator[str]:
        names = (", ".join(value_name(v) for v in values) for values in (function.inputs, function.outputs))
        yield f"function @{function.domain}::{function.name}({') -> ('.join(names)}) {{"
        yield from self._nodes(function, "  ")
        yield "}"

    # -- nodes ------------------------------------------------------------

    def _nodes(self, graph: Iterable[onnx_ir.Node], indent: str) -> Iterator[str]:
        nodes = list(graph)
        hidden = {n for n in nodes if not self.all and self._is_hidden(n)}
        for node in nodes:
            if node not in hidden:
                yield from self._node(node, indent)
        if arithmetic := sum(self.facts.is_folded(n) for n in hidden):
            yield f"{indent}// {arithmetic:,} nodes of shape arithmetic are not shown"

    def _is_hidden(self, node: onnx_ir.Node) -> bool:
        return node.op_type == "Constant" or self.facts.is_folded(node)

    def _node(self, node: onnx_ir.Node, indent: str) -> Iterator[str]:
        domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
        outputs = ", ".join(value_name(v) for v in node.outputs)
        inputs = ", ".join(value_name(v) for v in node.inputs)
        regions = {
            n: list(graphs_in(a)) for n, a in node.attributes.items() if any(True for _ in graphs_in(a))
        }
        text = f"{indent}{outputs} = {domain}{node.op_type}({inputs})"
        plain = [f"{n}={attribute_text(a)}" for n, a in sorted(node.attributes.items()) if n not in regions]
        text += f" {{{', '.join(plain)}}}" if plain else ""
        text += f" : ({self.operands(node)}) -> {self._results(node)}"
        yield text + self._comment(node)
        for name, graphs in sorted(regions.items()):
            for graph in graphs:
                yield from self._region(name, graph, f"{indent}  ")

    def _region(self, name: str, graph: onnx_ir.Graph, indent: str) -> Iterator[str]:
        yield f"{indent}{name} ({self._arguments(graph.inputs)}) -> ({self._arguments(graph.outputs)}) {{"
        yield from self._nodes(graph, f"{indent}  ")
        yield f"{indent}}}"

    def operands(self, node: onnx_ir.Node) -> str:
        """The types of all that a node reads."""
        return ", ".join("none" if v is None else self.type(v, (node, i)) for i, v in enumerate(node.inputs))

    def _results(self, node: onnx_ir.Node) -> str:
        types = [self.type(v) if v.name else "none" for v in node.outputs]
        return types[0] if len(types) == 1 else f"({', '.join(types)})"

    def _comment(self, node: onnx_ir.Node) -> str:
        """The node's name, where its outputs do not tell it, and its place in the user's program."""
        told = any((v.name or "").startswith(node.name or "") for v in node.outputs)
        parts = [part for part in ("" if told else node.name, source_of(node)) if part]
        return f"  // {' '.join(parts)}" if parts else ""

    # -- types ------------------------------------------------------------

    def type(self, value: onnx_ir.Value, use: tuple[onnx_ir.Node, int] | None = None) -> str:
        """The type of a value such as ``f32[N, g1:64, 7, 7]``, with the contents of a small constant."""
        if value.type is not None and not isinstance(value.type, onnx_ir.TensorType):
            return type_text(onnx_ir.to_proto(value.type))
        sizes = self._sizes(value)
        axes = self.annotator.axes(value, use)
        dims = (
            None
            if sizes is None
            else [a or s for a, s in zip([*axes, *[None] * len(sizes)], sizes, strict=False)]
        )
        text = f"{self._element(value)}[{'...' if dims is None else ', '.join(dims)}]"
        return text + self._contents(value) + self.annotator.note(value, use)

    def _element(self, value: onnx_ir.Value) -> str:
        known = self.facts.types.get(value)
        dtype = onnx_ir.DataType(known) if known is not None else value.dtype
        return "?" if dtype is None or dtype == onnx_ir.DataType.UNDEFINED else element_name(dtype)

    def _sizes(self, value: onnx_ir.Value) -> list[str] | None:
        shape = self.facts.shape(value)
        if shape is None:
            declared = value.shape
            if declared is None and value.const_value is not None:
                declared = onnx_ir.Shape(value.const_value.shape.numpy())
            return (
                None
                if declared is None
                else [str(d) if isinstance(d, int) else _symbol_text(d.value) for d in declared]
            )
        dynamic = self.facts.dynamic.get(value, frozenset())
        return [self._symbol(value, a, n) if a in dynamic else str(n) for a, n in enumerate(shape)]

    def _symbol(self, value: onnx_ir.Value, axis: int, size: int) -> str:
        """The name of a dynamic axis: as declared, else that of the only symbol of its size."""
        if value.shape is not None and axis < len(value.shape):
            declared = value.shape[axis]
            if not isinstance(declared, int) and declared.value:
                return word_text(declared.value)
        likely = [name for name, chosen in self.symbols.items() if chosen == size]
        return word_text(likely[0]) if len(likely) == 1 else "?"

    def _contents(self, value: onnx_ir.Value) -> str:
        array = self.facts.number(value)
        return "" if array is None else literal(array)


def _symbol_text(name: str | None) -> str:
    return word_text(name) if name else "?"
