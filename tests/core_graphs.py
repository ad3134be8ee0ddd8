"""Small graphs in ONNX text for the tests of the core, and short ways to ask about them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx import numpy_helper

import prunec
from prunec.ir.execute import run_model
from prunec.ir.facts import Facts, infer_facts
from prunec.ir.module import Module, opset_of
from prunec.ir.registry import find_op
from prunec.ir.rule import Rule
from prunec.ir.site import Site
from prunec.passes.coupling import analyse
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.options import CouplingOptions, Unit
from prunec.passes.manager import Result

Array = NDArray[Any]


def graph(text: str, *, opset: int = 17, **arrays: Array) -> Module:
    """A module of ONNX text.

    Args:
        text: ``net (float[N,3] x) => (float[N,2] y) <float[3,2] w> { y = MatMul(x, w) }``; every declared
            value that no node computes gets weights that depend on its name and shape alone.
        opset: version of the default domain.
        arrays: initializers with these contents, in addition to the declared ones.
    """
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1, "com.acme" : 1, "ai.onnx.ml" : 3]>'
    proto = onnx.parser.parse_model(f"{header} {text}")
    made = {name for node in proto.graph.node for name in node.output}
    made |= {tensor.name for tensor in proto.graph.initializer}
    for name, array in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for value in [v for v in proto.graph.value_info if v.name not in made]:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        array = weight(value.name, *(d.dim_value for d in kind.shape.dim)).astype(dtype)
        proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        proto.graph.value_info.remove(value)
    return prunec.load(proto)


def weight(name: str, *shape: int) -> Array:
    """Normal deviates that depend on name and shape alone; positive where the name begins with ``var``."""
    draws = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return np.asarray(0.5 + np.abs(draws) if name.startswith("var") else draws, np.float32)


def rule_of(module: Module, output: str) -> Rule:
    """The rule of the node that computes a value; outputs of an op without a CPU kernel have the shapes that
    the graph declares.
    """
    facts = infer_facts(module.model)
    node = node_of(module, output)
    for value in node.outputs:
        if value.shape is not None and value.shape.is_static():
            facts.shapes.setdefault(value, tuple(value.shape.numpy()))
    op = find_op(node)
    assert op is not None, f"nobody registered {node.op_type}"
    return op.rule(Site(node, facts, opset_of(module.graph, node.domain)))


def node_of(module: Module, output: str) -> onnx_ir.Node:
    """The node that computes a value."""
    return next(n for n in module.graph if any(o.name == output for o in n.outputs))


def coupling_of(module: Module, unit: Unit = "head", facts: Facts | None = None) -> Coupling:
    """The dependency analysis of a module."""
    return analyse(module.model, facts, options=CouplingOptions(unit=unit))


def groups(module: Module, unit: Unit = "head") -> list[str]:
    """Every group in its printed form, prunable ones first."""
    return [str(g) for g in coupling_of(module, unit).groups]


def prunable(module: Module, unit: Unit = "head") -> list[str]:
    """The prunable groups in their printed form, without the word ``group``."""
    return [str(g).removeprefix("group ") for g in coupling_of(module, unit).prunable]


def reasons(module: Module) -> set[str]:
    """Why groups are frozen."""
    return {g.frozen.text for g in coupling_of(module).groups if g.frozen is not None}


def units(group: Group) -> dict[str, list[int]]:
    """Per member axis (``"w:0"``) the unit of every slot."""
    return {f"{m.name}:{m.axis}": m.units.tolist() for m in group.members}


def prune(module: Module, ratio: float = 0.5, **options: object) -> Result:
    """Run ``prune-channels`` with verification; options by their Python names."""
    given: Mapping[str, object] = {"ratio": ratio, "round_to": 1, "criterion": "l1"} | options
    text = " ".join(f"{name.replace('_', '-')}={value}" for name, value in given.items())
    return prunec.run(module, f"prune-channels{{{text}}}")


def weights(module: Module) -> dict[str, Array]:
    """The initializers by name."""
    tensors = {name: v.const_value for name, v in module.graph.initializers.items()}
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}


def ops(module: Module) -> list[str]:
    """Op types of the main graph, in order."""
    return [node.op_type for node in module.graph]


def shape_of(module: Module, name: str) -> tuple[int, ...]:
    """Shape of an initializer."""
    return tuple(weights(module)[name].shape)


def outputs(
    module: Module, feeds: Mapping[str, Array], names: Iterable[str] | None = None
) -> dict[str, Array]:
    """What a module computes."""
    return run_model(module, feeds, outputs=names)
