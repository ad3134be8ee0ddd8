"""How a node of another dialect reads as the op of a family.

The families of ``prunec.ir.ops`` know the attributes and operands of ONNX. An op of another dialect that means
the same belongs to the same family: its form says under which names its own arguments are to be read, and
where a rewrite has to put a number. So a convolution has one rule, whichever dialect it is written in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

SYMBOLS = "prunec.symbols"
"""Key in ``Node.meta``: which entries of the node's attributes are computed, as {(attribute, entry): input}.

The entry is None where the attribute is a single number; what the attribute holds there has no meaning."""

SIZES = "operator"
"""Domain of nodes that compute sizes: the operators of Python, with the arguments ``a0``, ``a1``, ..."""

Symbols = Mapping[tuple[str, int | None], int]


Restore = Callable[[onnx_ir.Node, list[int]], tuple[str, list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A reading of a node.

    Attributes:
        attributes: the family's name of an attribute, and the node's.
        constants: attributes that the op has by definition, by the family's names.
        operands: position of an operand of the family, and the attribute of the node that holds it.
        derived: further attributes that follow from the node, by the family's names.
        restored: by the family's name of a derived attribute, the node's own name and value for a new one.
        becomes: the op that the node turns into when an operand or attribute of it is rewritten, where its
            own arguments cannot say the new sizes.
        becomes_names: the attributes of that op, by the names of those that they replace.
        drops: attributes that the node then loses.
    """

    attributes: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, int | str] = field(default_factory=dict)
    operands: Mapping[int, str] = field(default_factory=dict)
    derived: Callable[[onnx_ir.Node], Mapping[str, Any]] | None = None
    restored: Mapping[str, Restore] = field(default_factory=dict)
    becomes: str | None = None
    becomes_names: Mapping[str, str] = field(default_factory=dict)
    drops: tuple[str, ...] = ()

    def read(self, node: onnx_ir.Node) -> Mapping[str, onnx_ir.Attr]:
        """The node's attributes under the family's names; one that is computed is left out."""
        if self is PLAIN:
            return node.attributes
        computed = {name for name, _ in symbols_of(node)}
        found = {
            name: node.attributes[own]
            for name, own in self.attributes.items()
            if own in node.attributes and own not in computed
        }
        derived = self.derived(node) if self.derived is not None else {}
        for name, value in (*self.constants.items(), *derived.items()):
            found[name] = attribute_of(name, value)
        return found

    def operand(self, node: onnx_ir.Node, position: int) -> Operand | None:
        """The operand that the node holds as an attribute, None where it holds none for this position."""
        name = self.operands.get(position)
        if name is None or name not in node.attributes:
            return None
        held = node.attributes[name]
        single = held.type == onnx_ir.AttributeType.INT
        entries = [held.as_int()] if single else list(held.as_ints())
        numbers = np.array(entries, np.int64)
        return Operand(
            numbers.reshape(()) if single else numbers, tuple(sorted(self.symbols(node, position)))
        )

    def symbols(self, node: onnx_ir.Node, position: int) -> Mapping[int, int]:
        """The computed entries of an operand, and the inputs that they are."""
        name = self.operands.get(position)
        return {entry or 0: at for (own, entry), at in symbols_of(node).items() if own == name}

    def write_operand(
        self, node: onnx_ir.Node, position: int, sizes: Sequence[int], keep: Sequence[int]
    ) -> bool:
        """Put numbers into the attribute that holds an operand, but for the entries in ``keep``.

        Returns:
            Whether the node holds that operand as an attribute.
        """
        name = self.operands.get(position)
        if name is None:
            return False
        old = node.attributes.get(name)
        held = list(old.as_ints()) if old is not None and old.type == onnx_ir.AttributeType.INTS else []
        single = old is not None and old.type == onnx_ir.AttributeType.INT
        merged = [held[i] if i in keep else int(size) for i, size in enumerate(sizes)]
        rest = {key: v for key, v in symbols_of(node).items() if key[0] != name or key[1] in keep}
        self.write(node, name, merged[0] if single else merged)
        node.meta[SYMBOLS] = rest
        return True

    def write(self, node: onnx_ir.Node, name: str, value: int | list[int] | None) -> None:
        """Set an attribute of the node by its own name; None takes it away."""
        if self.becomes is not None and node.op_type != self.becomes:
            node.op_type = self.becomes
            for dropped in self.drops:
                node.attributes.pop(dropped, None)
        name = self.becomes_names.get(name, name)
        node.attributes.pop(name, None)
        if isinstance(value, int):
            node.attributes[name] = onnx_ir.AttrInt64(name, value)
        elif value is not None:
            node.attributes[name] = onnx_ir.AttrInt64s(name, value)

    def rewrite(self, node: onnx_ir.Node, name: str, value: int | list[int] | None) -> None:
        """Set an attribute by the family's name."""
        if name in self.restored and isinstance(value, list):
            self.write(node, *self.restored[name](node, value))
        else:
            self.write(node, self.attributes.get(name, name), value)


def attribute_of(name: str, value: Any) -> onnx_ir.Attr:
    """An attribute that holds a number, text, or a list of them.

    ``onnx_ir`` can find the type out itself, and takes most of an analysis' time for it.
    """
    entries = value if isinstance(value, list) else [value]
    kind = type(entries[0]) if entries else int
    if kind in _ATTRIBUTES and all(type(entry) is kind for entry in entries):
        return _ATTRIBUTES[kind][isinstance(value, list)](name, value)
    return onnx_ir.convenience.convert_attribute(name, value)


_ATTRIBUTES: Mapping[type, tuple[Callable[..., onnx_ir.Attr], Callable[..., onnx_ir.Attr]]] = {
    int: (onnx_ir.AttrInt64, onnx_ir.AttrInt64s),
    float: (onnx_ir.AttrFloat32, onnx_ir.AttrFloat32s),
    str: (onnx_ir.AttrString, onnx_ir.AttrStrings),
}


def scale_symbol(node: onnx_ir.Node, position: int, share: tuple[int, int], name: str) -> None:
    """Let a computed size of a node be ``share`` (new and old number) of what it was; nodes are put before it.

    Args:
        node: the node.
        position: the input that is the size.
        share: numerator and denominator.
        name: begins the names of the new nodes.
    """
    size = node.inputs[position]
    assert size is not None and node.graph is not None
    for op_type, number in zip(("mul", "floordiv"), share, strict=True):
        new = onnx_ir.node(op_type, [size], {"a1": number}, domain=SIZES, name=f"{name}_{op_type}")
        node.graph.insert_before(node, [new])
        size = new.outputs[0]
        size.name, size.dtype, size.shape = new.name, onnx_ir.DataType.INT64, onnx_ir.Shape(())
    node.replace_input_with(position, size)


@dataclass(frozen=True, slots=True)
class Operand:
    """Numbers that a node holds as an attribute.

    Attributes:
        numbers: the numbers, ``[]`` or ``[n]`` of int64.
        computed: the entries that are only known at run time.
    """

    numbers: NDArray[np.int64]
    computed: tuple[int, ...] = ()


def symbols_of(node: onnx_ir.Node) -> Symbols:
    """Which entries of a node's attributes are computed."""
    symbols: Symbols = node.meta.get(SYMBOLS) or {}
    return symbols


PLAIN = Form()
"""The form of an op that is read as it is written."""
