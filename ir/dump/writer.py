"""Writes a whole model: the lines of the printer, with everything that they leave out.

What is written is the model's serialised form, so that nothing of it is lost; types that the model does not declare
are inferred and stand behind ``~``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir
from onnx_ir.serde import deserialize_tensor

from prunec.ir.dump.attributes import Attribute, attribute_line, is_known_op
from prunec.ir.dump.constants import Constants
from prunec.ir.dump.types import entries, value_text
from prunec.ir.dump.words import properties_text, word_text
from prunec.ir.location import source_of
from prunec.ir.notation import sigil_name, value_name
from prunec.ir.printer import Printer
from prunec.ir.proto import weights_of, without_weights
from prunec.ir.wire import SMALLEST_WEIGHT


@dataclass(kw_only=True)
class Writer:
    """Writes one model.

    Attributes:
        printer: writes inferred types and places; its model is the one that is written.
        constants: writes tensors.
    """

    printer: Printer
    constants: Constants

    def lines(self, *, data: str) -> list[str]:
        """The dump, line by line.

        Args:
            data: name of the data file, should a constant go there.
        """
        model = self.printer.model
        weights = weights_of(model, smallest=SMALLEST_WEIGHT)
        proto = without_weights(model, dict.fromkeys(weights, ("-", 0)))
        body: list[str] = []
        for part, function in zip(proto.functions, model.functions.values(), strict=True):
            body.extend(self._function(part, function))
        body.extend(self._main(proto, model))
        return [self._head(proto, data if self.constants.layout.placed else ""), *body]

    def _head(self, proto: onnx.ModelProto, data: str) -> str:
        return "model " + properties_text(
            {
                "ir_version": proto.ir_version,
                "producer": proto.producer_name,
                "producer_version": proto.producer_version,
                "domain": proto.domain,
                "version": proto.model_version,
                "doc": proto.doc_string,
                "metadata": entries(proto.metadata_props),
                "data": data,
            }
        )

    def _main(self, proto: onnx.ModelProto, model: onnx_ir.Model) -> Iterator[str]:
        graph = proto.graph
        head = f"graph {sigil_name('@', graph.name)} {_opsets(proto.opset_import)}{_about(graph)} "
        yield f"{head}{self._signature(graph, model.graph)} {{"
        yield from self._body(graph, model.graph, "  ")
        yield "}"

    def _function(self, proto: onnx.FunctionProto, function: onnx_ir.Function) -> Iterator[str]:
        about = {
            "overload": proto.overload,
            "attributes": list(proto.attribute),
            "doc": proto.doc_string,
            "metadata": entries(proto.metadata_props),
        }
        name = f"@{word_text(proto.domain)}::{word_text(proto.name)}"
        defaults = ", ".join(attribute_line(a, self.constants) for a in proto.attribute_proto)
        declared = {info.name: info for info in proto.value_info}
        signature = ") -> (".join(
            ", ".join(self._argument(v, declared.get(v.name or "")) for v in values)
            for values in (function.inputs, function.outputs)
        )
        head = f"function {name} {_opsets(proto.opset_import)}{properties_text(about)}"
        yield f"{head}{f' with {{{defaults}}}' if defaults else ''} ({signature}) {{"
        yield from self._nodes(proto, function, "  ")
        yield "}"

    def _signature(self, proto: onnx.GraphProto, graph: onnx_ir.Graph) -> str:
        both = ((proto.input, graph.inputs), (proto.output, graph.outputs))
        sides = [
            ", ".join(self._argument(v, i) for i, v in zip(infos, values, strict=True))
            for infos, values in both
        ]
        return f"({sides[0]}) -> ({sides[1]})"

    def _argument(self, value: onnx_ir.Value, info: onnx.ValueInfoProto | None) -> str:
        return value_name(value) + (f": {self._declared(value, info)}" if info is not None else "")

    def _declared(self, value: onnx_ir.Value, info: onnx.ValueInfoProto) -> str:
        return value_text(info, self.printer.annotator.axes(value, None))

    # -- bodies -----------------------------------------------------------

    def _body(self, proto: onnx.GraphProto, graph: onnx_ir.Graph, indent: str) -> Iterator[str]:
        infos = {info.name: info for info in proto.value_info}
        for tensor in proto.initializer:
            value = graph.initializers[tensor.name]
            known = value.const_value
            text = self.constants.text(known or deserialize_tensor(tensor), named=False)
            declared = f" declared {value_text(infos[tensor.name])}" if tensor.name in infos else ""
            yield f"{indent}{sigil_name('@', tensor.name)}: {text.replace(']=', '] = ', 1)}{declared}"
        yield from self._nodes(proto, graph, indent)

    def _nodes(self, proto: Any, graph: Iterable[onnx_ir.Node], indent: str) -> Iterator[str]:
        infos = {info.name: info for info in proto.value_info}
        for part, node in zip(proto.node, graph, strict=True):
            yield self._node(part, node, infos, indent)
            for attribute in sorted(part.attribute, key=lambda a: a.name):
                held = node.attributes[attribute.name]
                if attribute.type == Attribute.GRAPH and not attribute.ref_attr_name:
                    yield from self._region(attribute, "", attribute.g, held.as_graph(), indent + "  ")
                for number, (one, other) in enumerate(
                    zip(attribute.graphs, held.as_graphs() if attribute.graphs else (), strict=True)
                ):
                    yield from self._region(attribute, f"[{number}]", one, other, indent + "  ")

    def _region(
        self,
        attribute: onnx.AttributeProto,
        number: str,
        proto: onnx.GraphProto,
        graph: onnx_ir.Graph,
        indent: str,
    ) -> Iterator[str]:
        about = _about(proto, attribute_doc=attribute.doc_string)
        head = f"{indent}{word_text(attribute.name)}{number} {sigil_name('@', proto.name)}{about} "
        yield f"{head}{self._signature(proto, graph)} {{"
        yield from self._body(proto, graph, indent + "  ")
        yield f"{indent}}}"

    def _node(
        self, proto: onnx.NodeProto, node: onnx_ir.Node, infos: dict[str, onnx.ValueInfoProto], indent: str
    ) -> str:
        names = [", ".join(value_name(v) for v in values) for values in (node.outputs, node.inputs)]
        plain = [
            attribute_line(a, self.constants)
            for a in sorted(proto.attribute, key=lambda a: a.name)
            if a.ref_attr_name or (a.type != Attribute.GRAPH and not a.graphs)
        ]
        about = {
            "name": proto.name,
            "overload": proto.overload,
            "doc": proto.doc_string,
            "metadata": entries(proto.metadata_props),
        }
        parts = [f"{indent}{names[0]} = {_op(proto)}({names[1]})"]
        parts += [f"{{{', '.join(plain)}}}"] if plain else []
        parts += [properties_text(about)] if any(about.values()) else []
        parts.append(f": ({self.printer.operands(node)}) -> {self._results(node.outputs, infos)}")
        place = source_of(node)
        return " ".join([*parts, *([f" // {place}"] if place else [])])

    def _results(self, outputs: Sequence[onnx_ir.Value], infos: dict[str, onnx.ValueInfoProto]) -> str:
        types = [self._result(value, infos.get(value.name or "")) for value in outputs]
        return types[0] if len(types) == 1 else f"({', '.join(types)})"

    def _result(self, value: onnx_ir.Value, info: onnx.ValueInfoProto | None) -> str:
        if not value.name:
            return "none"
        return f"~{self.printer.type(value)}" if info is None else self._declared(value, info)


def _op(node: onnx.NodeProto) -> str:
    """The op; one that ONNX does not define says its domain, be it the default one."""
    if node.domain:
        return f"{word_text(node.domain)}::{word_text(node.op_type)}"
    return node.op_type if is_known_op(node.op_type) else f"::{word_text(node.op_type)}"


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> str:
    versions = sorted((entry.domain, entry.version) for entry in imports)
    told = [f"{word_text(domain) if domain else 'opset'}={version}" for domain, version in versions]
    return f"{{{', '.join(told)}}}"


def _about(graph: onnx.GraphProto, **more: str) -> str:
    quantization = {
        a.tensor_name: entries(a.quant_parameter_tensor_names) for a in graph.quantization_annotation
    }
    about = {"doc": graph.doc_string, "metadata": entries(graph.metadata_props), "quantization": quantization}
    text = properties_text({**about, **more})
    return f" {text}" if text else ""
