"""Which nodes and values of two models stand for each other.

Names come first: values of the same name, nodes that make a value of the same name with the same op, then nodes
of the same name and op. What is left is aligned by structure, from the inputs to the outputs and back again:
two nodes of the same op stand for each other where they read (or are read by) values that do, at the same
positions, and no other node does; siblings that cannot be told apart so are told apart by their attributes and
weights, and in the end by their order. What a folded norm computed is then the output of the layer that it was folded
into, if that took over its name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import onnx_ir

from prunec.ir.notation import attribute_text
from prunec.ir.scopes import bodies

Key = Callable[[onnx_ir.Node], Hashable]
"""What nodes are told apart by; None where a node has nothing to be told apart by yet."""


@dataclass(slots=True)
class Alignment:
    """Nodes and values of model A and what stands for them in model B.

    Attributes:
        nodes: aligned nodes, in the order of A, those of bodies behind those around them.
        values: aligned values: graph inputs, initializers and what nodes make.
        only_a: nodes of A without a counterpart, in order.
        only_b: nodes of B without a counterpart, in order.
    """

    nodes: dict[onnx_ir.Node, onnx_ir.Node] = field(default_factory=dict)
    values: dict[onnx_ir.Value, onnx_ir.Value] = field(default_factory=dict)
    only_a: list[onnx_ir.Node] = field(default_factory=list)
    only_b: list[onnx_ir.Node] = field(default_factory=list)


def align(a: onnx_ir.Graph, b: onnx_ir.Graph) -> Alignment:
    """Align two main graphs, and the bodies (of ``If``, ``Loop``, ``Scan``) of nodes that stand for each other."""
    found = Alignment()
    _align(a, b, found)
    return found


def _align(a: onnx_ir.Graph, b: onnx_ir.Graph, found: Alignment) -> None:
    """Align two graphs inside of what is aligned around them."""
    aligner = _Aligner(a, b, found)
    aligner.named_values()
    aligner.interface()
    aligner.by_key(lambda node: (node.op_type, node.domain, node.outputs[0].name if node.outputs else None))
    aligner.by_key(lambda node: (node.op_type, node.domain, node.name) if node.name else None)
    while aligner.by_reads() or aligner.by_readers() or aligner.siblings():
        continue
    for node, other in aligner.result():
        for body, counterpart in zip(bodies(node), bodies(other), strict=False):
            _align(body, counterpart, found)


class _Aligner:
    def __init__(self, a: onnx_ir.Graph, b: onnx_ir.Graph, found: Alignment) -> None:
        self.a, self.b = a, b
        self.found = found
        self.taken = set(found.nodes.values())
        self.taken_values = set(found.values.values())

    def named_values(self) -> None:
        """Values of the same name."""
        b_values = {value.name: value for value in _values(self.b) if value.name}
        for value in _values(self.a):
            if value.name in b_values:
                self._pair_values(value, b_values[value.name])

    def interface(self) -> None:
        """Graph inputs and outputs of other names, by their place if their number is equal."""
        for ours, theirs in ((self.a.inputs, self.b.inputs), (self.a.outputs, self.b.outputs)):
            left_a = [value for value in ours if value not in self.found.values]
            left_b = [value for value in theirs if value not in self.taken_values]
            if len(left_a) == len(left_b):
                for value, other in zip(left_a, left_b, strict=True):
                    self._pair_values(value, other)
        for value in self.a.outputs:
            node, other_node = value.producer(), _producer(self.found.values.get(value))
            if node is not None and other_node is not None and node.op_type == other_node.op_type:
                self._pair(node, other_node)

    def by_key(self, key: Key) -> bool:
        """Pair nodes that alone have a key in their model; None is no key."""
        return self._by(key, key)

    def by_reads(self) -> bool:
        """Pair nodes by the values that they read."""
        return self._by(self._reads_of_a, _reads_of_b)

    def by_readers(self) -> bool:
        """Pair nodes by the nodes that read them, and where."""
        return self._by(lambda node: _readers(node, self.found.nodes.get), lambda node: _readers(node, _same))

    def siblings(self) -> bool:
        """Pair nodes that read the same: by what else is known of them, or else the first ones in order."""
        if self._by(
            lambda node: _with_contents(node, self._reads_of_a(node)),
            lambda node: _with_contents(node, _reads_of_b(node)),
        ):
            return True
        a_nodes, b_nodes = self._keyed(self.a, self._reads_of_a), self._keyed(self.b, _reads_of_b)
        alike = next((k for k in a_nodes if len(a_nodes[k]) == len(b_nodes.get(k, ()))), None)
        for node, other in zip(a_nodes.get(alike, ()), b_nodes.get(alike, ()), strict=True):
            self._pair(node, other)
        return alike is not None

    def result(self) -> list[tuple[onnx_ir.Node, onnx_ir.Node]]:
        """The aligned nodes of these two graphs in the order of A, which is that of the alignment from now on."""
        nodes = self.found.nodes
        pairs = [(node, nodes.pop(node)) for node in self.a if node in nodes]
        nodes.update(pairs)
        self.found.only_a += [node for node in self.a if node not in nodes]
        self.found.only_b += [node for node in self.b if node not in self.taken]
        return pairs

    def _reads_of_a(self, node: onnx_ir.Node) -> Hashable:
        return _reads(node, self.found.values.get)

    def _by(self, a_key: Key, b_key: Key) -> bool:
        """Pair nodes that alone have their key."""
        a_nodes, b_nodes = self._keyed(self.a, a_key), self._keyed(self.b, b_key)
        alone = [k for k, nodes in a_nodes.items() if len(nodes) == 1 and len(b_nodes.get(k, ())) == 1]
        for k in alone:
            self._pair(a_nodes[k][0], b_nodes[k][0])
        return bool(alone)

    def _keyed(self, graph: Iterable[onnx_ir.Node], key: Key) -> dict[Hashable, list[onnx_ir.Node]]:
        """Nodes without a counterpart, by key."""
        found: defaultdict[Hashable, list[onnx_ir.Node]] = defaultdict(list)
        for node in graph:
            if node not in self.found.nodes and node not in self.taken and (k := key(node)) is not None:
                found[k].append(node)
        return found

    def _pair(self, node: onnx_ir.Node, other: onnx_ir.Node) -> None:
        self.found.nodes[node] = other
        self.taken.add(other)
        for output, made in zip(node.outputs, other.outputs, strict=False):
            self._pair_values(output, made)
        for value, counterpart in zip(node.inputs, other.inputs, strict=False):
            if (
                value is not None
                and counterpart is not None
                and _is_constant(value)
                and _is_constant(counterpart)
            ):
                self._pair_values(value, counterpart)

    def _pair_values(self, value: onnx_ir.Value, other: onnx_ir.Value) -> None:
        if value not in self.found.values and other not in self.taken_values:
            self.found.values[value] = other
            self.taken_values.add(other)


def _values(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Value]:
    yield from dict.fromkeys((*graph.inputs, *graph.initializers.values()))
    for node in graph:
        yield from node.outputs


def _producer(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    return None if value is None else value.producer()


def _same(node: onnx_ir.Node) -> onnx_ir.Node:
    return node


def _reads_of_b(node: onnx_ir.Node) -> Hashable:
    return _reads(node, lambda value: value)


def _with_contents(node: onnx_ir.Node, reads: Hashable) -> Hashable:
    """A key with the node's attributes and a checksum of each of its constants."""
    if reads is None:
        return None
    attributes = tuple((name, attribute_text(a)) for name, a in sorted(node.attributes.items()))
    tensors = [v.const_value for v in node.inputs if v is not None and v.const_value is not None]
    return (reads, attributes, tuple((tuple(t.shape.numpy()), crc32(t.tobytes())) for t in tensors))


