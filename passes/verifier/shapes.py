"""Every shape is what the cut predicted, by two independent derivations."""

from __future__ import annotations

from collections.abc import Mapping

from prunec.ir.dependence import behind_counts
from prunec.ir.diagnostics import VerificationError
from prunec.ir.dialect import dialect_of
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.scopes import named


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
    dialect = dialect_of(after.model)
    error = dialect.graph_error(after)
    if error is not None and dialect.graph_error(before) is None:
        raise VerificationError(f"after `{pass_name}` {error}", code="V010")
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
