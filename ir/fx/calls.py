"""One call of a ``torch`` operator as a node of the IR, and back.

Tensors among the arguments are the node's inputs, in the order of the operator's schema; everything else is an
attribute under its name in the schema, defaults included. Sizes that are computed (``SymInt``) are further
inputs behind the tensors, and :data:`~prunec.ir.form.SYMBOLS` says which entry of which attribute they are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir
import torch

from prunec.ir.diagnostics import UserError
from prunec.ir.dialect import ATEN
from prunec.ir.form import SIZES, SYMBOLS, attribute_of, symbols_of
from prunec.ir.fx.signature import CAPTURED, READ

KINDS = "prunec.fx.kinds"
"""Key in ``Node.meta``: attributes that are neither integers, floats nor text, as {name: kind}."""

LISTS = "prunec.fx.lists"
"""Key in ``Node.meta``: how many inputs each argument takes that is a list of tensors, as {name: count}."""

_SYMBOLIC = ("sym_max", "sym_min", "sym_float", "sym_int", "sym_not", "sym_ite", "sym_sum")
_PYTHON_CALLS: Mapping[str, Callable[..., Any]] = {
    **{n: getattr(operator, n) for n in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow")},
    **{n: getattr(operator, n) for n in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_")},
    **{n: getattr(torch, n) for n in _SYMBOLIC if hasattr(torch, n)},
}
_PYTHON_NAMES = {call: name for name, call in _PYTHON_CALLS.items()}

_ATTENTION = "scaled_dot_product_attention.default"
_IMPLIED = {("slice.Tensor", "start"): 0, ("slice.Tensor", "end"): 2**63 - 1}
"""What an argument means that is not given."""

Make = Callable[[onnx_ir.Value], Any]


@dataclass(slots=True)
class Call:
    """The parts of a node that is being made.

    Attributes:
        domain: of the operator.
        name: of the operator, with its overload.
        inputs: values, None where an optional tensor is absent.
        attributes: literal arguments by name.
        kinds: see :data:`KINDS`.
        symbols: see :data:`~prunec.ir.form.SYMBOLS`; the input is counted behind the tensors.
        lists: see :data:`LISTS`.
    """

    domain: str
    name: str
    inputs: list[onnx_ir.Value | None] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    lists: dict[str, int] = field(default_factory=dict)
    computed: dict[tuple[str, int | None], onnx_ir.Value] = field(default_factory=dict)

    @classmethod
    def of(cls, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """Take the arguments of a call apart; tensors and computed sizes among them are values already.

        Raises:
            UserError: no operator that the IR can hold, or an argument that it cannot hold.
        """
        if isinstance(target, torch._ops.OpOverload):
            target, args = _restated(target, args)
            namespace, _, base = target._schema.name.partition("::")
            call = cls(domain=namespace, name=f"{base}.{target._schema.overload_name or 'default'}")
            for argument, value in _bound(target, args, kwargs):
                given = _IMPLIED.get((call.name, argument.name)) if value is None else value
                call._add(argument.name, str(argument.type), given)
            if call.name == _ATTENTION:
                call._state_scale()
        elif target in _PYTHON_NAMES:
            call = cls(domain=SIZES, name=_PYTHON_NAMES[target])
            for position, value in enumerate(args):
                call._add(f"a{position}", "Tensor" if isinstance(value, onnx_ir.Value) else "", value)
        else:
            raise UserError(
                f"the program calls `{getattr(target, '__name__', target)}`, which the IR cannot hold",
                help=[
                    "control flow inside the graph and functions on other objects than tensors cannot be captured"
                ],
            )
        return call

    def _add(self, name: str, kind: str, value: Any) -> None:
        if kind in ("Tensor", "Optional[Tensor]", "Tensor?"):
            if value is None or isinstance(value, onnx_ir.Value):
                self.inputs.append(value)
            else:  # a Python number where a tensor is allowed
                self.inputs.append(None)
                self._literal(name, value)
        elif "List[" in kind and "Tensor" in kind:
            entries = list(value or ())
            self.lists[name] = len(entries)
            self.inputs += entries
        else:
            self._literal(name, value)

    def _state_scale(self) -> None:
        """Write the scale of attention down: left to the call, it would follow the size of a cut head."""
        query = self.inputs[0]
        size = None if query is None or query.shape is None else query.shape[-1]
        if "scale" not in self.attributes and isinstance(size, int):
            self.attributes["scale"] = size**-0.5

    def _literal(self, name: str, value: Any) -> None:
        if value is None:
            return
        entries = list(value) if isinstance(value, list | tuple) else [value]
        single = not isinstance(value, list | tuple)
        for position, entry in enumerate(entries):
            if isinstance(entry, onnx_ir.Value):
                self.computed[name, None if single else position] = entry
                entries[position] = -1
        kind, plain = _plain(entries)
        if kind:
            self.kinds[name] = kind
        self.attributes[name] = plain[0] if single else plain

    def node(self, outputs: Sequence[onnx_ir.Value], name: str) -> onnx_ir.Node:
        """The node."""
        symbols = {at: len(self.inputs) + i for i, at in enumerate(self.computed)}
        attributes = [attribute_of(n, v) for n, v in sorted(self.attributes.items())]
        inputs = [*self.inputs, *self.computed.values()]
        node = onnx_ir.Node(self.domain, self.name, inputs, attributes, outputs=outputs, name=name)
        node.meta[SYMBOLS], node.meta[KINDS], node.meta[LISTS] = symbols, self.kinds, self.lists
        node.meta[CAPTURED] = dict(node.attributes)
        node.meta[READ] = [v and v.name for v in node.inputs]
        return node


def _restated(target: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """``narrow`` with literal numbers is a slice, which can say any cut."""
    if target is torch.ops.aten.narrow.default and all(isinstance(a, int) for a in args[1:]):
        data, axis, start, length = args
        return torch.ops.aten.slice.Tensor, (data, axis, start, start + length)
    return target, args


def _bound(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The arguments of a schema with their values; those that are not given with their defaults."""
    for position, argument in enumerate(target._schema.arguments):
        if position < len(args):
            yield argument, args[position]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]
        else:
            yield argument, argument.default_value if argument.has_default_value() else None


