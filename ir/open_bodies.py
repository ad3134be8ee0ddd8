"""Shapes inside the bodies that their op feeds as it sees fit, such as the decoder of a ``BeamSearch``.

Such a body is a network of its own: its inputs are as they are declared, with sizes for their symbolic
dimensions, and what inference cannot tell comes from running it by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir

from prunec.ir.diagnostics import PrunecError
from prunec.ir.scopes import walk

_MOST_SIZES = 6
"""Choices of sizes that are tried at most."""

Shapes = dict[onnx_ir.Value, tuple[int, ...]]


def size_choices(sizes: Mapping[str, int], batch: int) -> Iterator[dict[str, int]]:
    """Sizes for the symbols of a body: all alike, then one of them twice the others.

    A cache wants the latter: the length of a sequence with what is cached is that of both together.
    """
    yield dict(sizes)
    lengths = [symbol for symbol, size in sizes.items() if size != batch or batch > 1]
    for symbol in lengths[: _MOST_SIZES - 1]:
        yield {**sizes, symbol: 2 * sizes[symbol]}


def probe_shapes(
    model: onnx_ir.Model, body: onnx_ir.Graph, sizes: Mapping[str, int], wanted: list[onnx_ir.Value]
) -> Shapes:
    """Shapes that values of a body have when it runs by itself on made inputs; nothing where it does not run."""
    from prunec.ir.execute import run_model
    from prunec.ir.probes import probe_feeds

    alone = as_model(model, body)
    values = {value.name: value for value in wanted if value.name}
    if alone is None or not values:
        return {}
    try:
        arrays = run_model(alone, probe_feeds(alone, sizes=sizes), outputs=list(values))
    except PrunecError:
        return {}
    return {values[name]: array.shape for name, array in arrays.items()}


def as_model(model: onnx_ir.Model, body: onnx_ir.Graph) -> onnx_ir.Model | None:
    """A body as a model, with copies of the weights that it captures; None where it captures computed values."""
    graph = body.clone(allow_outer_scope_values=True)
    own = {*graph.inputs, *graph.initializers.values()}
    own |= {value for node in walk(graph) for value in node.outputs}
    copies: dict[onnx_ir.Value, onnx_ir.Value] = {}
    closed = True
    for node in walk(graph):
        for position, value in enumerate(node.inputs):
            if value is None or value in own:
                continue
            closed = closed and value.const_value is not None and value.is_initializer()
            if value not in copies:
                copies[value] = onnx_ir.val(value.name, const_value=value.const_value)
                own.add(copies[value])
            node.replace_input_with(position, copies[value] if closed else None)
    if not closed or {v.name for v in copies} & {v.name for v in own - set(copies.values())}:
        return None
    for copy in copies.values():
        graph.register_initializer(copy)
    graph.opset_imports.update(model.graph.opset_imports)
    return onnx_ir.Model(graph, ir_version=model.ir_version)