def _is_constant(value: onnx_ir.Value) -> bool:
    return value.const_value is not None and value.producer() is None


def _reads(node: onnx_ir.Node, counterpart: Callable[[onnx_ir.Value], onnx_ir.Value | None]) -> Hashable:
    """The op and the computed values that a node reads, each by its counterpart; None where one has none."""
    reads: list[tuple[int, onnx_ir.Value]] = []
    for position, value in enumerate(node.inputs):
        if value is None or _is_constant(value):
            continue
        other = counterpart(value)
        if other is None:
            return None
        reads.append((position, other))
    return (node.op_type, node.domain, len(node.outputs), tuple(reads)) if reads else None


def _readers(node: onnx_ir.Node, counterpart: Callable[[onnx_ir.Node], onnx_ir.Node | None]) -> Hashable:
    """The op and all uses of what a node makes, each by its counterpart; None where one has none."""
    uses = list(_uses(node))
    others = [(index, position, counterpart(reader)) for index, position, reader in uses]
    if not others or any(reader is None for _, _, reader in others):
        return None
    return (node.op_type, node.domain, frozenset(others))


def _uses(node: onnx_ir.Node) -> Iterator[tuple[int, int, onnx_ir.Node]]:
    for index, output in enumerate(node.outputs):
        for use in output.uses():
            yield index, use.idx, use.node
