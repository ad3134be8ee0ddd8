"""A pass that runs other passes several times."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import prunec
from prunec.ir.diagnostics import RemarkLog, UserError
from prunec.ir.load import load
from prunec.passes.analyses import Analyses
from prunec.passes.base import Context
from prunec.passes.pipeline import parse_pipeline

TEXT = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N, 5] x) => (float[N, 3] y) { h = MatMul (x, v)  r = Relu (h)  y = MatMul (r, w) }
"""
PRUNE = "prune-channels{ratio=0.5 round-to=1}"


def module() -> prunec.Module:
    proto = onnx.parser.parse_model(TEXT.replace("v)", "v)").replace("\n", " "))
    rng = np.random.default_rng(0)
    for name, shape in {"v": (5, 64), "w": (64, 3)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return load(proto)


def test_every_round_sees_what_the_round_before_left() -> None:
    result = prunec.run(module(), f"repeat{{times=3}}({PRUNE})")
    assert result.module.graph.initializers["v"].const_value.shape.numpy() == (5, 8)  # type: ignore[union-attr]
    assert [verdict.pass_name for verdict in result.verdicts] == ["prune-channels"] * 3
    assert [timing.pass_name for timing in result.timings] == ["prune-channels"] * 3
    assert [len(step.groups[0].removed) for step in result.plan.steps] == [32, 16, 8]


def test_it_is_what_writing_the_passes_out_is() -> None:
    repeated = prunec.run(module(), f"repeat{{times=2}}({PRUNE}, verify)")
    written = prunec.run(module(), f"{PRUNE}, verify, {PRUNE}, verify")
    assert repeated.plan.steps == written.plan.steps
    assert list(repeated.remarks) == list(written.remarks)


def test_a_plan_is_replayed_round_by_round() -> None:
    pipeline = f"repeat{{times=3}}({PRUNE})"
    first = prunec.run(module(), pipeline)
    again = prunec.run(module(), pipeline, replay=first.plan)
    assert again.plan.steps == first.plan.steps
    assert again.cost_after == first.cost_after


def test_rounds_nest_and_print() -> None:
    text = "repeat{times=2}(canonicalize, repeat(verify))"
    pipeline = parse_pipeline(text)
    assert str(pipeline) == text
    (outer,) = pipeline
    assert [p.name for p in outer.expand()] == ["canonicalize", *["verify"] * 3] * 2


def test_an_empty_body_does_nothing() -> None:
    assert not prunec.run(module(), "repeat()").changed


@pytest.mark.parametrize("times", ["0", "1001", "many"])
def test_times_has_bounds(times: str) -> None:
    with pytest.raises(UserError, match="option 'times' takes a whole number from 1 to 1000, got"):
        parse_pipeline(f"repeat{{times={times}}}(verify)")


def test_a_body_is_needed() -> None:
    with pytest.raises(UserError, match="pass 'repeat' needs a body in parentheses"):
        parse_pipeline("repeat{times=2}")


def test_progress_counts_the_inner_passes() -> None:
    lines: list[str] = []
    prunec.run(module(), "repeat{times=2}(verify)", progress=lines.append)
    assert lines == ["analysis", "verify (1 of 2)", "verify (2 of 2)"]


def test_it_cannot_be_run_as_one_pass() -> None:
    (repeat,) = parse_pipeline("repeat(verify)")
    with pytest.raises(TypeError, match=r"expand\(\)"):
        repeat.run(module(), Context(analyses=Analyses(module()), remarks=RemarkLog()))
