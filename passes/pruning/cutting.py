"""Cuts removed components out of a graph: constants, attributes, shape operands, and the shapes of values.

What to remove is decided elsewhere; here is only how. Every node is asked through its op's ``rewrite`` and
sees its own part of the cut as a :class:`NodeCut`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.dialect import dialect_of
from prunec.ir.form import scale_symbol
from prunec.ir.module import opset_of
from prunec.ir.registry import form_of
from prunec.ir.rule import Index
from prunec.ir.scopes import graph_of, named, walk
from prunec.passes.cleanup import remove_unused_nodes
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.chains import Chain
from prunec.passes.coupling.collect import Relations
from prunec.passes.coupling.groups import Coupling, is_parameter
from prunec.passes.coupling.solve import Bools
from prunec.passes.literals import freeze_shape_arithmetic
from prunec.passes.slicing import Constants

Array = NDArray[Any]


@dataclass(slots=True)
class Cutter:
    """One cut of one graph and its bodies.

    Attributes:
        model: the graph, changed in place.
        coupling: its analysis, made before any change.
        removed: per component whether it goes.
        constants: the constants of the graph, old and new.
        slots: per value that is cut, by name, and axis the slots that stay.
    """

    model: onnx_ir.Model
    coupling: Coupling
    removed: Bools
    constants: Constants = field(init=False)
    slots: dict[str, dict[int, Index]] = field(default_factory=dict)
    _kept: dict[int, Index | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = Constants(self.model, self.coupling, self.cut_axes)

    def run(self) -> dict[str, tuple[int, ...]]:
        """Make the cut.

        Returns:
            The concrete shape that every value of the graph now must have, at the sizes of the analysis'
            facts.
        """
        predicted = self._predict_shapes()
        for node in reversed(
            list(walk(self.model.graph))
        ):  # consumers first: every node still sees its own inputs
            self._rewrite_node(node)
        if not dialect_of(self.model).literal_sizes:
            freeze_shape_arithmetic(self.model, self.coupling.facts)
        self.constants.take()
        remove_unused_nodes(self.model)
        return predicted

    def _rewrite_node(self, node: onnx_ir.Node) -> None:
        relations = self.coupling.relations
        if node in relations.chains:
            self._rewrite_chain(node, relations.chains[node])
        elif node in relations.ops:
            relations.ops[node].rewrite(self.coupling.site(node), NodeCut(self, node))

    # -- what stays ------------------------------------------------------------

    def kept(self, axis: int) -> Index | None:
        """Slots of an axis (by number) that stay, None where all do."""
        if axis not in self._kept:
            root = self.coupling.relations.table.find(axis)
            self._kept[axis] = self._kept_of_class(root) if root == axis else self.kept(root)
        return self._kept[axis]

    def _kept_of_class(self, root: int) -> Index | None:
        labels = self.coupling.labels(root)
        gone = None if labels is None else self.removed[labels]
        return None if gone is None or not gone.any() else np.flatnonzero(~gone)

    def size(self, axis: int) -> int:
        """New size of an axis (by number)."""
        kept = self.kept(axis)
        return self.coupling.relations.table.sizes[axis] if kept is None else len(kept)

    def cut_axes(self, operand: Operand) -> dict[int, Index]:
        """The axes of an operand that lose slots, with the slots that stay."""
        numbers = self.coupling.relations.table.operands.get(operand, range(0))
        return {a: kept for a, number in enumerate(numbers) if (kept := self.kept(number)) is not None}

    # -- shapes ------------------------------------------------------------

    def _predict_shapes(self) -> dict[str, tuple[int, ...]]:
        """New concrete shapes of all values; declared shapes of cut values are updated on the way."""
        facts, sizes_of = self.coupling.facts, dict[onnx_ir.Value, tuple[int, ...]]()
        slots = dict[onnx_ir.Value, dict[int, Index]]()
        for value, shape in facts.shapes.items():
            if is_parameter(value, facts) and Operand(value) not in self.coupling.relations.table.operands:
                continue  # shared: every use has its own cut
            axes = self.cut_axes(Operand(value))
            sizes = [len(axes[a]) if a in axes else n for a, n in enumerate(shape)]
            sizes_of[value] = tuple(sizes)
            if axes:
                slots[value] = axes
            if axes and value.shape is not None and not value.is_initializer():
                dims = [sizes[a] if a in axes else value.shape[a] for a in range(len(sizes))]
                value.shape = onnx_ir.Shape(dims)
        for chain in self.coupling.relations.chains.values():
            for node in chain.nodes[:-1]:
                sizes_of.pop(node.outputs[0], None)
        self.slots = named(slots.items())
        return named(sizes_of.items())

    # -- chains ------------------------------------------------------------

    def _rewrite_chain(self, last: onnx_ir.Node, chain: Chain) -> None:
        """A permutation that loses arbitrary slots is a gather; reshapes only lose whole rows or columns."""
        source, result = chain.nodes[0].inputs[0], last.outputs[0]
        assert source is not None
        table = self.coupling.relations.table
        before, after = table.operands[Operand(source)], table.operands[Operand(result)]
        vectors = {}
        for axis, (old, new) in enumerate(zip(before, after, strict=True)):
            kept_old, kept_new = self.kept(old), self.kept(new)
            if kept_old is not None and kept_new is not None:
                vectors[axis] = np.searchsorted(kept_old, chain.permutation(axis)[kept_new])
            elif chain.permuted(axis):
                vectors[axis] = chain.permutation(axis)
        if any(self.kept(number) is not None for number in after):
            self.gather(last, source, vectors)

    def gather(self, node: onnx_ir.Node, source: onnx_ir.Value, vectors: Mapping[int, Index]) -> None:
        """Replace a node by gathers from ``source``, one an axis; the name of its output stays."""
        result = node.outputs[0]
        current = self.gathered(node, source, vectors)
        name = result.name
        onnx_ir.convenience.replace_all_uses_with(result, current, replace_graph_outputs=True)
        result.name = self.constants.fresh(f"{name}_replaced")
        current.name, current.shape = name, result.shape

    def gathered(
        self, node: onnx_ir.Node, source: onnx_ir.Value, vectors: Mapping[int, Index]
    ) -> onnx_ir.Value:
        """What gathers from ``source``, one an axis, make; they are inserted before ``node``."""
        result, current = node.outputs[0], source
        for axis, vector in vectors.items():
            index = self.constants.new(f"{result.name}_index", vector.astype(np.int64))
            name = self.constants.fresh(f"{node.name}_gather")
            gather = onnx_ir.node("Gather", [current, index], {"axis": axis}, name=name)
            gather.metadata_props.update(node.metadata_props)
            graph_of(node).insert_before(node, [gather])
            current = gather.outputs[0]
            current.name, current.type = self.constants.fresh(f"{result.name}_gathered"), result.type
        return current


@dataclass(frozen=True, slots=True)
class NodeCut:
    """The cut as one node sees it; what ``Op.rewrite`` works with (see :class:`prunec.ir.op.Cut`)."""

    cutter: Cutter
    node: onnx_ir.Node

    def _number(self, operand: tuple[str, int], axis: int) -> int | None:
        first = self.relations.numbers.get((self.node, *operand))
        return None if first is None else first + axis

    @property
    def relations(self) -> Relations:
        """The relations of the graph."""
        return self.cutter.coupling.relations

    def kept(self, operand: tuple[str, int], axis: int) -> Index | None:
        """Slots of an axis that stay, ascending; None where the axis is not cut."""
        number = self._number(operand, axis)
        return None if number is None else self.cutter.kept(number)

    def size(self, operand: tuple[str, int], axis: int) -> int:
        """New size of an axis of an operand."""
        number = self._number(operand, axis)
        assert number is not None
        return self.cutter.size(number)

    def factor(self, name: str) -> int:
        """New size of a factor of the node's rule."""
        number = self.relations.factors.get((self.node, name))
        return self.relations.rules[self.node].sizes[name] if number is None else self.cutter.size(number)

    def set_input(self, position: int, array: Array) -> None:
        """Replace an operand of the node: an input by a new constant, an attribute by new numbers."""
        if form_of(self.node).write_operand(self.node, position, array.ravel().tolist(), ()):
            return
        self.node.resize_inputs(max(position + 1, len(self.node.inputs)))
        old = self.node.inputs[position]
        name = f"{self.node.outputs[0].name}_{'operand' if old is None else old.name}"
        self.node.replace_input_with(position, self.cutter.constants.new(name, array))

    def follows_cut(self, position: int) -> bool:
        """Whether an input is computed from the size of an axis that is being cut, here or elsewhere."""
        if position in form_of(self.node).operands:
            return False  # a literal of the node
        facts, queue = self.cutter.coupling.facts, [self.node.inputs[position]]
        while queue:
            value = queue.pop()
            node = None if value is None else value.producer()
            if node is None or not facts.is_folded(node):
                continue
            if node.op_type not in ("Shape", "Size"):
                queue += node.inputs
            elif (source := node.inputs[0]) is not None and self.cutter.cut_axes(Operand(source)):
                return True
        return False

    def patch_input(
        self, position: int, sizes: NDArray[np.int64], dynamic: Bools, old: NDArray[np.int64]
    ) -> None:
        """Overwrite the entries of a computed shape operand that are not dynamic; dynamic ones shrink from
        ``old`` to ``sizes``.
        """
        form = form_of(self.node)
        if form.write_operand(self.node, position, sizes.tolist(), np.flatnonzero(dynamic).tolist()):
            for entry, at in form.symbols(self.node, position).items():
                if sizes[entry] != old[entry]:  # a product of a dynamic and a static size
                    name = self.cutter.constants.fresh(f"{self.node.name}_size")
                    scale_symbol(self.node, at, (int(sizes[entry]), int(old[entry])), name)
            return
        source = self.node.inputs[position]
        assert source is not None
        name = f"{self.node.outputs[0].name}_shape"
        walked = self.cutter.coupling.facts.numbers.get(source)
        follows = False if walked is None else walked < 0  # -1: the runtime works it out from the others
        shrinks = dynamic & (sizes != old) & ~np.asarray(follows)
        if shrinks.any():  # a product of a dynamic and a static size: scale by the share that stays
            up, down = (
                self.cutter.constants.new(f"{name}_{k}", np.where(shrinks, v, 1))
                for k, v in (("new", sizes), ("old", old))
            )
            source = self._compute(
                "Div", [self._compute("Mul", [source, up], f"{name}_scaled"), down], f"{name}_divided"
            )
        self.node.replace_input_with(position, self._choose(dynamic, source, sizes, name))

    def _choose(
        self, dynamic: Bools, source: onnx_ir.Value, sizes: NDArray[np.int64], name: str
    ) -> onnx_ir.Value:
        """``source`` where dynamic, else ``sizes``; before opset 9, which has no Where, as a sum of products."""
        if opset_of(self.cutter.model.graph, "") >= 9:
            mask = self.cutter.constants.new(f"{name}_dynamic", dynamic)
            literal = self.cutter.constants.new(f"{name}_static", sizes)
            return self._compute("Where", [mask, source, literal], name)
        ones = self.cutter.constants.new(f"{name}_dynamic", dynamic.astype(np.int64))
        literal = self.cutter.constants.new(f"{name}_static", np.where(dynamic, 0, sizes))
        return self._compute("Add", [self._compute("Mul", [source, ones], f"{name}_part"), literal], name)

    def _compute(self, op_type: str, inputs: list[onnx_ir.Value], name: str) -> onnx_ir.Value:
        """Insert a small node before this one."""
        new = onnx_ir.node(op_type, inputs, name=self.cutter.constants.fresh(name))
        new.outputs[0].name = new.name
        graph_of(self.node).insert_before(self.node, [new])
        return new.outputs[0]

    def set_attributes(self, values: Mapping[str, list[int] | None]) -> None:
        """Replace attributes by lists of integers; None takes an attribute away."""
        form = form_of(self.node)
        for name, value in values.items():
            form.rewrite(self.node, name, value)

    def set_numbers(self, values: Mapping[str, int]) -> None:
        """Replace integer attributes."""
        form = form_of(self.node)
        for name, value in values.items():
            form.rewrite(self.node, name, value)

    def gather(self, vectors: Mapping[int, Index], *, instead: bool) -> None:
        """Gather from the first input, in the place of the node or in front of it."""
        source = self.node.inputs[0]
        assert source is not None
        if instead:
            self.cutter.gather(self.node, source, vectors)
        else:
            self.node.replace_input_with(0, self.cutter.gathered(self.node, source, vectors))
