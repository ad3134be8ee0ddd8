"""What stands around the ops of a model: local functions, overridable initializers, dead code, imports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir
from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass

from prunec.ir.control import make_names_unique
from prunec.ir.dialect import dialect_of
from prunec.ir.module import opset_of
from prunec.ir.registry import find_op
from prunec.ir.scopes import bodies, walk


def inline_functions(model: onnx_ir.Model, *, ruled: bool = True) -> int:
    """Put the bodies of local functions in the place of their calls.

    A function stays that is written for another version of some domain, that is called with a graph as an
    attribute, or that takes part in a recursion.

    Args:
        model: changed in place.
        ruled: also functions that have a rule of their own, which tells more than their nodes.

    Returns:
        How many functions are gone.
    """
    if not model.functions:
        return 0
    nodes = list(_all_nodes(model))
    kept = {n.op_identifier() for n in nodes if bodies(n) or (not ruled and find_op(n) is not None)}

    def fits(function: onnx_ir.Function) -> bool:
        imports = model.graph.opset_imports
        same = all(imports.get(d, version) == version for d, version in function.opset_imports.items())
        return same and function.identifier() not in kept

    before = len(model.functions)
    try:
        InlinePass(criteria=fits)(model)
    except onnx_ir.passes.PreconditionError:  # a recursion
        return 0
    make_names_unique(
        model.graph, opset_of(model.graph, "")
    )  # every call brings the names of the function's bodies
    return before - len(model.functions)


def drop_overridable_initializers(model: onnx_ir.Model) -> int:
    """Take initializers out of the graph inputs, so that no caller can override them; returns how many."""
    graph = model.graph
    listed = [value for value in graph.inputs if value.is_initializer()]
    if listed:
        open_inputs = [value for value in graph.inputs if not value.is_initializer()]
        graph.inputs.clear()
        graph.inputs.extend(open_inputs)
        model.ir_version = max(4, model.ir_version)  # version 3 wants every initializer listed
    return len(listed)


def remove_dead_code(model: onnx_ir.Model) -> Counter[str]:
    """Remove nodes, outputs, initializers, functions and opset imports that nothing needs; counts by kind."""
    before = _census(model)
    remove_unused_nodes(model)
    RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    _remove_unused_imports(model)
    return before - _census(model)


def remove_unused_nodes(model: onnx_ir.Model) -> None:
    """Remove nodes and initializers that nothing needs, inside bodies too."""
    dialect_of(model).remove_unused_nodes(model)


def _census(model: onnx_ir.Model) -> Counter[str]:
    nodes = list(walk(model.graph))
    return Counter(
        {
            "dead nodes removed": len(nodes),
            "dead values removed": sum(len(n.outputs) for n in nodes) + len(model.graph.initializers),
            "unused functions removed": len(model.functions),
            "unused imports removed": len(model.graph.opset_imports),
        }
    )


def _remove_unused_imports(model: onnx_ir.Model) -> None:
    used = {"", "ai.onnx", *(node.domain for node in _all_nodes(model))}
    used.update(function.domain for function in model.functions.values())
    for domain in set(model.graph.opset_imports) - used:
        del model.graph.opset_imports[domain]


def _all_nodes(model: onnx_ir.Model) -> Iterator[onnx_ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
