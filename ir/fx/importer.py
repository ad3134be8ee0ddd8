"""A captured program (``torch.export``) as a module of the IR: one node for every call of an operator."""

from __future__ import annotations

import operator
from collections.abc import Container, Iterable, Mapping
from typing import Any

import onnx_ir
import torch
from torch import fx

from prunec.ir.diagnostics import UserError
from prunec.ir.dialect import ATEN, TIED
from prunec.ir.fx.calls import Call
from prunec.ir.fx.signature import FAKE, GRAD, SIGNATURE, STATE, Argument, Signature, State
from prunec.ir.fx.tensors import element_type, wrap
from prunec.ir.location import NAMESPACE, STACK_TRACE
from prunec.ir.module import Module, Source

OPSET = 21
"""Version of the default domain, in which passes write gathers and masks, and whose families ATen reads as."""

_REGIONS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


def import_program(
    program: torch.export.ExportedProgram, *, training: bool, source: Source | None = None
) -> Module:
    """The IR of a program that ``torch.export`` captured; it shares the program's tensors.

    Raises:
        UserError: the program calls something that the IR cannot hold.
    """
    flat = program.module()
    return Module(_Importer(flat, program, training).run(), source or Source())


class _Importer:
    def __init__(self, root: fx.GraphModule, program: torch.export.ExportedProgram, training: bool) -> None:
        self.root = root
        self.program = program
        self.training = training
        self.nodes: list[onnx_ir.Node] = []
        self.inputs: list[onnx_ir.Value] = []
        self.states: dict[str, onnx_ir.Value] = {}
        self.arguments: list[Argument] = []
        self.names: set[str] = {name for name, _ in root.named_parameters()} | {
            n for n, _ in root.named_buffers()
        }

    def run(self) -> onnx_ir.Model:
        """Walk the program once."""
        env = self._walk(self.root, {}, grad=True)
        output = next(node for node in self.root.graph.nodes if node.op == "output")
        results, outputs = self._results(output.args[0], env)
        graph = onnx_ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=list(self.states.values()),
            opset_imports={"": OPSET, ATEN: OPSET},
            name=type(self.root).__name__,
        )
        read = [
            n
            for n, v in self.states.items()
            if v.meta[STATE].kind != "literal" and (v.uses() or v in outputs)
        ]
        info = self.root.graph._codegen.pytree_info
        graph.meta[SIGNATURE] = Signature(
            names=tuple(info.orig_args),
            in_spec=info.in_spec,
            out_spec=info.out_spec,
            arguments=tuple(self.arguments),
            results=tuple(results),
            dynamic=self._dynamic(),
            training=self.training,
            tensors=tuple(read),
            aliases=_aliases(self.root, read),
        )
        return onnx_ir.Model(graph, ir_version=10)

    def _dynamic(self) -> Mapping[str, Mapping[int, str]]:
        found = {
            v.name or "": {
                a: str(d.value) for a, d in enumerate(v.shape or ()) if not isinstance(d, int) and d.value
            }
            for v in self.inputs
        }
        return {name: axes for name, axes in found.items() if axes}

    # -- nodes ------------------------------------------------------------

    def _walk(self, module: fx.GraphModule, env: dict[fx.Node, Any], *, grad: bool) -> dict[fx.Node, Any]:
        """Visit the nodes of a graph; ``env`` says what they are in the IR."""
        examples = iter(_examples(self.program))
        for node in module.graph.nodes:
            if node.op == "placeholder":
                if node not in env:
                    env[node] = self._argument(node, next(examples, None))
            elif node.op == "get_attr":
                env[node] = self._state(module, str(node.target))
            elif node.op == "call_function":
                env[node] = self._call(node, env, grad)
        return env

    def _argument(self, node: fx.Node, example: Any) -> onnx_ir.Value | None:
        if not isinstance(node.meta.get("val"), torch.Tensor):
            self.arguments.append(Argument(name=None, example=example))
            return None
        value = self._value(node.name, node.meta["val"])
        self.inputs.append(value)
        self.arguments.append(Argument(name=value.name, example=example))
        return value

    def _state(self, module: fx.GraphModule, target: str) -> Any:
        """A parameter, a buffer, a literal tensor; or a graph that a region calls."""
        owner_name, _, name = target.rpartition(".")
        owner = module.get_submodule(owner_name)
        found = getattr(owner, name)
        if not isinstance(found, torch.Tensor):
            return found
        if target not in self.states:
            self.states[target] = _state_value(owner, name, target, found)
        return self.states[target]

    def _call(self, node: fx.Node, env: dict[fx.Node, Any], grad: bool) -> Any:
        args = fx.map_arg(node.args, lambda n: env[n])
        kwargs = fx.map_arg(node.kwargs, lambda n: env[n])
        if node.target is operator.getitem:
            return args[0][args[1]]
        if getattr(node.target, "__name__", "") in _REGIONS:
            return self._region(node, args, grad)
        if _is_check(node):
            return None
        call = Call.of(node.target, args, kwargs)
        made = node.meta.get("val")
        parts = list(made) if isinstance(made, list | tuple) else [made]
        names = [node.name] if len(parts) == 1 else [f"{node.name}_{i}" for i in range(len(parts))]
        values = [self._value(name, part) for name, part in zip(names, parts, strict=True)]
        new = call.node(values, node.name)
        new.metadata_props.update(_place(node))
        if not grad:
            new.meta[GRAD] = True
        self.nodes.append(new)
        return values if isinstance(made, list | tuple) else values[0]

    def _region(self, node: fx.Node, args: Any, grad: bool) -> Any:
        """The nodes of a region without gradients, or outside of autocast, in the place of its call."""
        at = next(i for i, a in enumerate(args) if isinstance(a, fx.GraphModule))
        body, given = args[at], args[at + 1 :]
        name = getattr(node.target, "__name__", "")
        if name == "wrap_with_set_grad_enabled":
            grad = bool(args[0])
        elif args[2]:
            raise UserError(
                "the program switches autocast on inside of its graph",
                help=["capture the module without autocast, and switch it on around the call"],
            )
        places = [n for n in body.graph.nodes if n.op == "placeholder"]
        env = self._walk(body, dict(zip(places, given, strict=True)), grad=grad)
        output = next(n for n in body.graph.nodes if n.op == "output")
        return fx.map_arg(output.args[0], lambda n: env[n])

    # -- values ------------------------------------------------------------

    def _value(self, name: str, made: Any) -> onnx_ir.Value:
        """A new value of the type that the capture saw."""
        unique, number = name, 0
        while unique in self.names:
            number += 1
            unique = f"{name}__{number}"
        self.names.add(unique)
        value = self._typed(unique, made)
        value.meta[FAKE] = made
        return value

    def _typed(self, name: str, made: Any) -> onnx_ir.Value:
        if not isinstance(made, torch.Tensor):
            return onnx_ir.val(name, onnx_ir.DataType.INT64, ())
        dims = [int(d) if isinstance(d, int) else str(d) for d in made.shape]
        return onnx_ir.val(name, element_type(made.dtype), dims)

    def _results(
        self, returned: Any, env: Mapping[fx.Node, Any]
    ) -> tuple[list[tuple[int | None, Any]], list[onnx_ir.Value]]:
        """The leaves that the program returns, and the values among them."""
        outputs: list[onnx_ir.Value] = []
        results: list[tuple[int | None, Any]] = []
        for leaf in returned:
            value = env[leaf] if isinstance(leaf, fx.Node) else leaf
            if isinstance(value, onnx_ir.Value):
                if value not in outputs:
                    outputs.append(value)
                results.append((outputs.index(value), None))
            else:
                results.append((None, value))
        return results, outputs


