"""The hash of a model: another one for whatever changes what is computed, the same for all else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import prunec
from prunec.ir.fingerprint import fingerprint

TEXT = """
<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
net (float[N,4] x, bool c) => (float[N,4] y) <float[4,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}> {
    [of_it] a = Gemm <alpha = 2.0> (x, w)
    b = own.twice (a)
    d = Sub (a, b)
    y = If (c) <then_branch = t () => (float[N,4] p) { s = Constant <value = float[1] {3.0}> () p = Mul (d, s) },
        else_branch = e () => (float[N,4] q) { q = Neg (d) }>
}
<domain: "own", opset_import: ["" : 18]> twice (u) => (v) { v = Add (u, u) }
"""
CHANGES = {
    "a weight": ("15,16}", "15,17}"),
    "an attribute": ("alpha = 2.0", "alpha = 2.5"),
    "the order of inputs": ("Sub (a, b)", "Sub (b, a)"),
    "an op of a body": ("q = Neg", "q = Abs"),
    "a constant of a body": ("{3.0}", "{4.0}"),
    "a function": ("Add (u, u)", "Mul (u, u)"),
    "an operator set": ('["" : 18, "own"', '["" : 17, "own"'),
    "the shape of an input": ("(float[N,4] x", "(float[7,4] x"),
}


def of(text: str, *, weights: bool = True) -> str:
    return fingerprint(prunec.load(onnx.parser.parse_model(text)).model, weights=weights)


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_changes_the_results_changes_the_hash(change: tuple[str, str]) -> None:
    assert change[0] in TEXT
    assert of(TEXT) != of(TEXT.replace(*change))
    assert of(TEXT) == of(TEXT.replace("[of_it]", "[of_that]"))


def test_shapes_alone_on_request() -> None:
    for name in ("a weight", "a constant of a body"):
        assert of(TEXT, weights=False) == of(TEXT.replace(*CHANGES[name]), weights=False)
    assert of(TEXT, weights=False) != of(TEXT.replace(*CHANGES["an attribute"]), weights=False)


def test_weights_beside_the_model_count(tmp_path: Path) -> None:
    """The hash of the main file does not see them."""
    model = onnx.parser.parse_model(TEXT)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight), weight.name))  # as bytes
    path, data = tmp_path / "net.onnx", tmp_path / "net.data"
    onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=0)
    before = prunec.load(path)
    found = fingerprint(before.model)
    content = bytearray(data.read_bytes())
    content[:4] = np.float32(99).tobytes()
    data.with_suffix(".new").write_bytes(content)
    data.with_suffix(".new").replace(data)
    after = prunec.load(path)
    assert before.source.sha256 == after.source.sha256
    assert found != fingerprint(after.model)
