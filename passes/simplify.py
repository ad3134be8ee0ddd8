"""One walk over a graph that folds constants and takes out nodes that do nothing.

Producers come before their consumers, so that one walk is enough: what a node reads is as simple as it gets
by the time the node is looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from prunec.ir.evaluate import Array, evaluate
from prunec.ir.facts import SMALL, Facts, constant_tensor
from prunec.ir.identities import is_identity, permutation_of
from prunec.ir.module import opset_of
from prunec.ir.registry import site_of
from prunec.ir.rule import RuleError
from prunec.ir.scopes import bodies, detach, graph_of
from prunec.ir.site import Site
from prunec.ir.tensors import byte_size
from prunec.passes.cost import is_weight
from prunec.passes.literals import COMPUTED

_QUANTISE = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Never folded: that would undo a quantisation, or hide weights that are trained further."""

_SLOW = 16 * SMALL
"""Elements above which only ops are folded whose reference kernel is one call of numpy."""

_FAST_OPS = (
    "Abs Add And Cast CastLike Clip Concat ConstantOfShape CumSum DepthToSpace Div Equal Exp Expand Flatten "
    "Gather GatherElements Gemm Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul Max Min Mul Neg "
    "Not Or Pad Pow Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Reshape Sigmoid Slice SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile Transpose "
    "Trilu Unsqueeze Where"
)
_FAST = frozenset(_FAST_OPS.split())


