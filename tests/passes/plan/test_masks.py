"""Masks in plans: compact, exact, read strictly."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from prunec.ir.diagnostics import UserError
from prunec.passes.plan import Plan, Step, WeightMask


def plan_of(*masks: WeightMask) -> Plan:
    return Plan(
        source_name="net.onnx",
        source_sha256=None,
        pipeline="sparsify",
        steps=(Step(pass_name="sparsify", masks=masks),),
    )


@given(
    keep=arrays.arrays(bool, arrays.array_shapes(max_dims=4, max_side=7)),
    updated=st.booleans(),
    name=st.text(),
)
def test_a_mask_survives_a_file(keep: np.ndarray, updated: bool, name: str) -> None:
    plan = plan_of(WeightMask.of(name, keep, pattern="2:4", updated=updated))
    read = Plan.from_json(plan.to_json())
    assert read == plan
    (mask,) = read.steps[0].masks
    np.testing.assert_array_equal(mask.keep(), keep)
    assert mask.zeros == np.count_nonzero(~keep)


def test_a_mask_is_one_line() -> None:
    keep = np.tile([True, False], (4, 8))
    text = plan_of(WeightMask.of("w", keep, pattern="1:2")).to_json()
    (line,) = [line for line in text.splitlines() if "keep" in line]
    assert line.startswith('      {"name":"w","shape":[4,16],"pattern":"1:2","zeros":32,"keep":"')
    assert len(line) < 90


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": "no base64"}, "$.steps[0].masks[0].keep: expected compressed bits in base64"),
        ({"keep": "AAAA"}, "$.steps[0].masks[0].keep: expected compressed bits in base64"),
        (
            {"keep": packed(b"\xaa" * 7)},
            "$.steps[0].masks[0].keep: expected 64 bits in 8 bytes, got 7 bytes or more",
        ),
        (
            {"keep": packed(b"\xaa" * 10**6)},
            "$.steps[0].masks[0].keep: expected 64 bits in 8 bytes, got 9 bytes or more",
        ),
        (
            {"zeros": 31},
            "$.steps[0].masks[0].zeros: expected 32, the bits of `keep` that are 0, got 31",
        ),
        ({"updated": 1}, "$.steps[0].masks[0].updated: expected true or false, got 1"),
        ({"shape": [8, 0]}, "$.steps[0].masks[0].shape[1]: expected a whole number of at least 1, got 0"),
        (
            {"kept": ""},
            "$.steps[0].masks[0]: unknown key 'kept' (did you mean 'keep'?); known are name, shape, pattern, "
            "zeros, updated, keep",
        ),
    ],
)
def test_a_mask_is_read_strictly(change: dict[str, Any], message: str) -> None:
    mask = WeightMask.of("w", np.tile([True, False], (8, 4)), pattern="1:2")
    data = json.loads(plan_of(mask).to_json())
    data["steps"][0]["masks"][0] |= change
    with pytest.raises(UserError) as caught:
        Plan.from_json(json.dumps(data), file="plan.json")
    assert caught.value.message == message
