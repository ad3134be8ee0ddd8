"""Numbers that are known before a graph runs, written into it as initializers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import Facts
from prunec.ir.scopes import fresh_name, values_in

Array = NDArray[Any]

COMPUTED = "prunec.computed"
"""Key in a tensor's metadata: folding made it from shapes and literals alone, such as an attention mask."""


def new_constant(graph: onnx_ir.Graph, name: str, array: Array | onnx_ir.TensorProtocol) -> onnx_ir.Value:
    """Register a new initializer under a name that no value has."""
    tensor = (
        array if isinstance(array, onnx_ir.TensorProtocol) else onnx_ir.tensor(np.array(array, order="C"))
    )
    value = onnx_ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def freeze_shape_arithmetic(model: onnx_ir.Model, facts: Facts) -> int:
    """Turn known numbers that data ops read into constants, so that they depend on no shape any more.

    Numbers that follow the sizes of the inputs stay computed, and so do graph outputs. Nodes that nothing
    reads any more are left for dead-code removal. ``facts`` learns about the new constants.

    Returns:
        How many constants were made.
    """
    made = 0
    taken = {value.name for value in values_in(model.graph) if value.name}
    for value in [v for v in facts.numbers if v in facts.derived and v not in facts.unstable]:
        readers = [use for use in value.uses() if not facts.is_folded(use.node)]
        if readers:
            constant = new_constant(
                model.graph, fresh_name(f"{value.name}_const", taken), facts.numbers[value]
            )
            facts.copy(value, constant)
            made += 1
            for use in readers:
                use.node.replace_input_with(use.idx, constant)
    return made