@dataclass(slots=True)
class Simplifier:
    """One walk over the main graph of a model and the bodies in it.

    Attributes:
        model: changed in place.
        facts: its facts; they learn about the constants that are made on the way.
        fold: whether to compute nodes that read nothing but constants.
        budget: bytes that folding may still add, on balance.
        counts: what was done, by kind.
        refused: bytes of the constants that would have gone over the budget.
    """

    model: onnx_ir.Model
    facts: Facts
    fold: bool
    budget: int
    counts: Counter[str] = field(default_factory=Counter)
    refused: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Visit every node in order."""
        self._visit_all(list(self.model.graph))

    def _visit_all(self, nodes: Sequence[onnx_ir.Node]) -> None:
        for node in nodes:
            if (branch := self._decided(node)) is not None:
                self._visit_all(self._take(node, branch))
                continue
            for body in bodies(node):
                self._visit_all(list(body))
            self._visit(node)

    def _visit(self, node: onnx_ir.Node) -> None:
        if node.domain not in ("", "ai.onnx"):
            return
        if node.op_type == "Constant":
            self._lift(node)
            return
        if node.op_type == "Transpose":
            self._merge_transposes(node)
        if not self._bypass(node) and self.fold:
            self._fold(node)

    def _site(self, node: onnx_ir.Node) -> Site:
        return site_of(node, self.facts, self.model.graph)

    # -- constants ------------------------------------------------------------------------------------------

    def _lift(self, node: onnx_ir.Node) -> None:
        tensor = constant_tensor(node)
        if tensor is not None and not node.outputs[0].is_graph_output():
            self._replace(node, [tensor])
            self.counts["constants lifted"] += 1

    def _replace(self, node: onnx_ir.Node, tensors: Sequence[onnx_ir.TensorProtocol | None]) -> None:
        """Put initializers of the same names in the place of those outputs of a node that something reads."""
        for value, tensor in zip(node.outputs, tensors, strict=False):
            if tensor is None or not _is_read(value):
                continue
            constant = onnx_ir.val(value.name, const_value=tensor)
            constant.metadata_props.update(value.metadata_props)
            self.model.graph.register_initializer(constant)
            self.facts.copy(value, constant)
            value.replace_all_uses_with(constant)
        graph_of(node).remove(node, safe=True)

    def _fold(self, node: onnx_ir.Node) -> None:
        inputs = [None if v is None else _constant(v) for v in node.inputs]
        absent = [v is None for v in node.inputs]
        if all(absent) or any(t is None and not a for t, a in zip(inputs, absent, strict=True)):
            return
        if node.op_type in _QUANTISE or not self._is_quick(node) or self._harms_weights(node):
            return
        if (growth := self._growth(node)) > self.budget:
            self.refused.append(growth)
            return
        arrays = [None if t is None else t.numpy() for t in inputs]
        results = evaluate(node, arrays, opset_of(self.model.graph, node.domain))
        if results is None or not self._is_expected(node, results):
            return
        self.budget -= growth
        self._replace(node, [_tensor(a, literal=not _weights(node)) for a in results])
        self.counts["nodes folded"] += 1

    def _is_quick(self, node: onnx_ir.Node) -> bool:
        """Whether it is known what comes out, and computing it takes little time."""
        read = [value for value in node.outputs if _is_read(value)]
        operands = [value for value in node.inputs if value is not None]
        types = [self.facts.types.get(value, onnx_ir.DataType.STRING) for value in read]
        if any(v.is_graph_output() for v in read) or onnx_ir.DataType.STRING in types:
            return False
        if any(v not in self.facts.shapes for v in (*read, *operands)):
            return False
        elements = sum(math.prod(self.facts.shapes[value]) for value in (*read, *operands))
        return elements <= _SLOW or node.op_type in _FAST

    def _harms_weights(self, node: onnx_ir.Node) -> bool:
        """Whether folding would store a weight twice and untie its readers, or repeat its numbers."""
        weights = _weights(node)
        if any(not _dies_with(value, node) for value in weights):
            return True
        made = sum(math.prod(self.facts.shapes[value]) for value in node.outputs if _is_read(value))
        return bool(weights) and made > sum(math.prod(self.facts.shapes[value]) for value in weights)

    def _is_expected(self, node: onnx_ir.Node, results: tuple[Array | None, ...]) -> bool:
        """Whether a kernel made what shape inference says that the op makes."""
        for position, value in enumerate(node.outputs):
            if not _is_read(value):
                continue
            array = results[position] if position < len(results) else None
            if array is None or array.dtype.kind in "OSU" or array.shape != self.facts.shapes[value]:
                return False
            if int(onnx_ir.DataType.from_numpy(array.dtype)) != self.facts.types.get(value):
                return False
        return True

    def _growth(self, node: onnx_ir.Node) -> int:
        """Bytes of the results less those of the constants that only this node reads."""
        made = sum(
            byte_size(onnx_ir.DataType(self.facts.types[value]), math.prod(self.facts.shapes[value]))
            for value in node.outputs
            if _is_read(value)
        )
        operands = {v for v in node.inputs if v is not None and _dies_with(v, node)}
        return made - sum(t.nbytes for v in operands if (t := v.const_value) is not None)

    # -- branches -------------------------------------------------------------------------------------------

    def _decided(self, node: onnx_ir.Node) -> onnx_ir.Graph | None:
        """The branch that an ``If`` always takes, None where that is not known."""
        if node.op_type != "If" or node.domain not in ("", "ai.onnx"):
            return None
        condition = node.inputs[0]
        known = None if condition is None else _constant(condition)
        if known is None or known.size != 1 or not self.fold:
            return None
        return node.attributes["then_branch" if known.numpy().any() else "else_branch"].as_graph()

    def _take(self, node: onnx_ir.Node, branch: onnx_ir.Graph) -> list[onnx_ir.Node]:
        """Put a branch in the place of its ``If``; names of values stay. Returns the nodes that are new there."""
        graph, moved, results = graph_of(node), list(branch), list(branch.outputs)
        branch.outputs.clear()
        branch.remove(moved)
        for name in list(branch.initializers):
            self.model.graph.register_initializer(branch.initializers.pop(name))
        for outer, inner in zip(node.outputs, results, strict=True):
            if outer.is_graph_output():
                moved.append(self._hand_on(outer, inner))
            else:
                outer.replace_all_uses_with(inner)
        graph.insert_before(node, moved)
        graph.remove(node, safe=True)
        detach(node)
        self.counts["decided branches taken"] += 1
        return moved

    def _hand_on(self, outer: onnx_ir.Value, inner: onnx_ir.Value) -> onnx_ir.Node:
        """An Identity that makes a graph output of what a branch returns."""
        identity = onnx_ir.node("Identity", [inner], name=f"{outer.name}_taken")
        result = identity.outputs[0]
        outer.replace_all_uses_with(result, replace_graph_outputs=True)
        result.name, result.type, result.shape = outer.name, outer.type, outer.shape
        self.facts.copy(outer, result)
        return identity

    # -- nodes that do nothing ------------------------------------------------------------------------------

    def _bypass(self, node: onnx_ir.Node) -> bool:
        """Take a node out that hands its first input on; the names of graph outputs stay."""
        if any(_is_read(value) for value in node.outputs[1:]) or not is_identity(self._site(node)):
            return False
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        name, is_output = result.name, result.is_graph_output()
        maker = source.producer()
        if is_output and (maker is None or maker.graph is not node.graph or source.is_graph_output()):
            return False
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        graph_of(node).remove(node, safe=True)
        if is_output:
            source.name, source.type, source.shape = name, result.type or source.type, result.shape
        self.counts["no-ops removed"] += 1
        return True

    def _merge_transposes(self, node: onnx_ir.Node) -> None:
        """Let the second of two transposes in a row do the work of both, if the first serves nothing else."""
        source = node.inputs[0]
        first = None if source is None else source.producer()
        if (
            first is None
            or first.graph is not node.graph
            or first.op_type != "Transpose"
            or first.domain not in ("", "ai.onnx")
        ):
            return
        try:
            inner, outer = permutation_of(self._site(first)), permutation_of(self._site(node))
        except RuleError:
            return
        permutation = [inner[axis] for axis in outer]
        if _dies_with(first.outputs[0], node) or permutation == list(range(len(permutation))):
            node.attributes["perm"] = onnx_ir.AttrInt64s("perm", permutation)
            node.replace_input_with(0, first.inputs[0])
            self.counts["transposes merged"] += 1


def _constant(value: onnx_ir.Value) -> onnx_ir.TensorProtocol | None:
    """The tensor of an initializer of a type that numpy computes with."""
    tensor = value.const_value if value.is_initializer() and not value.is_graph_input() else None
    if tensor is None or tensor.dtype == onnx_ir.DataType.STRING:
        return None
    smallest = 16 if tensor.dtype.is_floating_point() else 8
    return tensor if tensor.dtype.bitwidth >= smallest else None


def _tensor(array: Array | None, *, literal: bool) -> onnx_ir.TensorProtocol | None:
    if array is None:
        return None
    tensor = onnx_ir.tensor(np.require(array, requirements="C"))
    if literal:
        tensor.metadata_props[COMPUTED] = "from shapes and literals"
    return tensor


def _is_read(value: onnx_ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _weights(node: onnx_ir.Node) -> set[onnx_ir.Value]:
    """The constants among a node's inputs that are parameters, and not just one value that fills a shape."""
    operands = {v: v.const_value for v in node.inputs if v is not None}
    return {value for value, tensor in operands.items() if tensor is not None and _is_learned(tensor)}


def _is_learned(tensor: onnx_ir.TensorProtocol) -> bool:
    if not is_weight(tensor):
        return False
    array = tensor.numpy() if tensor.size <= SMALL else None
    return array is None or bool((array != array.flat[0]).any())


def _dies_with(value: onnx_ir.Value, node: onnx_ir.Node) -> bool:
    """Whether nothing but ``node`` reads a value."""
    return not value.is_graph_output() and all(use.node is node for use in value.uses())
