"""Finds *sparse layers*: contractions with a constant weight, whose weights may hold zeros in a pattern.

Which operand is the weight and what its axes mean follow from the op's rule alone. The weight is the constant
that shares summed factors with computed data; a factor that the op sums over is an *input* channel if the
data have it too and a kernel *position* if not; of the others one that the data have is a *group*, and one
that they lack an *output* channel. The weight may lie behind a chain of transparent ops (Transpose, Cast,
Identity, QuantizeLinear, DequantizeLinear). An initializer that is also listed as a graph input counts as
constant, as everywhere in prunec.

What is no sparse layer: a table that is looked up (Gather sums nothing); LSTM, GRU and RNN (their gates are
no plain product of data and weight, and runtimes have no sparse kernels for them); weights that are packed
several to a byte. Weights that have no layer's form, or that something else reads too, are skipped with a
reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import Facts
from prunec.ir.op import Op
from prunec.ir.ops.quantised import QuantisedEinsum
from prunec.ir.ops.recurrent import DynamicQuantizeLSTM, Recurrent
from prunec.ir.registry import find_op, site_of
from prunec.ir.rule import Operand, Rule, RuleError
from prunec.ir.scopes import bodies, walk
from prunec.ir.site import Site
from prunec.passes.coupling.collect import is_stored
from prunec.passes.sparsity.layer import SkippedWeight, SparseLayer, SparseLayers, Use
from prunec.passes.sparsity.layout import Kind, WeightLayout

Array = NDArray[Any]


def find_layers(model: onnx_ir.Model, facts: Facts) -> SparseLayers:
    """The sparse layers of a model's main graph."""
    return _Finder(model.graph, facts).run()


_NO_PRODUCT = "it is no plain product of data and weight"


class _Skip(Exception):
    """Why a weight is no sparse layer."""


@dataclass(slots=True)
class _Found:
    """A weight that one contraction reads, followed back to where it is stored."""

    use: Use
    value: onnx_ir.Value
    layout: WeightLayout
    chain: tuple[onnx_ir.Node, ...] = ()
    zero: Array = field(default_factory=lambda: np.zeros(()))
    step: Array = field(default_factory=lambda: np.ones(()))


class _Finder:
    def __init__(self, graph: onnx_ir.Graph, facts: Facts) -> None:
        self.graph = graph
        self.facts = facts
        self.found: dict[onnx_ir.Value, list[_Found]] = defaultdict(list)
        self.skipped: list[SkippedWeight] = []

    def run(self) -> SparseLayers:
        for node in self.graph:
            self._visit(node)
        layers = [layer for value, found in self.found.items() if (layer := self._layer(value, found))]
        return SparseLayers(layers=tuple(layers), skipped=tuple(self.skipped))

    def _skip(self, node: onnx_ir.Node, value: onnx_ir.Value | None, reason: str) -> None:
        name = "" if value is None else value.name or ""
        self.skipped.append(SkippedWeight(node=node, weight=name, reason=reason))

    def _site(self, node: onnx_ir.Node) -> Site:
        return site_of(node, self.facts, self.graph)

    # -- one contraction -------------------------------------------------------

    def _visit(self, node: onnx_ir.Node) -> None:
        for inner in (inner for body in bodies(node) for inner in walk(body)):
            self._visit_nested(inner, node)
        op = find_op(node)
        if op is None or not op.linear or all(v in self.facts.constant for v in node.outputs):
            return
        try:
            rule = op.rule(self._site(node))
        except RuleError:
            return
        constants = self._constants(node, rule)
        for position in [i for i in constants if op.role(i) == "weight"] or constants:
            value = node.inputs[position]
            try:
                found = self._follow(node, op, rule, position)
            except _Skip as skip:
                self._skip(node, value, str(skip))
            else:
                self.found[found.value].append(found)

    def _visit_nested(self, inner: onnx_ir.Node, outer: onnx_ir.Node) -> None:
        op = find_op(inner)
        if op is None or not op.linear:
            return
        for value in inner.inputs:
            tensor = None if value is None else onnx_ir.convenience.get_const_tensor(value)
            if tensor is not None and len(tensor.shape) > 1:
                self._skip(inner, value, f"it is read inside the body of `{outer.op_type}`")

    def _constants(self, node: onnx_ir.Node, rule: Rule) -> list[int]:
        """Positions of the constants with a factor that is summed over."""
        summed = _summed(rule)
        return [
            i
            for i, operand in enumerate(rule.inputs)
            if node.inputs[i] in self.facts.constant and any(summed & set(term) for term in operand or ())
        ]

    def _follow(self, node: onnx_ir.Node, op: Op, rule: Rule, position: int) -> _Found:
        """The weight at a position and where it is stored.

        Raises:
            _Skip: the op or the weight has not the form of a layer.
        """
        value = node.inputs[position]
        assert value is not None
        if isinstance(op, Recurrent | DynamicQuantizeLSTM):
            raise _Skip(_NO_PRODUCT)
        if position not in op.zeroed:
            raise _Skip("its numbers are packed several to a byte, or what is zero is not known")
        if isinstance(op, QuantisedEinsum) and not self._is_known(node, op.points.get(position)):
            raise _Skip("its zero point is computed")
        if len(self._constants(node, rule)) > 1:
            raise _Skip(f"`{node.op_type}` multiplies several weights")
        layout = _layout(rule, position, self._data(node, rule, position), self.facts.shapes[value])
        return self._stored(_Found((node, position), value, layout), self._site(node), op, position)

    def _is_known(self, node: onnx_ir.Node, position: int | None) -> bool:
        if position is None or position >= len(node.inputs) or node.inputs[position] is None:
            return True
        return node.inputs[position] in self.facts.constant

    def _data(self, node: onnx_ir.Node, rule: Rule, position: int) -> set[str]:
        """The factors of the data that the weight is multiplied with: of the computed operands that share a
        summed factor with it; of the first one where a single input channel leaves none to share.
        """
        summed = _summed(rule) & {f for term in rule.inputs[position] or () for f in term}
        computed = [
            {f for term in operand for f in term}
            for value, operand in zip(node.inputs, rule.inputs, strict=True)
            if operand is not None and value not in self.facts.constant
        ]
        if not computed:
            raise _Skip("no computed data are multiplied with it")
        return set().union(*(factors for factors in computed if factors & summed)) or computed[0]

    def _stored(self, found: _Found, site: Site, op: Op, position: int) -> _Found:
        """Go back from a contraction's operand to the stored weight, over transparent nodes."""
        while True:
            self._take_zero(found, site, op, position)
            source = found.value.producer()
            if is_stored(found.value, self.facts):
                return found
            op_above = None if source is None else find_op(source)
            if source is None or op_above is None or not op_above.transparent:
                made = "" if source is None else f" by `{source.op_type}`"
                raise _Skip(f"it is computed{made}, not stored")
            if not all(v is None or v in self.facts.constant for v in source.inputs):
                raise _Skip(f"`{source.op_type}` in front of it has computed operands")
            site, op, position = self._site(source), op_above, 0
            found.layout = _through(found.layout, op.rule(site))
            found.chain = (source, *found.chain)
            found.value = source.inputs[0] or found.value

    def _take_zero(self, found: _Found, site: Site, op: Op, position: int) -> None:
        """Note what is zero and what a step is worth, if it is this op that reads integers as numbers."""
        if not onnx_ir.DataType(self.facts.types.get(found.value, 1)).is_integer():
            found.zero, found.step = np.zeros(()), np.ones(())
            return
        zero, step = op.zero(site, position), op.step(site, position)
        if zero.ndim or step.ndim or zero or step != 1:
            found.zero, found.step = (
                found.layout.unfold(np.broadcast_to(a, site.shape(position))) if a.ndim else a
                for a in (zero, step)
            )

    # -- one stored weight -------------------------------------------------------

    def _layer(self, value: onnx_ir.Value, found: list[_Found]) -> SparseLayer | None:
        """The layer of a weight, if all that read it agree on what it is."""
        first = found[0]
        if (reason := self._conflict(value, found)) is not None:
            for other in found:
                self._skip(other.use[0], value, reason)
            return None
        return SparseLayer(
            uses=tuple(f.use for f in found),
            value=value,
            chain=first.chain,
            layout=first.layout,
            zero=first.zero,
            step=first.step,
        )

    def _conflict(self, value: onnx_ir.Value, found: list[_Found]) -> str | None:
        uses = {f.use for f in found}
        for node, position in _leaves(value):
            if node is None:
                return "it is a graph output"
            if (node, position) not in uses:
                return f"`{node.op_type}` `{node.name or node.outputs[0].name}` reads it too"
        if len({f.layout.signature for f in found}) > 1:
            names = ", ".join(f"`{f.use[0].name or f.use[0].outputs[0].name}`" for f in found)
            return f"its readers {names} sum over different axes of it"
        if any(not np.array_equal(f.zero, found[0].zero) for f in found):
            return "its readers take different numbers for zero"
        return None


