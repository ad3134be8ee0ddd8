"""No op of ONNX or ONNX Runtime is forgotten: it has a rule, a reason to be left alone, or another place that reads it."""

from __future__ import annotations

import onnx
import onnx_ir
import pytest
from core_graphs import graph, reasons
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from prunec.ir.ops.refused import Refused
from prunec.ir.registry import OPS, find_op

READ_ELSEWHERE = {"Constant", "If", "Loop", "Scan"}
"""Constants are facts; control flow is what the analysis makes of nested graphs."""


def registered(domain: str) -> set[str]:
    """Names of all ops of a domain that are known."""
    assert find_op(onnx_ir.node("Relu", [])) is not None  # fills the registry
    return {name for place, name in OPS if place == domain}


def test_every_op_of_onnx_is_known() -> None:
    schemas = onnx.defs.get_all_schemas_with_history()
    assert {s.name for s in schemas if s.domain == ""} - registered("") - READ_ELSEWHERE == set()


def test_every_op_of_the_contrib_domain_is_known() -> None:
    schemas = runtime.get_all_operator_schema()
    assert {s.name for s in schemas if s.domain == "com.microsoft"} - registered("com.microsoft") == set()


def test_a_reason_is_a_line_for_people() -> None:
    assert registered("")
    for op in OPS.values():
        if isinstance(op, Refused):
            assert op.reason[0].islower() and op.reason[-1] not in ".!"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("s = SequenceConstruct(a) b = ConcatFromSequence<axis=1>(s)", "it handles a sequence of tensors"),
        ("o = Optional(a) b = OptionalGetElement(o)", "it handles a tensor that may be absent"),
    ],
)
def test_values_that_are_no_tensors_do_not_hide_the_reason(nodes: str, reason: str) -> None:
    module = graph(f"net (float[2,3,4] x) => (float[2,3,4] y) <float[6,3,1] w, float[3,6,1] v> "
                   f"{{ a = Conv(x, w) {nodes} y = Conv(b, v) }}")  # fmt: skip
    assert any(reason in text for text in reasons(module)), reasons(module)
