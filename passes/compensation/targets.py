"""Which layers of a pruned model are fitted, to which values of the model before the cut.

A layer is fitted to what it computed before the cut, less the channels that went. Where its output is only
added to a value that earlier layers make (a residual sum), it is fitted to the sum: it then makes up for what
the stream has lost on the way, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import Facts
from prunec.ir.registry import find_op, site_of
from prunec.passes.base import Context
from prunec.passes.calibration.stages import Depths, find_depths
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.rows import LayerInput, NoRows, RowAxes, layer_input
from prunec.passes.uncut import Uncut

Array = NDArray[Any]

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
"""Ops whose output is the product of data and weight, and a bias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A layer, and what it is fitted to.

    Attributes:
        layer: the layer.
        source: what it reads.
        output: what it computes, with the constants that are added to it.
        value: what is compared: ``output``, or a sum of it with what earlier layers compute.
        kept: per axis of ``value`` that was cut the slots that are left.
        axes: of ``value``.
        gain: factor on the product in ``value``.
    """

    layer: SparseLayer
    source: LayerInput
    output: onnx_ir.Value
    value: onnx_ir.Value
    kept: Mapping[int, NDArray[np.int64]]
    axes: RowAxes
    gain: float

    @property
    def node(self) -> onnx_ir.Node:
        """The layer's node."""
        return self.layer.node

    def expected(self, before: Array) -> Array:
        """The value before the cut, less what went."""
        for axis, slots in self.kept.items():
            before = np.take(before, slots, axis)
        return before.astype(np.float32, copy=False)

    def rows(self, values: Array) -> Array:
        """Numbers of the shape of ``value`` as rows ``[group, row, output]``."""
        [rows] = self.axes.rows(values)
        return rows


def find_targets(context: Context, uncut: Uncut, *, origin: str) -> list[Target]:
    """The layers behind the cut that can be fitted, in graph order; a remark for every other one."""
    facts = context.analyses.facts()
    layers = context.analyses.layers()
    graph = context.analyses.module.graph
    finder = _Finder(
        facts, uncut, find_depths(graph, [layer.node for layer in layers.layers], facts.constant)
    )
    targets = []
    for layer in layers.layers:
        if not finder.is_behind(layer):
            continue
        try:
            targets.append(finder.target(layer))
        except NoRows as why:
            context.remarks.missed(origin, f"`{layer.name}` is not fitted", reason=str(why), node=layer.name)
    for skipped in layers.skipped:
        name = skipped.node.name or skipped.node.outputs[0].name or ""
        context.remarks.missed(origin, f"`{name}` is not fitted", reason=skipped.reason, node=name)
    return targets


class _Finder:
    def __init__(self, facts: Facts, uncut: Uncut, depths: Depths) -> None:
        self.facts = facts
        self.uncut = uncut
        self.depths = depths
        self.before = {value.name: value for node in uncut.module.graph for value in node.outputs}
        self.behind = self._behind(uncut)

    def is_behind(self, layer: SparseLayer) -> bool:
        """Whether anything that a layer reads depends on a cut value."""
        return layer.node in self.behind

    def _behind(self, uncut: Uncut) -> set[onnx_ir.Node]:
        """The nodes whose data depend on a cut value, or are one."""
        changed: set[onnx_ir.Value] = set()
        behind: set[onnx_ir.Node] = set()
        for node, reads in self.depths.reads.items():
            data = (value for value in reads if value not in self.facts.constant)
            if any(value in changed or value.name in uncut.kept for value in data):
                behind.add(node)
                changed.update(node.outputs)
        return behind

    def target(self, layer: SparseLayer) -> Target:
        """What a layer is fitted to.

        Raises:
            NoRows: that is not known; the message says why.
        """
        node = layer.node
        if node.domain or node.op_type not in PRODUCTS:
            raise NoRows(f"how the outputs of `{node.op_type}` follow from its weight is not known")
        if len(layer.uses) > 1:
            raise NoRows(f"{len(layer.uses)} nodes share its weight")
        if not layer.dtype.is_floating_point():
            raise NoRows("its weight is quantised")
        gain = node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0
        if not gain:
            raise NoRows("its weight is multiplied with zero")
        source = layer_input(layer, self.facts)
        output, value = self._followed(node)
        kept = self._kept(value)
        return Target(
            layer=layer,
            source=source,
            output=output,
            value=value,
            kept=kept,
            axes=self._axes(layer, source),
            gain=gain,
        )

    def _axes(self, layer: SparseLayer, source: LayerInput) -> RowAxes:
        op = find_op(layer.node)
        assert op is not None and layer.node.graph is not None
        rule = op.rule(site_of(layer.node, self.facts, layer.node.graph))
        terms, sizes = rule.outputs[0] or (), layer.layout.sizes.keys()
        if layer.node.op_type == "Einsum":
            free = [
                [t for t in operand or () if not sizes & t]
                for operand in (rule.inputs[source.position], terms)
            ]
            if free[0] != free[1]:
                raise NoRows("its outputs are in another order than its inputs")
        if any(0 < len(sizes & term) < len(term) for term in terms):
            raise NoRows("an axis of its output is a product of unknown sizes")
        return RowAxes.of(terms, layer.layout, "output")

    def _followed(self, node: onnx_ir.Node) -> tuple[onnx_ir.Value, onnx_ir.Value]:
        """The output of a layer behind its bias, and behind the sums that can be computed as soon as it is."""
        output = value = node.outputs[0]
        while (found := self._sum(value)) is not None:
            other, result = found
            constant = other in self.facts.constant
            if not constant and self.depths.values.get(other, 0) > self.depths.before[node]:
                break
            output = result if constant and output is value else output
            value = result
        return output, value

    def _sum(self, value: onnx_ir.Value) -> tuple[onnx_ir.Value, onnx_ir.Value] | None:
        """What a value is added to, and the sum, if that is all that becomes of it and has its shape."""
        uses = list(value.uses())
        if value.is_graph_output() or len(uses) != 1:
            return None
        add, index = uses[0]
        other, result = add.inputs[1 - index] if len(add.inputs) == 2 else None, add.outputs[0]
        if (
            add.op_type != "Add"
            or add.domain
            or add.graph is not value.graph
            or other is None
            or other is value
        ):
            return None
        return (other, result) if self.facts.shape(result) == self.facts.shape(value) is not None else None

    def _kept(self, value: onnx_ir.Value) -> Mapping[int, NDArray[np.int64]]:
        """The slots of a value that are left of the same value before the cut.

        Raises:
            NoRows: there was no such value.
        """
        if value.name not in self.before:
            raise NoRows("its output did not exist before the cut")
        return self.uncut.kept.get(value.name or "", {})


def anchors(uncut: Uncut, targets: list[Target]) -> Iterator[tuple[onnx_ir.Node, onnx_ir.Value]]:
    """Per target the node before the cut that made its output, and the value before the cut."""
    before = {value.name: value for node in uncut.module.graph for value in node.outputs}
    for target in targets:
        node = before[target.output.name].producer()
        assert node is not None
        yield node, before[target.value.name]
