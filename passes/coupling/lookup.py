"""The axes of a coupling by the names that people use: of nodes, of tensors, of modules."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import onnx_ir

from prunec.ir.diagnostics import UserError
from prunec.ir.rule import Index
from prunec.passes.coupling.axes import Operand, node_label
from prunec.passes.coupling.groups import Coupling, Group, is_parameter
from prunec.passes.coupling.view import GroupView


def short_name(node: onnx_ir.Node) -> str:
    """A node's name without what it says twice: ``/layer1/layer1.0/conv1/Conv`` is ``layer1.0/conv1``."""
    name = node.name or node.outputs[0].name or ""
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and parts[-1].rstrip("_0123456789") == node.op_type:
        del parts[-1]
    following = [*parts[1:], ""]
    return "/".join(p for p, after in zip(parts, following, strict=True) if not after.startswith(f"{p}."))


Key = int
"""A component, or for a class that is pinned as a whole ``-1 - root``."""


class Axes:
    """The axes of a coupling by name and number.

    Args:
        coupling: the analysis.
    """

    def __init__(self, coupling: Coupling) -> None:
        self.coupling = coupling
        self.table = coupling.relations.table
        self.view = GroupView.of(coupling)
        self.operands = {
            number: (operand, axis)
            for operand, numbers in self.table.operands.items()
            for axis, number in enumerate(numbers)
        }

    @cached_property
    def labels(self) -> dict[int, str]:
        """What every axis is called; factors that are no axis of any operand are named after their node."""
        labels = {number: self._label(operand, axis) for number, (operand, axis) in self.operands.items()}
        for product in self.coupling.relations.products:
            for factor, number in product.factors.items():
                labels.setdefault(number, f"({node_label(product.cause)} {factor})")
        return labels

    def _label(self, operand: Operand, axis: int) -> str:
        computed = not is_parameter(operand.value, self.coupling.facts)
        user = f"({node_label(operand.use[0])})" if operand.use else ""
        return f"{'%' if computed else ''}{operand.value.name}{user}:{axis}"

    def kind(self, number: int) -> str:
        """What an axis belongs to: ``parameter``, ``value`` or ``factor``."""
        if number not in self.operands:
            return "factor"
        value = self.operands[number][0].value
        return "parameter" if is_parameter(value, self.coupling.facts) else "value"

    def groups(self, number: int) -> list[Group]:
        """The groups that an axis belongs to."""
        return self.view.groups(number)

    def named(self, name: str) -> list[int]:
        """The numbers of the axes that a user means by a name.

        That is the name of a node or tensor, ``TENSOR:AXIS``, a module whose parameters' names begin with it,
        the short name of one or more nodes, or a part of the name of one node alone.

        Raises:
            UserError: there is no node or tensor of that name.
        """
        for text in dict.fromkeys((name, name.lstrip("%@"))):
            if (found := self._by_name.get(text)) is not None:
                return found
            tensor, _, axis = text.rpartition(":")
            numbers = self._by_name.get(tensor, [])
            if axis.isdigit() and (found := [n for n in numbers if self.operands[n][1] == int(axis)]):
                return found
            inside = [ns for known, ns in self._by_name.items() if known.startswith(f"{text}.")]
            if inside:
                return sorted({n for numbers in inside for n in numbers})
        nodes = list(self.coupling.relations.rules)
        short = [node for node in nodes if short_name(node) == name]
        holding = [node for node in nodes if name in (node.name or "")]
        if meant := short or (holding if len(holding) == 1 else []):
            return [number for node in meant for number in self._of_node(node)]
        raise self._unknown(name)

    def _unknown(self, name: str) -> UserError:
        import difflib

        word = name.lstrip("%@").casefold()
        close = difflib.get_close_matches(word, list(self._by_name), n=3, cutoff=0.5)
        close = [known for known in self._by_name if word in known.casefold()][:3] or close
        help = [
            f"the nearest names are {', '.join(f'`{c}`' for c in close)}"
            if close
            else "`prunec inspect MODEL --layers` lists the names of layers"
        ]
        return UserError(f"no node or tensor is called `{name}`", help=help)

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for number, (operand, _) in self.operands.items():
            names.setdefault(operand.value.name or "", []).append(number)
        for node in self.coupling.relations.rules:
            names.setdefault(node_label(node), []).extend(self._of_node(node))
        for holder in dict.fromkeys(node for node, _, _ in self.coupling.relations.crossings):
            names.setdefault(node_label(holder), []).extend(self._of_values(holder.outputs))
        for last, chain in self.coupling.relations.chains.items():
            for node in chain.nodes:
                names.setdefault(node_label(node), []).extend(self._of_values(last.outputs))
        return names

    def _of_node(self, node: onnx_ir.Node) -> list[int]:
        """The axes of a node's parameters and outputs, and of its inputs where it has no parameters."""
        numbers, shapes = self.coupling.relations.numbers, self.coupling.facts.shapes
        inputs = {
            start: len(shapes[value])
            for position, value in enumerate(node.inputs)
            if value is not None and (start := numbers.get((node, "in", position))) is not None
        }
        chosen = [n for n in inputs if n in self.operands and self.kind(n) == "parameter"] or list(inputs)
        return self._of_values(node.outputs) + [n for s in chosen for n in range(s, s + inputs[s])]

    def _of_values(self, values: Iterable[onnx_ir.Value]) -> list[int]:
        return [n for value in values for n in self.table.operands.get(Operand(value), ())]

    def keys(self, numbers: Iterable[int]) -> set[Key]:
        """The components on axes, those that belong to groups alone."""
        found: set[Key] = set()
        for number in numbers:
            if not self.groups(number):
                continue
            labels = self.coupling.labels(number)
            found |= {-1 - self.table.find(number)} if labels is None else set(labels.tolist())
        return found

    def one_of_each_group(self, keys: Iterable[Key]) -> list[Key]:
        """One component of every group; those of groups that may be pruned alone, where there are any."""
        of_component = {int(c): g for g in self.coupling.groups for c in g.components}
        chosen: dict[str, Key] = {}
        for key in sorted(keys):
            group = of_component.get(key)
            if key < 0 or group is not None:
                chosen.setdefault(group.id if group is not None else str(key), key)
        free = [k for k in chosen.values() if k >= 0 and self.coupling.components.free[k]]
        return free or list(chosen.values())

    def carries(self, number: int, slots: Index | None, key: Key) -> bool:
        """Whether an axis, or some of its slots, holds a component."""
        labels = self.coupling.labels(number)
        if labels is None:
            return -1 - self.table.find(number) == key
        return key >= 0 and bool(np.any((labels if slots is None else labels[slots]) == key))
