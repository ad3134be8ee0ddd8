"""Where nothing can be pruned, the remark says why."""

from __future__ import annotations

import onnx
import pytest

import prunec

HEADER = """
<ir_version: 9, opset_import: ["" : 17, "com.acme" : 1]>
net (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {4, 3, 2, 1}>
"""
TWO_LAYERS = "{ h = MatMul (x, w) r = Relu (h) y = MatMul (r, v) }"
CUSTOM = "{ h = com.acme.Dense (x, w) y = com.acme.Dense (h, v) }"
NO_WEIGHTS = "{ y = Relu (x) }"


def reason(body: str, options: str) -> str | None:
    module = prunec.load(onnx.parser.parse_model(HEADER + body))
    result = prunec.run(module, f"prune-channels{{ratio=0.5 round-to=1 {options}}}")
    remarks = [remark for remark in result.remarks if remark.message == "nothing can be pruned in this model"]
    return remarks[0].reason if remarks else None


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        (TWO_LAYERS, "", None),
        (TWO_LAYERS, "ignore=*", "no group passes the filters `ignore` and `only`"),
        (CUSTOM, "", "op `com.acme::Dense` has no rule"),
        (NO_WEIGHTS, "", "the model has no weights"),
    ],
)
def test_reason(body: str, options: str, expected: str | None) -> None:
    assert reason(body, options) == expected