_TORCH_TYPES = {
    "dtype": torch.dtype,
    "device": torch.device,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


def _plain(entries: list[Any]) -> tuple[str, list[Any]]:
    """Literals as integers, floats or text, and of which kind they were (empty: these themselves)."""
    if entries and all(isinstance(e, bool) for e in entries):
        return "bool", [int(e) for e in entries]
    for kind, type_ in _TORCH_TYPES.items():
        if entries and all(isinstance(e, type_) for e in entries):
            return kind, [str(e) for e in entries]
    if all(isinstance(e, int | float | str) for e in entries):
        mixed = any(isinstance(e, float) for e in entries)
        return "", [float(e) for e in entries] if mixed else entries
    odd = next(e for e in entries if not isinstance(e, int | float | str))
    raise UserError(f"the program has an argument of type `{type(odd).__name__}`, which the IR cannot hold")


def target_of(node: onnx_ir.Node) -> Any:
    """The operator that a node calls."""
    if node.domain == SIZES:
        return _PYTHON_CALLS[node.op_type]
    base, _, overload = node.op_type.rpartition(".")
    return getattr(getattr(getattr(torch.ops, node.domain), base), overload)


def arguments_of(node: onnx_ir.Node, make: Make) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments of a node's call.

    Args:
        node: a node that :class:`Call` made, or whose attributes were rewritten since.
        make: what a value of the IR is in the arguments.
    """
    if node.domain == SIZES:
        return _python_arguments(node, make), {}
    values = iter(node.inputs)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in target_of(node)._schema.arguments:
        kind = str(argument.type)
        value: Any
        if kind in ("Tensor", "Optional[Tensor]"):
            given = next(values, None)
            value = literal_of(node, argument.name, make) if given is None else make(given)
        elif "List[" in kind and "Tensor" in kind:
            count = node.meta[LISTS].get(argument.name, 0)
            value = [None if v is None else make(v) for v in (next(values, None) for _ in range(count))]
        else:
            value = literal_of(node, argument.name, make)
        if argument.kwarg_only:
            if value is not None:
                kwargs[argument.name] = value
        else:
            args.append(value)
    return args, kwargs


def _python_arguments(node: onnx_ir.Node, make: Make) -> list[Any]:
    count = len(node.inputs) + len(node.attributes)
    values = (make(value) for value in node.inputs if value is not None)
    literals = (literal_of(node, f"a{position}", make) for position in range(count))
    return [next(values) if literal is None else literal for literal in literals]


def literal_of(node: onnx_ir.Node, name: str, make: Make) -> Any:
    """An attribute as the argument that it was, with values in place of its computed entries."""
    if name not in node.attributes:
        return None
    held = node.attributes[name].value
    kind = (node.meta.get(KINDS) or {}).get(name, "")
    entries = [_restored(e, kind) for e in (held if isinstance(held, list | tuple) else [held])]
    for (own, position), source in symbols_of(node).items():
        if own == name:
            value = node.inputs[source]
            assert value is not None
            entries[position or 0] = make(value)
    return entries if isinstance(held, list | tuple) else entries[0]


def _restored(entry: Any, kind: str) -> Any:
    if kind == "bool":
        return bool(entry)
    if kind == "device":
        return torch.device(entry)
    if kind:
        found = getattr(torch, entry.removeprefix("torch."))
        assert isinstance(found, _TORCH_TYPES[kind])
        return found
    return entry


def changes_something(node: onnx_ir.Node) -> bool:
    """Whether a node writes into one of its inputs or draws random numbers, so that it must stay where it is."""
    if node.domain in (SIZES, "") or node.op_type == "detach_.default":  # what it changes is no number
        return False
    target = target_of(node)
    return any(a.alias_info is not None and a.alias_info.is_write for a in target._schema.arguments)


def sharing_inputs(node: onnx_ir.Node, *, written: bool = False) -> list[onnx_ir.Value]:
    """The inputs whose memory the outputs of a node may share, or those alone that it writes into."""
    if node.domain in (SIZES, ""):
        return []
    values = iter(node.inputs)
    found: list[onnx_ir.Value] = []
    for argument in target_of(node)._schema.arguments:
        kind, alias = str(argument.type), argument.alias_info
        if "Tensor" not in kind:
            continue
        count = node.meta[LISTS].get(argument.name, 0) if "List[" in kind else 1
        taken = [next(values, None) for _ in range(count)]
        if alias is not None and (alias.is_write or not written):
            found += [value for value in taken if value is not None]
    return found


def is_random(node: onnx_ir.Node) -> bool:
    """Whether two runs of a node may give different results."""
    return node.domain == ATEN and torch.Tag.nondeterministic_seeded in target_of(node).tags
