"""Passes that prune and then break the result in one definite way: what the verifier must catch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import onnx_ir
from core_graphs import Array, node_of, weights

from prunec.ir.module import Module
from prunec.ir.op import Op
from prunec.ir.rule import Rule
from prunec.ir.site import Site
from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.prune_channels import PruneChannels

Fault = Callable[[Module, Module], None]
"""Breaks the second module; the first is the module before the cut."""


def put(module: Module, name: str, array: Array) -> None:
    """Give an initializer another content."""
    value = module.graph.initializers[name]
    value.const_value = onnx_ir.tensor(np.ascontiguousarray(array), name=name)
    value.shape = onnx_ir.Shape(array.shape)


def edited(name: str, edit: Callable[[Array], Array]) -> Callable[[Module], None]:
    """A fault that edits one weight."""
    return lambda module: put(module, name, edit(weights(module)[name].copy()))


def swap_relu(module: Module) -> None:
    """A fault that makes a Sigmoid of the node of `b`."""
    node_of(module, "b").op_type = "Sigmoid"


def armed(
    kind: type[Pass], options: Mapping[str, object] = MappingProxyType({}), **faults: Callable[..., object]
) -> Pass:
    """A pass of a kind that commits these faults; each is a class variable of the kind."""
    members = {"__slots__": (), **{name: staticmethod(fault) for name, fault in faults.items()}}
    made: Pass = type("Chosen", (kind,), members)(**options)
    return made


def change(name: str, edit: Callable[[Array], Array]) -> Fault:
    """A fault that edits one weight of the pruned module."""
    return lambda before, after: edited(name, edit)(after)


def restore(name: str) -> Fault:
    """A fault that forgets to cut one tensor."""
    return lambda before, after: put(after, name, weights(before)[name])


def attribute(output: str, name: str, value: int) -> Fault:
    """A fault that leaves an integer attribute of a node wrong."""

    def fault(before: Module, after: Module) -> None:
        node_of(after, output).attributes[name] = onnx_ir.AttrInt64(name, value)

    return fault


def bypass(output: str) -> Fault:
    """A fault that drops a node: its readers read its input."""

    def fault(before: Module, after: Module) -> None:
        node = node_of(after, output)
        source = node.inputs[0]
        assert source is not None
        node.outputs[0].replace_all_uses_with(source)
        after.graph.remove(node, safe=True)

    return fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Saboteur(Pass):
    """Prune, then break something; ``blind`` predicts no shapes, so that the other checks must find it."""

    name: ClassVar[str] = "sabotage"
    contract: ClassVar[Contract] = "masked"
    fault: ClassVar[Fault]
    blind: bool = option(False, help="predict nothing")
    ratio: float = option(0.5, help="share to remove")

    def run(self, module: Module, context: Context) -> Outcome:
        before = module.clone()
        outcome = PruneChannels(ratio=self.ratio, round_to=1, criterion="l1").run(module, context)
        assert outcome.changed
        self.fault(before, module)
        return replace(outcome, predicted={}) if self.blind else outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriter(Pass):
    """Claims to change nothing that the model computes."""

    name: ClassVar[str] = "rewrite"
    fault: ClassVar[Fault]

    def run(self, module: Module, context: Context) -> Outcome:
        self.fault(module.clone(), module)
        return Outcome(changed=True)


def saboteur(fault: Fault, *, blind: bool = False, ratio: float = 0.5) -> Pass:
    """A pass that prunes and then commits this fault."""
    return armed(Saboteur, {"blind": blind, "ratio": ratio}, fault=fault)


def rewriter(fault: Fault) -> Pass:
    """A pass that commits this fault and claims that nothing changed."""
    return armed(Rewriter, fault=fault)


def mutant(op: Op, change_rule: Callable[[Rule], Rule]) -> Op:
    """An op family whose rule is slightly wrong."""
    family = type(op)

    class Mutant(family):  # type: ignore[misc, valid-type]
        __slots__ = ()

        def rule(self, site: Site) -> Rule:
            return change_rule(family.rule(self, site))

    mutated: Op = Mutant(**{f.name: getattr(op, f.name) for f in fields(op)})
    return mutated