def _examples(program: torch.export.ExportedProgram) -> Iterable[Any]:
    if program.example_inputs is None:
        return ()
    leaves: list[Any] = torch.utils._pytree.tree_leaves(program.example_inputs)
    return leaves


def _state_value(owner: torch.nn.Module, name: str, target: str, tensor: torch.Tensor) -> onnx_ir.Value:
    value = onnx_ir.val(target, const_value=wrap(tensor, target))
    shape = tuple(tensor.shape)
    if isinstance(tensor, torch.nn.Parameter):
        state = State(kind="parameter", shape=shape, trained=tensor.requires_grad)
    elif name in owner._buffers:
        lasting = name not in owner._non_persistent_buffers_set
        state = State(kind="buffer" if lasting else "transient", shape=shape)
    else:
        state = State(kind="literal", shape=shape)
    value.meta[STATE] = state
    if state.kind != "literal":
        value.meta[TIED] = True
    return value


def _aliases(root: torch.nn.Module, read: Container[str]) -> dict[str, tuple[str, ...]]:
    """The names of tied tensors that the graph does not read, by the one that it does."""
    names: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in root.state_dict(keep_vars=True).items():
        if tensor.numel():
            memory = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
            names.setdefault(memory, []).append(name)
    known = ([n for n in tied if n in read] for tied in names.values())
    return {
        first[0]: tuple(n for n in tied if n not in read)
        for first, tied in zip(known, names.values(), strict=True)
        if len(first) == 1 < len(tied)
    }


def _is_check(node: fx.Node) -> bool:
    """Whether a node only asserts something about the inputs of the capture."""
    name = getattr(node.target, "__name__", str(node.target))
    return "assert" in name or "sym_constrain_range" in name


def _place(node: fx.Node) -> dict[str, str]:
    """The user's line and the module, as :mod:`prunec.ir.location` reads them."""
    place: dict[str, str] = {}
    if trace := node.meta.get("stack_trace"):
        place[STACK_TRACE] = str(trace)
    modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    if modules:
        place[NAMESPACE] = "/".join([*(f"{path}: module" for path in modules), f"{node.name}: op"])
    return place
