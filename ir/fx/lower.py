"""A module of the dialect as a ``torch.fx.GraphModule`` with real parameters."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir
import torch
from torch import fx
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo

from prunec.ir.fx.calls import arguments_of, target_of
from prunec.ir.fx.modes import Switchable
from prunec.ir.fx.signature import GRAD, STATE, Signature, State, signature_of
from prunec.ir.fx.tensors import unwrap


def lower(model: onnx_ir.Model, *, outputs: Sequence[str] | None = None, copy: bool = True) -> fx.GraphModule:
    """Make a module that computes what the graph computes.

    Args:
        model: the graph.
        outputs: names of values to return as a dict, of which arguments are then given flat, one a graph
            input; None keeps the program's own signature.
        copy: give the module tensors of its own; otherwise it shares those of the graph.
    """
    return _Lowering(model, outputs, copy).run()


def lower_switchable(model: onnx_ir.Model) -> Switchable:
    """A module with tensors of its own, whose training and evaluation modes can be switched."""
    lowered = lower(model)
    return Switchable(lowered, lowered.graph, signature_of(model).training)


class _Lowering:
    def __init__(self, model: onnx_ir.Model, outputs: Sequence[str] | None, copy: bool) -> None:
        self.model = model
        self.outputs = outputs
        self.copy = copy
        self.root = torch.nn.Module()
        self.graph = fx.Graph()
        self.env: dict[onnx_ir.Value, fx.Node] = {}

    def run(self) -> fx.GraphModule:
        """Build the graph in order."""
        signature = signature_of(self.model)
        self._placeholders(signature)
        outside: fx.Node | None = None  # the caller's mode, while gradients are off
        for node in self.model.graph:
            outside = self._switch_gradients(off=GRAD in node.meta, outside=outside)
            self._node(node)
        self._switch_gradients(off=False, outside=outside)
        if self.outputs is None:
            self.graph.output(self._returned(signature))
            self.graph.set_codegen(_codegen(signature))
        else:
            made = {v.name: v for n in self.model.graph for v in n.outputs}
            made |= {v.name: v for v in self.model.graph.inputs}
            made |= {v.name: v for v in self.model.graph.initializers.values()}
            self.graph.output({name: self._made(made[name]) for name in self.outputs})
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph)

    def _switch_gradients(self, *, off: bool, outside: fx.Node | None) -> fx.Node | None:
        if off and outside is None:
            outside = self.graph.call_function(torch.is_grad_enabled)
            self.graph.call_function(torch._C._set_grad_enabled, (False,))
            return outside
        if not off and outside is not None:
            self.graph.call_function(torch._C._set_grad_enabled, (outside,))
            return None
        return outside

    def _placeholders(self, signature: Signature) -> None:
        values = {value.name: value for value in self.model.graph.inputs}
        for position, argument in enumerate(signature.arguments):
            if argument.name is not None:
                self.env[values[argument.name]] = self.graph.placeholder(argument.name)
            elif self.outputs is None:
                self.graph.placeholder(f"constant_{position}")

    def _returned(self, signature: Signature) -> tuple[Any, ...]:
        outputs = self.model.graph.outputs
        return tuple(
            constant if at is None else self._made(outputs[at]) for at, constant in signature.results
        )

    def _made(self, value: onnx_ir.Value) -> fx.Node:
        """The fx node of a value; a constant is fetched at its first use."""
        if value not in self.env:
            assert value.name is not None
            self._own(value)
            self.env[value] = self.graph.get_attr(value.name)
        return self.env[value]

    def _node(self, node: onnx_ir.Node) -> None:
        if node.domain == "":
            target, args, kwargs = standard_call(node, self._made)
        else:
            args, kwargs = arguments_of(node, self._made)
            target = target_of(node)
        made = self.graph.create_node("call_function", target, tuple(args), kwargs, name=node.name)
        if len(node.outputs) == 1 and not _returns_list(target):
            self.env[node.outputs[0]] = made
            return
        for position, value in enumerate(node.outputs):
            self.env[value] = self.graph.call_function(operator.getitem, (made, position))

    def _own(self, value: onnx_ir.Value) -> None:
        """Give the module a parameter or buffer under the name of a constant."""
        assert value.name is not None and value.const_value is not None
        state: State = value.meta.get(STATE) or State(kind="literal")
        tensor = unwrap(value.const_value)
        if self.copy:
            tensor = tensor.clone()
        if state.kind == "parameter":
            tensor = torch.nn.Parameter(tensor, requires_grad=state.trained)
        for other in (value.name, *signature_of(self.model).aliases.get(value.name, ())):
            self._register(other, tensor, lasting=state.kind == "buffer")
            if other != value.name:
                self.graph.get_attr(other)  # nothing reads it, but a graph module keeps no other attributes

    def _register(self, path: str, tensor: torch.Tensor, *, lasting: bool) -> None:
        owner_path, _, name = path.rpartition(".")
        owner = self.root
        for part in owner_path.split(".") if owner_path else ():
            if not hasattr(owner, part):
                owner.add_module(part, torch.nn.Module())
            owner = getattr(owner, part)
        if isinstance(tensor, torch.nn.Parameter):
            owner.register_parameter(name, tensor)
        else:
            owner.register_buffer(name, tensor, persistent=lasting)


def _codegen(signature: Signature) -> _PyTreeCodeGen:
    return _PyTreeCodeGen(_PyTreeInfo(list(signature.names), signature.in_spec, signature.out_spec))


def _returns_list(target: Any) -> bool:
    """Whether a call returns its single result in a list."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    returns = target._schema.returns
    return len(returns) != 1 or "List[" in str(returns[0].type)


def standard_call(node: onnx_ir.Node, make: Any) -> tuple[Any, list[Any], dict[str, Any]]:
    """The few ops of ONNX that passes insert, in terms of torch."""
    values = [make(value) for value in node.inputs if value is not None]
    aten = torch.ops.aten
    calls: Mapping[str, tuple[Any, list[Any]]] = {
        "Gather": (aten.index_select.default, [values[0], node.attributes.get_int("axis", 0), *values[1:]]),
        "Mul": (aten.mul.Tensor, values),
    }
    target, args = calls[node.op_type]
    return target, args, {}
