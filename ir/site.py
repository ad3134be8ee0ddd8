"""One occurrence of an op: a node seen together with the facts about its operands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import Facts
from prunec.ir.form import PLAIN, Form
from prunec.ir.rule import RuleError


@dataclass(frozen=True, slots=True)
class Site:
    """A node, its facts, and shorthands to read both.

    Attributes:
        node: the node.
        facts: facts of the graph that the node is in.
        opset: version of the node's domain that the model imports.
        form: how the node reads as an op of its family.
    """

    node: onnx_ir.Node
    facts: Facts
    opset: int
    form: Form = PLAIN

    @property
    def attributes(self) -> Mapping[str, onnx_ir.Attr]:
        """The node's attributes, by the names that its family knows."""
        return self.form.read(self.node)

    @property
    def input_shapes(self) -> list[tuple[int, ...] | None]:
        """Shape of every input, None where absent."""
        return [self.facts.shape(v) for v in self.node.inputs]

    @property
    def output_shapes(self) -> list[tuple[int, ...] | None]:
        """Shape of every output, None where unused."""
        return [self.facts.shape(v) for v in self.node.outputs]

    def shape(self, position: int) -> tuple[int, ...]:
        """Shape of an input.

        Raises:
            RuleError: it is unknown.
        """
        if (operand := self.form.operand(self.node, position)) is not None:
            return operand.numbers.shape
        return self._known(self.facts.shape(self.input(position)), f"input {position}")

    def output_shape(self, position: int = 0) -> tuple[int, ...]:
        """Shape of an output.

        Raises:
            RuleError: it is unknown.
        """
        return self._known(self.facts.shape(self.node.outputs[position]), f"output {position}")

    def _known(self, shape: tuple[int, ...] | None, what: str) -> tuple[int, ...]:
        if shape is None:
            raise RuleError(f"the shape of {what} is unknown")
        return shape

    def input(self, position: int) -> onnx_ir.Value | None:
        """An input, None where it is absent."""
        if position in self.form.operands:
            return None
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def has(self, position: int) -> bool:
        """Whether the node has an operand, as an input or, where its form says so, as an attribute."""
        return self.form.operand(self.node, position) is not None or self.input(position) is not None

    def number(self, position: int) -> NDArray[Any] | None:
        """Contents of an operand that is a small constant, None where it is absent or not known."""
        if (operand := self.form.operand(self.node, position)) is not None:
            return None if operand.computed else operand.numbers
        return self.facts.number(self.input(position))

    def entries(self, position: int) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        """Contents of a small vector at the sizes that were tried, and which of them are the same at every size;
        None where it is absent or not known.
        """
        value = self.input(position)
        number = None if value is None else self.facts.numbers.get(value)
        if value is None or number is None:
            return None
        varying = self.facts.varying.get(value, np.full(number.shape, value in self.facts.unstable))
        return number, ~varying

    def constant(self, position: int) -> NDArray[Any] | None:
        """Contents of an input that is stored in the model, however large, else None."""
        value = self.input(position)
        tensor = None if value is None else onnx_ir.convenience.get_const_tensor(value)
        return self.number(position) if tensor is None else tensor.numpy()

    def integers(self, position: int, attribute: str | None = None) -> list[int] | None:
        """A list of integers that, depending on the opset, is an input or an attribute; None where it is
        absent.

        Raises:
            RuleError: it is an input whose contents are not known.
        """
        if attribute is not None and attribute in self.attributes:
            return [int(i) for i in self.attributes[attribute].as_ints()]
        if not self.has(position):
            return None
        number = self.number(position)
        if number is None:
            raise RuleError(f"the contents of input {position} are only known at run time")
        return [int(i) for i in np.atleast_1d(number)]

    def int_attribute(self, name: str, default: int) -> int:
        """An integer attribute or its default."""
        attribute = self.attributes.get(name)
        return default if attribute is None else int(attribute.as_int())

    def integer_list(self, name: str, default: Iterable[int]) -> list[int]:
        """An attribute that is a list of integers, or its default."""
        attribute = self.attributes.get(name)
        return [int(i) for i in (default if attribute is None else attribute.as_ints())]

    def text_attribute(self, name: str, default: str) -> str:
        """A string attribute or its default."""
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.as_string()
