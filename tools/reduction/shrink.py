"""Ways to make a model smaller, each a list of candidates from the boldest to the most timid.

A candidate counts only if it is smaller in the sense of :func:`size_of`, so that every search ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import onnx_ir

import prunec
from prunec.ir.diagnostics import PrunecError
from prunec.ir.extract import drop_unread, extract, freeze
from prunec.ir.facts import Facts, infer_facts
from prunec.ir.module import Module

Made = Callable[[], Module | None]
"""Makes a candidate; None where it cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A smaller model to try.

    Attributes:
        label: what was done to it.
        make: makes it.
    """

    label: str
    make: Made


def fixed_sizes(module: Module) -> Iterator[Candidate]:
    """Numbers in the place of symbolic sizes, and local functions inlined, so that everything is known."""
    yield Candidate(label="fix symbolic sizes", make=lambda: freeze(module, infer_facts(module.model)))


def windows(module: Module) -> Iterator[Candidate]:
    """Runs of consecutive nodes: halves, quarters, and so on, overlapping by half of their length."""
    facts, count = infer_facts(module.model), len(module.graph)
    length = count // 2
    while length >= 1:
        for start in range(0, count - length + 1, max(1, length // 2)):
            yield _part(module, set(range(start, start + length)), facts)
        length //= 2


def without_some(module: Module) -> Iterator[Candidate]:
    """All nodes but one chunk: halves, quarters, ... single nodes (Zeller and Hildebrandt, 2002: ddmin)."""
    facts, count = infer_facts(module.model), len(module.graph)
    length = count // 2
    while length >= 1:
        for start in range(0, count, length):
            yield _part(module, set(range(count)) - set(range(start, start + length)), facts)
        length //= 2


def _part(module: Module, kept: set[int], facts: Facts) -> Candidate:
    return Candidate(
        label=f"keep {len(kept)} of {len(module.graph)} nodes", make=lambda: extract(module, kept, facts)
    )


def bypassed(module: Module) -> Iterator[Candidate]:
    """One node less, what it reads in the place of what it makes, where both have one shape and type."""
    facts = infer_facts(module.model)
    for position, node in enumerate(module.graph):
        made = node.outputs[0] if len(node.outputs) == 1 else None
        for index, value in enumerate(node.inputs):
            if value is None or made is None or value.is_initializer() or facts.shape(made) is None:
                continue
            if (facts.shape(value), facts.types.get(value)) == (facts.shape(made), facts.types.get(made)):
                label = f"bypass {node.op_type}"
                yield Candidate(label=label, make=partial(_bypassed, module, position, index))


def _bypassed(module: Module, position: int, index: int) -> Module | None:
    part = module.clone()
    node = part.graph[position]
    value, made = node.inputs[index], node.outputs[0]
    if value is None or made in part.graph.outputs:
        return None
    made.replace_all_uses_with(value)
    part.graph.remove(node, safe=True)
    drop_unread(part.graph)
    return part


def fewer_outputs(module: Module) -> Iterator[Candidate]:
    """One output alone, then all but one."""
    count = len(module.graph.outputs)
    if count > 1:
        choices = [[index] for index in range(count)]
        choices += [[i for i in range(count) if i != index] for index in range(count)] if count > 2 else []
        for chosen in choices:
            yield Candidate(
                label=f"keep {len(chosen)} of {count} outputs",
                make=partial(_only, module, chosen),
            )


def _only(module: Module, chosen: Sequence[int]) -> Module:
    """The model without the other outputs, and without what only they need."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    part = module.clone()
    outputs = [part.graph.outputs[index] for index in chosen]
    part.graph.outputs.clear()
    part.graph.outputs.extend(outputs)
    RemoveUnusedNodesPass()(part.model)
    return part


def smaller_inputs(module: Module) -> Iterator[Candidate]:
    """Half of one size of one graph input, and of all sizes behind the first two of all inputs."""
    sizes = [
        (position, axis)
        for position, value in enumerate(module.graph.inputs)
        for axis, size in enumerate(value.shape or ())
        if isinstance(size, int) and size > 1
    ]
    spatial = [(position, axis) for position, axis in sizes if axis > 1]
    for axes in ([spatial] if len(spatial) > 1 else []) + [[one] for one in sizes]:
        yield Candidate(label="halve sizes of inputs", make=partial(_halved, module, axes))


def _halved(module: Module, axes: Sequence[tuple[int, int]]) -> Module:
    smaller = module.clone()
    for position, axis in axes:
        value = smaller.graph.inputs[position]
        sizes = list(value.shape or ())
        old = sizes[axis]
        sizes[axis] = max(1, old // 2) if isinstance(old, int) else old
        value.shape = onnx_ir.Shape(sizes)
    for value in (*(v for node in smaller.graph for v in node.outputs), *smaller.graph.outputs):
        value.shape = None if value.shape is None else onnx_ir.Shape([None] * len(value.shape))
    return smaller


def fewer_channels(module: Module) -> Iterator[Candidate]:
    """Half of the units of all channel groups, then of one group at a time."""
    try:
        groups = prunec.analyse(module.model).prunable
    except PrunecError:
        return
    yield Candidate(label="halve all channel groups", make=lambda: _pruned(module, ""))
    for group in groups if len(groups) > 1 else ():
        name = group.members[0].name
        yield Candidate(label=f"halve the channels of {name}", make=partial(_pruned, module, name))


def _pruned(module: Module, only: str) -> Module | None:
    from prunec.passes.prune_channels import PruneChannels

    try:
        pass_ = PruneChannels(round_to=1, only=(only,) if only else ())
        result = prunec.run(module, pass_, verify=False)
    except PrunecError:
        return None
    return result.module if result.changed else None


def size_of(module: Module) -> tuple[int, ...]:
    """What must shrink, the most important first: nodes, symbolic sizes, outputs, elements of weights and of inputs."""
    graph = module.graph
    shapes = [list(value.shape or ()) for value in graph.inputs]
    return (
        len(graph),
        sum(not isinstance(size, int) for shape in shapes for size in shape),
        len(graph.outputs),
        sum(v.const_value.size for v in graph.initializers.values() if v.const_value is not None),
        sum(prod(size for size in shape if isinstance(size, int)) for shape in shapes),
    )


STRATEGIES = (fixed_sizes, windows, fewer_outputs, without_some, bypassed, fewer_channels, smaller_inputs)
"""In the order in which they pay; the whole is repeated until none of them finds anything."""
