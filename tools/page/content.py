"""What the page of ``prunec inspect --html`` knows: compact JSON, whose rows are lists that name each other by
position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prunec.exporters.amounts import file_size, number
from prunec.ir.location import source_of
from prunec.ir.notation import attribute_text
from prunec.ir.printer import Printer
from prunec.ir.scopes import bodies, graphs_in, walk
from prunec.ir.sizes import open_inputs
from prunec.ir.sparsity import zero_share
from prunec.passes.cost import weight_size, weights_of
from prunec.passes.coupling.axes import node_label
from prunec.passes.coupling.lookup import short_name
from prunec.passes.coupling.view import GroupView
from prunec.passes.printer import GroupAnnotator
from prunec.tools.inspect_tables import percent
from prunec.tools.page.layout import arrange, lane_positions

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.module import Module
    from prunec.passes.coupling.axes import Use
    from prunec.passes.coupling.groups import Group
    from prunec.passes.survey import Survey

SCHEMA = "prunec.page/1"
BOX = (172, 44)
"""Width and height of a node in pixels at zoom 1."""
PITCH = 84
"""From one layer to the next."""
NO_VALUE = -1
"""What an edge carries from a node to the body that it holds."""
LANE = (204, 22)
"""Width of a lane that holds nodes, and of one that only edges run through."""


def page_data(module: Module, survey: Survey) -> dict[str, Any]:
    """All that the page shows.

    Returns:
        ``model``: labels and texts. ``types``: texts of types. ``values``: ``[name, groups, zeros]``.
        ``nodes``: ``[op, name, short name, inputs, outputs, attributes, source, groups, zeros]`` with operands as
        ``[value, type]``, or None where one is absent. ``groups``: ``[id, units, parameters, frozen, help,
        cause, statistic, members]`` with members as ``[tensor, axis, slots, nodes]``. ``layers``: ``[node,
        shape, parameters, multiply-accumulates, prunable, zeros, pattern]``. ``views``: where nodes and edges
        are, without and with shape arithmetic.
    """
    return _Content(module, survey).data()


class _Content:
    def __init__(self, module: Module, survey: Survey) -> None:
        self.module = module
        self.survey = survey
        self.coupling = survey.coupling
        self.facts = survey.coupling.facts
        self.view = GroupView.of(survey.coupling)
        self.printer = Printer(
            model=module.model, facts=self.facts, annotator=GroupAnnotator(self.view), all=True
        )
        self.graph = module.graph
        self.groups = [g for g in self.coupling.groups if g.id not in self.view.alone]
        self.at = {g.id: position for position, g in enumerate(self.groups)}
        self.prunable = {f.group.id: f for f in survey.groups}
        self.inputs = open_inputs(self.graph)
        self.walked = list(walk(self.graph))
        first = len(self.inputs)
        self.index = {node: first + position for position, node in enumerate(self.walked)}
        self.hidden = {self.index[node] for node in self._arithmetic()}
        self.types: dict[str, int] = {}
        self.values: dict[onnx_ir.Value, int] = {}
        self._types: dict[onnx_ir.Value, int] = {}
        self._groups: dict[onnx_ir.Value, list[int]] = {}
        measured = ((x.eligibility, x.sparsity) for x in survey.layers)
        self._zeros = {e.layer.value: s.zeros for e, s in measured if e and s and e.layer is not None}

    def data(self) -> dict[str, Any]:
        nodes = [*map(self._input, self.inputs), *map(self._node, self.walked)]
        nodes += map(self._output, self.graph.outputs)
        groups, layers = list(map(self._group, self.groups)), list(self._layers())
        return {
            "schema": SCHEMA,
            "box": BOX,
            "model": self._model(),
            "types": list(self.types),
            "values": [[v.name or "", self._groups_of(v), _rounded(self._zeros.get(v))] for v in self.values],
            "nodes": nodes,
            "groups": groups,
            "layers": layers,
            "views": [self._layout(all=False), self._layout(all=True)],
        }

    def _model(self) -> list[list[str]]:
        source, cost = self.module.source, self.survey.cost
        alone = len(self.coupling.groups) - len(self.groups)
        return [
            ["model", source.name],
            ["parameters", f"{number(cost.parameters)} ({file_size(cost.bytes)})"],
            ["multiply-accumulates", number(cost.macs)],
            ["nodes", f"{len(self.walked):,}, of them {len(self.hidden):,} constants and shape arithmetic"],
            ["groups", f"{len(self.coupling.prunable):,} can be pruned"],
            ["prunable", f"{percent(self.survey.prunable, cost.parameters)} of the parameters"],
            ["not listed", f"{alone:,} axes of weights, pinned and tied to nothing"],
        ]

    def _arithmetic(self) -> set[onnx_ir.Node]:
        """Constants, shape arithmetic, and what is computed from these alone, such as attention masks."""
        found: set[onnx_ir.Node] = set()
        for node in self.walked:
            computed = [v.producer() for v in node.inputs if v is not None and v.producer() is not None]
            if node.op_type == "Constant" or self.facts.is_folded(node):
                found.add(node)
            elif all(v in self.facts.constant and not v.is_graph_output() for v in node.outputs):
                stored = [v for v in node.inputs if v is not None and v.producer() is None]
                if found.issuperset(computed) and not any(weight_size(v, self.facts) for v in stored):
                    found.add(node)
        return found

    # -- nodes ------------------------------------------------------------

    def _input(self, value: onnx_ir.Value) -> list[Any]:
        return self._end("graph input", value, [[], [self._operand(value)]])

    def _output(self, value: onnx_ir.Value) -> list[Any]:
        return self._end("graph output", value, [[self._operand(value)], []])

    def _end(self, kind: str, value: onnx_ir.Value, sides: list[list[Any]]) -> list[Any]:
        name = value.name or ""
        return [kind, name, name, *sides, [], "", self._groups_of(value), None]

    def _node(self, node: onnx_ir.Node) -> list[Any]:
        operands = [None if v is None else self._operand(v, (node, i)) for i, v in enumerate(node.inputs)]
        domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
        return [
            f"{domain}{node.op_type}",
            node_label(node),
            short_name(node),
            operands,
            [self._operand(v) for v in node.outputs if v.name],
            [[name, _attribute(a)] for name, a in sorted(node.attributes.items())],
            source_of(node) or "",
            self._groups_at(node),
            self._share(node),
        ]

    def _groups_at(self, node: onnx_ir.Node) -> list[int]:
        """The groups of a node's outputs, then of its operands."""
        outputs = [g for v in node.outputs for g in self._groups_of(v)]
        inputs = [
            g for i, v in enumerate(node.inputs) if v is not None for g in self._groups_of(v, (node, i))
        ]
        return list(dict.fromkeys([*outputs, *inputs]))

    def _operand(self, value: onnx_ir.Value, use: Use | None = None) -> list[int]:
        return [self.values.setdefault(value, len(self.values)), self._type(value, use)]

    def _type(self, value: onnx_ir.Value, use: Use | None) -> int:
        if self.view.numbers(value, use) is not self.view.numbers(value):
            return self._add_type(self.printer.type(value, use))
        if value not in self._types:
            self._types[value] = self._add_type(self.printer.type(value))
        return self._types[value]

    def _add_type(self, text: str) -> int:
        return self.types.setdefault(text, len(self.types))

    def _groups_of(self, value: onnx_ir.Value, use: Use | None = None) -> list[int]:
        numbers = self.view.numbers(value, use)
        if numbers is not self.view.numbers(value):
            return self._positions(numbers or ())
        if value not in self._groups:
            self._groups[value] = self._positions(numbers or ())
        return self._groups[value]

    def _positions(self, axes: Iterable[int]) -> list[int]:
        found = (g.id for axis in axes for g in self.view.groups(axis))
        return list(dict.fromkeys(self.at[name] for name in found if name in self.at))

    # -- weights ------------------------------------------------------------

    def _share(self, node: onnx_ir.Node) -> float | None:
        """The share of zeros in all weights of a node; None where it has none."""
        sizes = {v: n for v in weights_of(node, self.facts) if (n := weight_size(v, self.facts))}
        known = [(n, z) for v, n in sizes.items() if (z := self._zeros_of(v)) is not None]
        return _rounded(sum(n * z for n, z in known) / sum(n for n, _ in known)) if known else None

    def _zeros_of(self, value: onnx_ir.Value) -> float | None:
        tensor = value.const_value
        if value not in self._zeros and tensor is not None:
            self._zeros[value] = zero_share(np.asarray(tensor.numpy() != 0))
        return self._zeros.get(value)

    # -- groups and layers ------------------------------------------------------------

    def _group(self, group: Group) -> list[Any]:
        facts = self.prunable.get(group.id)
        frozen = group.frozen
        return [
            group.id,
            group.units or len(group.members[0].units),
            None if facts is None else facts.parameters,
            None if frozen is None else frozen.text,
            None if frozen is None else frozen.help,
            None if frozen is None else frozen.node,
            group.statistic,
            [
                [
                    m.name,
                    m.axis,
                    int((m.units >= 0).sum()),
                    [self.index[n] for n, _ in m.uses() if n in self.index],
                ]
                for m in group.members
            ],
        ]

    def _layers(self) -> Iterator[list[Any]]:
        for layer in self.survey.layers:
            cost, found = layer.cost, layer.sparsity
            yield [
                self.index[layer.node],
                "" if cost.weight is None else "x".join(map(str, cost.weight[1])),
                cost.parameters,
                cost.macs,
                _rounded(layer.prunable),
                self._share(layer.node),
                "" if found is None or found.pattern is None else f"{found.pattern.n}:{found.pattern.m}",
            ]

    # -- layout ------------------------------------------------------------

    def _layout(self, *, all: bool) -> dict[str, Any]:
        """Positions of the nodes of one view, layer by layer, and its edges ``[from, to, value, x or None]``."""
        hidden = set[int]() if all else self.hidden
        edges = [(s, t, v) for s, t, v in self._edges() if s not in hidden and t not in hidden]
        count = len(self.inputs) + len(self.walked) + len(self.graph.outputs)
        shown = [i for i in range(count) if i not in hidden]
        place = {node: position for position, node in enumerate(shown)}
        producers: list[list[int]] = [[] for _ in shown]
        for source, target, _ in edges:
            producers[place[target]].append(place[source])
        anchors = {place[i] for i in range(len(self.inputs))}
        layout = arrange(producers, anchors)
        x = lane_positions(layout, wide=LANE[0], narrow=LANE[1])
        order = sorted(range(len(shown)), key=lambda p: (layout.layers[p], x[layout.lanes[p]]))
        far = {(s, t) for s, t, _ in edges if layout.layers[place[t]] - layout.layers[place[s]] > 1}
        return {
            "nodes": [shown[p] for p in order],
            "x": [x[layout.lanes[p]] for p in order],
            "y": [layout.layers[p] * PITCH for p in order],
            "edges": [
                [s, t, v, x[layout.routes[place[s]]] if (s, t) in far and place[s] in layout.routes else None]
                for s, t, v in edges
            ],
        }

    def _edges(self) -> Iterator[tuple[int, int, int]]:
        """From the maker of each value to its readers; to what begins a body from the node that holds it."""
        makers = {v: position for position, v in enumerate(self.inputs)}
        makers |= {v: self.index[node] for node in self.walked for v in node.outputs}
        inside = [(self.index[node], body) for node in self.walked for body in bodies(node)]
        makers |= {v: holder for holder, body in inside for v in body.inputs}
        ends = len(self.inputs) + len(self.walked)
        readers: list[tuple[int, Sequence[onnx_ir.Value | None]]] = [
            (self.index[n], n.inputs) for n in self.walked
        ]
        readers += [(ends + i, [v]) for i, v in enumerate(self.graph.outputs)]
        for target, values in readers:
            for value in dict.fromkeys(values):
                if value is not None and (source := makers.get(value)) is not None:
                    yield source, target, self.values[value]
        for holder, body in inside:
            for node in body:
                if not any(value in makers for value in node.inputs):
                    yield holder, self.index[node], NO_VALUE


def _attribute(attribute: onnx_ir.Attr) -> str:
    graphs = [f"graph of {len(graph):,} node{'s' * (len(graph) != 1)}" for graph in graphs_in(attribute)]
    return ", ".join(graphs) or attribute_text(attribute)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
