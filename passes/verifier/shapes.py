"""Every shape is what the cut predicted, by two independent derivations."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from prunec.ir.dependence import behind_counts
from prunec.ir.diagnostics import VerificationError
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.proto import graphs_of, weights_of, without_weights
from prunec.ir.scopes import named
from prunec.ir.wire import SMALLEST_WEIGHT

ENDS_THE_PROCESS = ("EyeLike",)
"""Ops whose shape inference in ONNX reads the shape of an input that has none, and takes the process along."""


def check_shapes(
    pass_name: str,
    before: Module,
    after: Module,
    facts: Facts,
    predicted: Mapping[str, tuple[int, ...]],
) -> int:
    """Check a module's shapes: node by node against the prediction, then whole by ONNX's strict shape
    inference.

    Returns:
        How many values were compared.

    Raises:
        VerificationError: a shape differs, or strict inference rejects a graph whose predecessor it accepted.
    """
    counted = behind_counts(after.graph)  # how much is found there depends on the weights, too
    compared = _compare(pass_name, facts, {n: shape for n, shape in predicted.items() if n not in counted})
    error = strict_inference_error(after)
    if error is not None and strict_inference_error(before) is None:
        raise VerificationError(
            f"after `{pass_name}` ONNX's shape inference rejects the graph: {error}", code="V010"
        )
    return compared


def unchanged_shapes(before: Facts) -> dict[str, tuple[int, ...]]:
    """What a pass that removes nothing promises: every computed value that is left has the shape it had."""
    return named((v, shape) for v, shape in before.shapes.items() if not v.is_initializer())


def _compare(pass_name: str, facts: Facts, predicted: Mapping[str, tuple[int, ...]]) -> int:
    compared = 0
    for value, shape in facts.shapes.items():
        expected = predicted.get(value.name or "")
        if expected is None:
            continue
        compared += 1
        if shape != expected:
            producer = value.producer()
            where = f"`{producer.op_type}` makes" if producer is not None else "the graph has"
            raise VerificationError(
                f"{where} `{value.name}` of shape {list(shape)} after `{pass_name}`, "
                f"expected is {list(expected)}",
                code="V011",
                notes=[f"the node is `{producer.name}`"] if producer is not None and producer.name else [],
            )
    return compared


def strict_inference_error(module: Module) -> str | None:
    """What ONNX's strict shape inference has against a graph, None where it accepts it.

    Large weights become inputs of the proto that is checked, and no shape is declared in advance: a stale
    ``value_info`` would
    hide the very errors that are looked for.
    """
    large = weights_of(module.model, smallest=SMALLEST_WEIGHT)
    proto = without_weights(module.model, dict.fromkeys(large, ("-", 0)))
    for graph in graphs_of(proto.graph):
        del graph.value_info[:]
    listed = {value.name for value in proto.graph.input}
    small = []
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            small.append(tensor)
        elif tensor.name not in listed:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.input.append(value)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    _set_apart(proto.graph)
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        return str(error).strip().splitlines()[-1]
    return None


def _set_apart(graph: onnx.GraphProto) -> None:
    """Make what the ops of ``ENDS_THE_PROCESS`` compute inputs of any shape."""
    apart = [node for node in graph.node if node.op_type in ENDS_THE_PROCESS and not node.domain]
    for node in apart:
        dtype = next((a.i for a in node.attribute if a.name == "dtype"), onnx.TensorProto.FLOAT)
        graph.node.remove(node)
        graph.input.append(onnx.helper.make_tensor_value_info(node.output[0], dtype, None))
