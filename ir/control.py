"""How control enters and leaves the bodies of nodes: which value outside becomes which value inside.

=========  =========================================================================================
``If``     outputs of the taken branch are those of the node
``Loop``   initial state -> body -> state of the next iteration or of the node; other outputs of the
           body are stacked, one iteration behind the other, on a new first axis
``Scan``   the same, and inputs are taken apart along an axis, one slot an iteration
=========  =========================================================================================

The bodies of other ops (``BeamSearch``) are run by the op as it sees fit; nothing is known about what
they are fed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir

from prunec.ir.scopes import bodies, fresh_name, levels, walk

_OLDEST_SCAN = 9
"""Before it, ``Scan`` had a batch axis and lengths of sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A value of a node that is the same as one of a body, but for an axis of iterations.

    Attributes:
        side: ``"in"`` or ``"out"`` of the node.
        position: among the node's inputs or outputs.
        inner: the body's input or output.
        stacked: axis of the node's value along which iterations lie, which the inner value lacks; negative ones
            count from the end. None where both have the same axes.
    """

    side: str
    position: int
    inner: onnx_ir.Value
    stacked: int | None = None

    def outer(self, node: onnx_ir.Node) -> onnx_ir.Value | None:
        """The node's value, None where it is absent."""
        values = node.inputs if self.side == "in" else node.outputs
        value = values[self.position] if self.position < len(values) else None
        return value if value is not None and value.name else None

    def axis(self, outer_rank: int) -> int | None:
        """The axis of iterations, counted from the front; None where there is none."""
        return None if self.stacked is None else self.stacked % max(1, outer_rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A value that a loop hands on from iteration to iteration."""

    entry: Wire
    again: onnx_ir.Value
    leave: Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The wires of one body.

    Attributes:
        body: the graph.
        states: what is handed on from iteration to iteration.
        slices: inputs of the node that are taken apart, one slot an iteration.
        results: outputs of the body that the node hands on or stacks.
        loops: the body may run any number of times, none included.
    """

    body: onnx_ir.Graph
    states: tuple[State, ...] = ()
    slices: tuple[Wire, ...] = ()
    results: tuple[Wire, ...] = ()
    loops: bool = False

    @property
    def wires(self) -> Iterator[Wire]:
        """All of them, what a state hands on included."""
        for state in self.states:
            yield state.entry
            yield Wire(side="in", position=state.entry.position, inner=state.again)
            yield state.leave
        yield from self.slices
        yield from self.results


def wirings(node: onnx_ir.Node, opset: int) -> tuple[Wiring, ...] | None:
    """How the bodies of a node are wired.

    Args:
        node: a node with bodies.
        opset: version of the default domain.

    Returns:
        The wiring of every body; None for an op whose bodies are its own business, or a node whose numbers of
        inputs and outputs do not fit its body.
    """
    if node.domain not in ("", "ai.onnx"):
        return None
    graphs = bodies(node)
    if node.op_type == "If":
        return tuple(_branch(graph) for graph in graphs) if _branches_fit(node, graphs) else None
    if node.op_type == "Loop" and len(graphs) == 1:
        return _loop(node, graphs[0])
    if node.op_type == "Scan" and len(graphs) == 1 and opset >= _OLDEST_SCAN:
        return _scan(node, graphs[0])
    return None


def open_graphs(graph: onnx_ir.Graph, opset: int) -> list[onnx_ir.Graph]:
    """The graphs whose inputs are fed nobody knows what: a main graph, and bodies that are their op's own."""
    foreign = (node for node in walk(graph) if bodies(node) and wirings(node, opset) is None)
    return [graph, *(body for node in foreign for body in bodies(node))]


def make_names_unique(graph: onnx_ir.Graph, opset: int) -> int:
    """Give every value of a main graph and the bodies in it a name of its own.

    The first value that has a name keeps it, those of outer graphs first; later ones become ``NAME_1``,
    ``NAME_2`` and so on. What a caller sees keeps its name in any case, and so do inputs and outputs of bodies
    whose op may look for names.

    Returns:
        How many values have a new name.
    """
    seen = {v for part in open_graphs(graph, opset) for v in (*part.inputs, *part.outputs)}
    taken = {value.name for value in seen if value.name}
    renamed = 0
    for value in (value for level in levels(graph) for value in level):
        if value in seen or not value.name:
            continue
        seen.add(value)
        name = fresh_name(value.name, taken)
        if name != value.name:
            value.name, renamed = name, renamed + 1
    return renamed


def _branches_fit(node: onnx_ir.Node, graphs: tuple[onnx_ir.Graph, ...]) -> bool:
    return len(graphs) == 2 and all(len(graph.outputs) == len(node.outputs) for graph in graphs)


def _branch(graph: onnx_ir.Graph) -> Wiring:
    results = (Wire(side="out", position=i, inner=value) for i, value in enumerate(graph.outputs))
    return Wiring(body=graph, results=tuple(results))


def _loop(node: onnx_ir.Node, body: onnx_ir.Graph) -> tuple[Wiring] | None:
    """Inputs: trip count, condition, states; of the body: iteration, condition, states."""
    count = len(body.inputs) - 2
    if count < 0 or len(node.inputs) != count + 2 or len(body.outputs) != len(node.outputs) + 1:
        return None
    stacked = (
        Wire(side="out", position=i, inner=body.outputs[i + 1], stacked=0)
        for i in range(count, len(node.outputs))
    )
    states = tuple(
        State(
            entry=Wire(side="in", position=i + 2, inner=body.inputs[i + 2]),
            again=body.outputs[i + 1],
            leave=Wire(side="out", position=i, inner=body.outputs[i + 1]),
        )
        for i in range(count)
    )
    return (Wiring(body=body, states=states, results=tuple(stacked), loops=True),)


def _scan(node: onnx_ir.Node, body: onnx_ir.Graph) -> tuple[Wiring] | None:
    """Inputs, of the node and of the body: states, then what is taken apart."""
    slices = node.attributes["num_scan_inputs"].as_int() if "num_scan_inputs" in node.attributes else 0
    count = len(node.inputs) - slices
    fits = len(body.inputs) == len(node.inputs) and len(body.outputs) == len(node.outputs)
    if count < 0 or not fits or len(node.outputs) < count:
        return None
    entries = node.attributes.get_ints("scan_input_axes", [0] * slices)
    leaves = node.attributes.get_ints("scan_output_axes", [0] * (len(node.outputs) - count))
    states = tuple(
        State(
            entry=Wire(side="in", position=i, inner=body.inputs[i]),
            again=body.outputs[i],
            leave=Wire(side="out", position=i, inner=body.outputs[i]),
        )
        for i in range(count)
    )
    taken = (
        Wire(side="in", position=count + i, inner=body.inputs[count + i], stacked=axis)
        for i, axis in enumerate(entries)
    )
    results = (
        Wire(side="out", position=count + i, inner=body.outputs[count + i], stacked=axis)
        for i, axis in enumerate(leaves)
    )
    return (Wiring(body=body, states=states, slices=tuple(taken), results=tuple(results), loops=True),)


def why_apart(node: onnx_ir.Node, wire: Wire, outer: onnx_ir.Value) -> str:
    """Why a value of a node and one of its body are not taken to be of one size."""
    if node.op_type == "If":
        return f"`If` makes `{outer.name}` of different shapes, or unknown ones, in its branches"
    if wire.stacked is None:
        return f"the shape of `{outer.name}` changes in `{node.op_type}`, or may, from iteration to iteration"
    return f"the shape of `{outer.name}` is not known in every iteration of `{node.op_type}`"
