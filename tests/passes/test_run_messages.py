"""What ``prunec.run`` says of a user's mistakes, and what a verdict says of zeros."""

from __future__ import annotations

import warnings

import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import RemarkWarning
from prunec.passes.verifier import Verdict
from prunec.passes.verifier.sparse import MaskEvidence

NAMED = """net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] "stem.w", float[6,4,1] "body.w", float[5,6,1] "head.w">
{ a = Conv(x, "stem.w") b = Conv(a, "body.w") y = Conv(b, "head.w") }"""


def test_a_pattern_that_matches_nothing_is_warned_of() -> None:
    with pytest.warns(RemarkWarning, match="pattern 'haed' matches no node or tensor") as told:
        prunec.run(graph(NAMED), "prune-channels{ratio=50% round-to=1 ignore=haed}")
    assert [warning.filename for warning in told] == [__file__]


def test_a_pattern_of_a_layer_leaves_all_of_it_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = prunec.run(graph(NAMED), "prune-channels{ratio=50% round-to=1 ignore=head}")
    assert [group.tensors[0].name for group in result.plan.steps[0].groups] == ["stem.w"]


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (None, "expected pipeline text, a pass or a sequence of them, got None"),
        ("", "no passes in the pipeline"),
        ("# nothing", "no passes in the pipeline"),
    ],
)
def test_nothing_to_run(pipeline: str, message: str) -> None:
    with pytest.raises(prunec.UserError, match=message) as caught:
        prunec.run(graph(NAMED), pipeline)
    assert caught.value.help


def test_a_plan_that_another_pipeline_cannot_replay_says_which_can() -> None:
    module = graph(NAMED)
    twice = prunec.run(module, "repeat{times=2}(prune-channels{ratio=30% round-to=1})").plan
    assert len(twice.steps) == 2
    with pytest.raises(prunec.UserError, match="no pass of the pipeline replays") as caught:
        prunec.run(module, "prune-channels{ratio=50% round-to=1}", replay=twice)
    assert "plan.pipeline" in caught.value.help[0]
    assert prunec.run(module, twice.pipeline, replay=twice).changed


def test_masks_whose_pattern_could_not_be_counted() -> None:
    verdict = Verdict(
        error=0.0,
        batch=2,
        witnesses=0,
        pass_name="sparsify",
        values=1,
        broadcasts=0,
        equivalence="sparse",
        masks=MaskEvidence(masks=5, counted=2, weights=100, zeros=50),
    )
    assert "5 masks hold (the pattern of 3 could not be counted), 50% of 100 weights are zero" in str(verdict)
