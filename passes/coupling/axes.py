"""Axes and which of them share one index space: a union-find over whole axes.

Nearly every relation in a network ties whole axes (an activation's channels to its weight's rows), so this is
where nearly all of the coupling is done, in near-constant time an axis. Only axes that meet data movement go
on to the level of single slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir

Use = tuple[onnx_ir.Node, int]
"""One use of a value: the node and the position among its inputs."""


def node_label(node: onnx_ir.Node) -> str:
    """What messages call a node: its name, or ``Relu->y`` where it has none."""
    return node.name or f"{node.op_type}->{node.outputs[0].name if node.outputs else ''}"


@dataclass(frozen=True, slots=True)
class Operand:
    """A value, or one use of a constant that several nodes share and that may be cut differently for each."""

    value: onnx_ir.Value
    use: Use | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why an axis must stay as it is.

    Attributes:
        text: a line for people, such as ``graph output `logits```.
        rank: which reason to show where several hold; the smallest wins.
        node: name of the node or value that causes it.
        help: what the user can do about it, if anything.
    """

    text: str
    rank: int = 5
    node: str | None = None
    help: str | None = None


@dataclass(slots=True)
class AxisTable:
    """All axes seen so far, numbered, with the classes that they form.

    Attributes:
        operands: the axis numbers of every operand.
        sizes: size of every axis.
        pinned: reason for every class that is pinned as a whole, by its root.
    """

    operands: dict[Operand, range] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    pinned: dict[int, Reason] = field(default_factory=dict)
    _parent: list[int] = field(default_factory=list)

    def add(self, size: int) -> int:
        """A new axis that belongs to no operand (a factor, say)."""
        self.sizes.append(size)
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def of(self, operand: Operand, shape: tuple[int, ...]) -> int:
        """Number of the operand's axis 0; axis ``a`` is ``a`` further on."""
        numbers = self.operands.get(operand)
        if numbers is None:
            first = len(self.sizes)
            numbers = self.operands[operand] = range(first, first + len(shape))
            for size in shape:
                self.add(size)
        return numbers.start

    def find(self, axis: int) -> int:
        """Root of the class that an axis belongs to."""
        parent = self._parent
        while parent[axis] != axis:
            parent[axis] = parent[parent[axis]]
            axis = parent[axis]
        return axis

    def union(self, a: int, b: int) -> None:
        """The two axes share one index space.

        Raises:
            ValueError: their sizes differ.
        """
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        if self.sizes[a] != self.sizes[b]:
            raise ValueError(f"axes of sizes {self.sizes[a]} and {self.sizes[b]} cannot be one index space")
        low, high = min(a, b), max(a, b)
        self._parent[high] = low
        if (reason := self.pinned.pop(high, None)) is not None:
            self.pin(low, reason)

    def pin(self, axis: int, reason: Reason) -> None:
        """No slot of the axis' class may go; of several reasons the one with the smallest rank is kept."""
        root = self.find(axis)
        known = self.pinned.get(root)
        if known is None or reason.rank < known.rank:
            self.pinned[root] = reason

    def of_clone(self, operands: dict[Operand, range]) -> AxisTable:
        """The same axes and classes, as those of other operands."""
        return AxisTable(operands, self.sizes, self.pinned, self._parent)

    def axes(self) -> Iterator[tuple[Operand, int, int]]:
        """Every axis of every operand, as (operand, axis, root of its class)."""
        for operand, numbers in self.operands.items():
            for axis, number in enumerate(numbers):
                yield operand, axis, self.find(number)
