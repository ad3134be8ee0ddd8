"""Facts about the values inside the bodies of nodes, as part of the walk over a graph.

What a body is fed is known from the node: the shapes of captured values stand, a slice of a ``Scan`` lacks
the axis of iterations, and a state has the shape of its first value, *if* the body hands on the same shape.
That is tried: a state whose shape changes from iteration to iteration, and all that follows from it, counts
as unknown. Contents of states are never known, as every iteration may see others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir

from prunec.ir.control import State, Wire, Wiring, wirings
from prunec.ir.module import opset_of
from prunec.ir.open_bodies import probe_shapes, size_choices
from prunec.ir.scopes import bodies, values_in
from prunec.ir.sizes import SizeChoice, SymbolSizes, input_shapes

if TYPE_CHECKING:
    from prunec.ir.facts import Facts


@dataclass(slots=True)
class BodyWalk:
    """Visits the bodies of nodes.

    Attributes:
        model: the model.
        facts: of the walk; what is found is added.
        visit_node: visits a node of a body.
        record_initializer: notes what is known about an initializer of a body.
        choice: sizes for the inputs of bodies that are fed nobody knows what.
        moving: outputs of nodes, and their axes, whose sizes only the run decides: None for all axes.
    """

    model: onnx_ir.Model
    facts: Facts
    visit_node: Callable[[onnx_ir.Node], None]
    record_initializer: Callable[[onnx_ir.Value], None]
    choice: SizeChoice
    moving: dict[onnx_ir.Value, frozenset[int] | None] = field(default_factory=dict)

    def visit(self, node: onnx_ir.Node) -> None:
        """Find the facts inside the bodies of a node, and those about its outputs that follow from them."""
        wired = wirings(node, opset_of(self.model.graph, ""))
        if wired is None:
            for body in bodies(node):
                self._visit_open(body)
            return
        for wiring in wired:
            self._iterate(node, wiring)
        if any(wiring.loops for wiring in wired):
            self._leave(node, wired[0])
        else:
            self._join(node, wired)

    def mark_moving(self) -> None:
        """Note as dynamic what only the run decides."""
        for value, axes in self.moving.items():
            if (shape := self.facts.shapes.get(value)) is not None:
                found = frozenset(range(len(shape))) if axes is None else axes
                self.facts.dynamic[value] = self.facts.dynamic.get(value, frozenset()) | found

    def _run(self, body: onnx_ir.Graph) -> None:
        for value in body.initializers.values():
            self.record_initializer(value)
        for node in body:
            self.visit_node(node)

    def _visit_open(self, body: onnx_ir.Graph) -> None:
        """Visit a body whose op feeds it as it sees fit, at the first sizes at which all shapes are known."""
        sizes = self.choice.of(body)
        for chosen in size_choices(sizes, self.choice.batch):
            self._enter_open(body, chosen)
            self._run(body)
            missing = [o for node in body for o in node.outputs if o.name and o not in self.facts.shapes]
            if not missing:
                return
            if found := probe_shapes(self.model, body, chosen, missing):
                self.facts.shapes.update(found)
                self._run(body)
                return
            self._forget(body)
        self._enter_open(body, sizes)
        self._run(body)

    def _enter_open(self, body: onnx_ir.Graph, sizes: SymbolSizes) -> None:
        """The inputs are as they are declared."""
        shapes = input_shapes(body, sizes)
        for value in body.inputs:
            if (shape := shapes.get(value.name or "")) is not None:
                self.facts.shapes[value] = shape
            self.facts.types[value] = int(value.dtype or onnx_ir.DataType.FLOAT)

    # -- loops ------------------------------------------------------------------------------------

    def _iterate(self, node: onnx_ir.Node, wiring: Wiring) -> None:
        """Visit a body until all states that are taken to keep their shape do so."""
        changing: set[int] = set()
        while True:
            self._enter(node, wiring, changing)
            self._run(wiring.body)
            states = enumerate(wiring.states)
            more = {i for i, s in states if i not in changing and not self._is_steady(node, s)}
            if not more:
                return
            changing |= more
            self._forget(wiring.body)

    def _enter(self, node: onnx_ir.Node, wiring: Wiring, changing: set[int]) -> None:
        steady = [state.entry for i, state in enumerate(wiring.states) if i not in changing]
        for value in wiring.body.inputs:
            if value.dtype is not None:
                self.facts.types[value] = int(value.dtype)
        if wiring.loops and not wiring.slices:  # iteration number and condition of a Loop
            for value, dtype in zip(wiring.body.inputs, (7, 9), strict=False):
                if not any(state.entry.inner is value for state in wiring.states):
                    declared = value.shape  # ONNX Runtime gives one element of this rank
                    self.facts.shapes[value] = (1,) * len(declared) if declared is not None else ()
                    self.facts.types[value] = dtype
        for wire in (*steady, *wiring.slices):
            outer = wire.outer(node)
            shape = self._without(self.facts.shape(outer), wire)
            if shape is not None:
                self.facts.shapes[wire.inner] = shape
            if outer in self.facts.types:
                self.facts.types[wire.inner] = self.facts.types[outer]

    @staticmethod
    def _without(shape: tuple[int, ...] | None, wire: Wire) -> tuple[int, ...] | None:
        """The shape of one iteration."""
        axis = None if shape is None else wire.axis(len(shape))
        return shape if shape is None or axis is None else shape[:axis] + shape[axis + 1 :]

    def _is_steady(self, node: onnx_ir.Node, state: State) -> bool:
        shape = self.facts.shape(state.entry.outer(node))
        return shape is None or shape == self.facts.shape(state.again)

    def _forget(self, body: onnx_ir.Graph) -> None:
        facts = self.facts
        for value in values_in(body):
            for known in (facts.shapes, facts.numbers, facts.types, facts.dynamic, self.moving):
                known.pop(value, None)
            facts.derived.discard(value)
            facts.constant.discard(value)

    def _leave(self, node: onnx_ir.Node, wiring: Wiring) -> None:
        """Outputs of a loop: states have the shape that they keep, results lie along a new axis."""
        for state in wiring.states:
            entry, outer = self.facts.shape(state.entry.outer(node)), state.leave.outer(node)
            if outer is None:
                continue
            if entry is not None and entry == self.facts.shape(state.again):
                self._note(outer, state.again, entry)
            else:
                self.moving[outer] = None
        length = self._iterations(node, wiring)
        for wire in wiring.results:
            outer, shape = wire.outer(node), self.facts.shape(wire.inner)
            if outer is None:
                continue
            if shape is None or length is None:
                self.moving[outer] = None if shape is None else frozenset({wire.axis(len(shape) + 1) or 0})
                continue
            axis = wire.axis(len(shape) + 1) or 0
            self._note(outer, wire.inner, (*shape[:axis], length, *shape[axis:]))

    def _iterations(self, node: onnx_ir.Node, wiring: Wiring) -> int | None:
        """How often the body of a ``Scan`` runs; a ``Loop`` may stop at any time."""
        for wire in wiring.slices:
            shape = self.facts.shape(wire.outer(node))
            axis = None if shape is None else wire.axis(len(shape))
            if shape and axis is not None:
                return shape[axis]
        return None

    def _note(self, outer: onnx_ir.Value, inner: onnx_ir.Value, shape: tuple[int, ...]) -> None:
        self.facts.shapes.setdefault(outer, shape)
        if inner in self.facts.types:
            self.facts.types.setdefault(outer, self.facts.types[inner])

    # -- branches ---------------------------------------------------------------------------------

    def _join(self, node: onnx_ir.Node, branches: tuple[Wiring, ...]) -> None:
        """Outputs of an ``If``: what the taken branch makes, where it is known which one that is."""
        taken = taken_branch(node, self.facts)
        for position, outer in enumerate(node.outputs):
            inner = [w.results[position].inner for w in branches if taken is None or w.body is taken]
            shapes = [self.facts.shape(value) for value in inner]
            if shapes[0] is not None and all(shape == shapes[0] for shape in shapes):
                self._note(outer, inner[0], shapes[0])
            elif taken is None:
                self.moving[outer] = _differing(shapes)
            if taken is not None:
                self._copy_number(outer, inner[0])

    def _copy_number(self, outer: onnx_ir.Value, inner: onnx_ir.Value) -> None:
        """An ``If`` that is decided hands on the numbers of its branch."""
        from prunec.ir.facts import is_shape_arithmetic

        number = self.facts.numbers.get(inner)
        if number is not None and is_shape_arithmetic(number):
            self.facts.numbers[outer] = number
            self.facts.derived.add(outer)
            self.facts.constant.add(outer)


def _differing(shapes: list[tuple[int, ...] | None]) -> frozenset[int] | None:
    """The axes on which shapes of one rank differ; None where that cannot be told."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or len({len(shape) for shape in known}) > 1:
        return None
    return frozenset(axis for axis, sizes in enumerate(zip(*known, strict=True)) if len(set(sizes)) > 1)


def taken_branch(node: onnx_ir.Node, facts: Facts) -> onnx_ir.Graph | None:
    """The branch that an ``If`` takes at the sizes of the facts, None where that depends on data."""
    condition = node.inputs[0] if node.op_type == "If" and node.inputs else None
    number = None if condition is None else facts.numbers.get(condition)
    if number is None or number.size != 1:
        return None
    return node.attributes["then_branch" if bool(number.reshape(())) else "else_branch"].as_graph()
