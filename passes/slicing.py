"""Takes slots of constants along axes that an analysis numbered, and gives shared ones copies where needed.

Cutting takes the slots that stay, permuting takes all in another order; which, is decided elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import constant_tensor
from prunec.ir.rule import Index
from prunec.ir.scopes import fresh_name, values_in, walk
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling, is_parameter
from prunec.passes.literals import new_constant

Array = NDArray[Any]

Slots = Mapping[int, Index]
"""By axis the slots to take, in order."""


@dataclass(slots=True)
class Constants:
    """The constants of one graph while a transform changes them.

    Attributes:
        model: the graph, changed in place.
        coupling: its analysis, made before any change.
        slots: per operand the axes that change, with the slots to take from each, in order.
        copies: name of every tensor that had to be un-shared, and the tensor that it is a copy of.
    """

    model: onnx_ir.Model
    coupling: Coupling
    slots: Callable[[Operand], Slots]
    copies: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def new(self, name: str, array: Array | onnx_ir.TensorProtocol) -> onnx_ir.Value:
        """Register a new initializer under a name that is not taken yet."""
        return new_constant(self.model.graph, self.fresh(name), array)

    def fresh(self, name: str) -> str:
        """The name, or with a number behind it where a value or node has it already."""
        if not self._taken:
            self._taken.update(node.name for node in walk(self.model.graph) if node.name)
            self._taken.update(value.name for value in values_in(self.model.graph) if value.name)
        return fresh_name(name, self._taken)

    def take(self) -> None:
        """Take the slots of every parameter that has some."""
        by_value: dict[onnx_ir.Value, dict[Operand, Slots]] = defaultdict(dict)
        for operand in self.coupling.relations.table.operands:
            if (slots := self.slots(operand)) and is_parameter(operand.value, self.coupling.facts):
                by_value[operand.value][operand] = slots
        for value, operands in by_value.items():
            self._take_constant(self._as_initializer(value), operands)

    def _as_initializer(self, value: onnx_ir.Value) -> onnx_ir.Value:
        """The value itself, or an initializer in place of a ``Constant`` node that is no graph output."""
        producer = value.producer()
        if producer is None or value.is_graph_output():
            return value
        tensor = constant_tensor(producer)
        assert tensor is not None
        name = value.name or "constant"
        value.name = self.fresh(f"{name}_lifted")
        self._taken.discard(name)
        # a tensor of its own: registering one names it, and the module before the change holds this one too
        lifted = self.new(name, onnx_ir.Tensor(tensor.numpy(), dtype=tensor.dtype))
        value.replace_all_uses_with(lifted)
        return lifted

    def _take_constant(self, value: onnx_ir.Value, operands: Mapping[Operand, Slots]) -> None:
        """Change a constant in place where all its uses agree, else give differing uses copies of their own."""
        wanted: dict[tuple[tuple[int, bytes], ...], list[Operand]] = defaultdict(list)
        for operand, slots in operands.items():
            wanted[tuple((axis, index.tobytes()) for axis, index in slots.items())].append(operand)
        uses = sum(len(value.uses()) if operand.use is None else 1 for operand in operands)
        in_place = len(wanted) == 1 and uses == len(value.uses()) and not value.is_graph_output()
        made: dict[bytes, onnx_ir.Value] = {}  # zero biases stay one tensor wherever they have one size
        for alike in wanted.values():
            tensor = _taken(value, operands[alike[0]])
            if in_place:
                value.const_value = tensor
                value.shape = onnx_ir.Shape(tensor.shape.numpy())
                continue
            content = tensor.tobytes()
            if content not in made:
                made[content] = self.new(f"{value.name}_cut", tensor)
                self.copies[made[content].name or ""] = value.name or ""
            for operand in alike:
                assert operand.use is not None
                operand.use[0].replace_input_with(operand.use[1], made[content])


def _taken(value: onnx_ir.Value, axes: Slots) -> onnx_ir.TensorProtocol:
    """The tensor of a constant with the given slots of some axes."""
    tensor = onnx_ir.convenience.get_const_tensor(value)
    assert tensor is not None
    array = tensor.numpy()
    for axis, slots in axes.items():
        array = np.take(array, slots, axis)
    about = dict(tensor.metadata_props) or None
    return onnx_ir.Tensor(
        np.ascontiguousarray(array) if axes else array.copy("C"),  # what was taken is a copy already
        dtype=tensor.dtype,
        name=value.name,
        metadata_props=about,
    )