def _leaves(value: onnx_ir.Value) -> Iterator[tuple[onnx_ir.Node | None, int]]:
    """Everything that reads a stored weight, past transparent nodes; None for the caller of the model."""
    pending = [value]
    for current in pending:  # grows while it is read
        if current.is_graph_output():
            yield None, 0
        for node, position in current.uses():
            op = find_op(node)
            if op is not None and op.transparent and position == 0 and node.graph is value.graph:
                pending.append(node.outputs[0])
            else:
                yield node, position


def _summed(rule: Rule) -> set[str]:
    """The factors that a contraction sums over (an op that takes a statistic may list more as reduced)."""
    return set(rule.reduced) - {f for term in rule.outputs[0] or () for f in term}


def _layout(rule: Rule, position: int, data: set[str], shape: tuple[int, ...]) -> WeightLayout:
    """What the axes of a contraction's weight are.

    Raises:
        _Skip: a factor of the weight is neither summed over nor in the output.
    """
    summed, output = _summed(rule), {f for term in rule.outputs[0] or () for f in term}
    terms: list[tuple[str, ...]] = []
    sizes: dict[str, int] = {}
    kinds: dict[str, Kind] = {}
    for axis, (term, size) in enumerate(zip(rule.inputs[position] or (), shape, strict=True)):
        if size > 1 and not term:  # packed pieces, such as the columns of query, key and value
            term = (f"axis{axis}",)
            sizes[term[0]], kinds[term[0]] = size, "output"
        terms.append(term)
        for f in term:
            if f in kinds:
                continue
            if f not in summed and f not in output:
                raise _Skip(_NO_PRODUCT)
            sizes[f] = rule.sizes[f]
            shared = f in data
            kinds[f] = ("input" if shared else "position") if f in summed else "group" if shared else "output"
    return WeightLayout(terms=tuple(terms), sizes=sizes, kinds=kinds)


def _through(layout: WeightLayout, rule: Rule) -> WeightLayout:
    """The layout of a transparent op's input, given that of its output."""
    source, result = rule.inputs[0], rule.outputs[0]
    assert source is not None and result is not None
    terms: Operand = tuple(layout.terms[result.index(term)] if term else () for term in source)
    return WeightLayout(terms=terms, sizes=layout.sizes, kinds=layout.kinds)
