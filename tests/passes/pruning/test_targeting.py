"""Targets are hit, budgets are spent where it hurts least, and what cannot be is told in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from core_graphs import graph
from generators import random_model
from hypothesis import given
from hypothesis import strategies as st

import prunec
from prunec.ir.diagnostics import UserError
from prunec.passes.prune_channels import PruneChannels
from prunec.passes.pruning.allocation import TOLERANCE, _convex
from prunec.passes.pruning.target import Target
from prunec.passes.sensitivity.budget import Damages
from prunec.passes.sensitivity.profile import GroupCurve, Point, Profile

DIGITS = prunec.load("examples/digits.onnx")
CHAIN = """net (float[N,8,8,8] x) => (float[N,10,8,8] y)
    <float[64,8,3,3] a, float[64,64,3,3] b, float[64,64,3,3] c, float[10,64,1,1] d> {
        h = Conv<pads = [1, 1, 1, 1]>(x, a)  i = Relu(h)  j = Conv<pads = [1, 1, 1, 1]>(i, b)  k = Relu(j)
        l = Conv<pads = [1, 1, 1, 1]>(k, c)  m = Relu(l)  y = Conv(m, d) }"""


def shares(result: prunec.Result) -> dict[str, float]:
    before, after = result.cost_before, result.cost_after
    return {"macs": after.macs / before.macs, "params": after.parameters / before.parameters}


def profile_of(module: prunec.Module, drops: dict[str, tuple[float | None, ...]]) -> Profile:
    """A profile whose curves, at 0.25, 0.5 and 0.75, are told by the first tensor of a group."""
    measured = prunec.sensitivity(
        module, {"x": np.zeros((4, 8, 8, 8), np.float32)}, "cosine", ratios=[0.25, 0.5, 0.75]
    )
    groups = [
        replace(
            group,
            curve=tuple(
                replace(point, value=None if drop is None else 1.0 - drop)
                for point, drop in zip(group.curve, drops[group.tensors[0][0]], strict=True)
            ),
        )
        for group in measured.groups
    ]
    return replace(measured, dense=1.0, samples=1000, groups=tuple(groups))


@pytest.mark.parametrize("target", ["macs:0.3", "macs:0.75", "params:50%"])
@pytest.mark.parametrize("more", ["", "scope=global", "round-to=1 criterion=fpgm"])
def test_a_target_is_hit(target: str, more: str) -> None:
    result = prunec.run(DIGITS, f"prune-channels{{target={target} {more}}}")
    quantity, _, share = target.partition(":")
    wanted = 0.5 if share == "50%" else float(share)
    assert shares(result)[quantity] == pytest.approx(wanted, abs=TOLERANCE)
    assert any("the target is" in remark.message for remark in result.remarks)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_come_as_close_as_they_say(seed: int) -> None:
    module = prunec.run(prunec.load(random_model(seed)), "canonicalize", verify=False).module
    try:
        result = prunec.run(module, "prune-channels{target=params:0.7 round-to=1}", verify=False)
    except UserError as error:
        assert "out of reach" in error.message or "the model has no" in error.message
        return
    told = [remark for remark in result.remarks if "the target is" in remark.message]
    close = abs(shares(result)["params"] - 0.7) <= TOLERANCE
    assert not told or (told[0].kind == "passed") == close


def test_what_hurts_is_spared(tmp_path: Path) -> None:
    module, path = graph(CHAIN), tmp_path / "profile.json"
    profile_of(module, {"a": (0.3, 0.5, 0.9), "b": (0.0, 0.1, 0.2), "c": (0.0, 0.0, 0.0)}).save(path)
    result = prunec.run(module, f"prune-channels{{budget={path} target=macs:0.4}}")
    lost = {cut.tensors[0].name: len(cut.removed) for cut in result.plan.steps[0].groups}
    assert shares(result)["macs"] == pytest.approx(0.4, abs=TOLERANCE)
    assert lost.get("a", 0) < lost["b"] <= lost["c"] < 64


def test_where_the_metric_was_no_number_nothing_goes(tmp_path: Path) -> None:
    module, path = graph(CHAIN), tmp_path / "profile.json"
    profile_of(module, {"a": (0.0, None, None), "b": (0.0, 0.0, 0.0), "c": (0.0, 0.0, 0.0)}).save(path)
    result = prunec.run(module, f"prune-channels{{budget={path} target=macs:0.25}}")
    lost = {cut.tensors[0].name: len(cut.removed) for cut in result.plan.steps[0].groups}
    assert lost["a"] < 32


def test_a_budget_reaches_a_size_without_the_loss_that_equal_shares_have(tmp_path: Path) -> None:
    with np.load("examples/digits.npz") as file:
        data = dict(file)
    path = tmp_path / "profile.json"
    prunec.sensitivity(DIGITS, data, ratios=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]).save(path)
    accuracy = {}
    for budget in ("", f"budget={path} "):
        result = prunec.run(DIGITS, f"fold-norm, prune-channels{{{budget}target=macs:0.2}}")
        assert shares(result)["macs"] == pytest.approx(0.2, abs=TOLERANCE)
        accuracy[bool(budget)] = prunec.evaluate(result.module, data).value
    assert accuracy[True] > accuracy[False] + 0.03


def test_a_replay_needs_no_profile(tmp_path: Path) -> None:
    module, path = graph(CHAIN), tmp_path / "profile.json"
    profile_of(module, dict.fromkeys("abc", (0.0, 0.1, 0.2))).save(path)
    text = f"prune-channels{{budget={path} target=params:0.5}}"
    result = prunec.run(module, text)
    path.unlink()
    again = prunec.run(module, text, replay=result.plan)
    assert again.cost_after == result.cost_after


def test_layers_that_the_profile_lacks_keep_their_channels(tmp_path: Path) -> None:
    module, path = graph(CHAIN), tmp_path / "profile.json"
    profile = profile_of(module, dict.fromkeys("abc", (0.0, 0.1, 0.2)))
    replace(profile, groups=profile.groups[1:]).save(path)
    result = prunec.run(module, f"prune-channels{{budget={path} target=macs:0.6}}")
    assert "a" not in {cut.tensors[0].name for cut in result.plan.steps[0].groups}
    assert any("says nothing about it" in (remark.reason or "") for remark in result.remarks)


def test_a_profile_of_few_samples_is_told_unasked(tmp_path: Path) -> None:
    module, path = graph(CHAIN), tmp_path / "profile.json"
    profile = profile_of(module, dict.fromkeys("abc", (0.0, 0.1, 0.2)))
    for samples in (1000, 1):
        replace(profile, samples=samples).save(path)
        result = prunec.run(module, f"prune-channels{{budget={path} target=macs:0.6}}")
        told = [r.reason for r in result.remarks if r.urgent and "no evidence" in r.message]
        assert told == (["it is of 1 sample, and so few say nothing about others"] if samples == 1 else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("budget=p.json", "a budget needs a target: what the profile says is spent until the model costs that"),
        ("target=flops:0.5", "option 'target' takes macs, params or latency, a colon, and a share between 0 and 1 (macs:0.5)"),
        ("target=macs:1.0", "option 'target' takes macs, params or latency, a colon"),
        ("target=macs:0.5 ratio=0.9", "ratio=0.9 and target=macs:0.5 are two answers to how much goes"),
        ("target=macs:0.5 ratio=0.5", "ratio=0.5 and target=macs:0.5 are two answers to how much goes"),
        ("target=macs:0.5 budget=p.json scope=global", "scope=global and a budget are two answers to which layers lose"),
        ("target=macs:0.5 budget=p.json scope=local", "scope=local and a budget are two answers to which layers lose"),
        ("target=macs:0.5 budget=nothing.json", "cannot read the profile: no such file"),
        ("target=macs:0.02 max-ratio=60%", "target=macs:0.02 is out of reach: at least 26.7% of the multiply-acc"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(options: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        prunec.run(graph(CHAIN), f"prune-channels{{{options}}}")
    assert message in str(caught.value).splitlines()[0]


def test_a_profile_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile = profile_of(graph(CHAIN), dict.fromkeys("abc", (0.0, 0.1, 0.2)))
    replace(profile, model_name="other.onnx", model_sha256="f" * 64).save(path)
    with pytest.raises(UserError) as caught:
        prunec.run(DIGITS, f"prune-channels{{budget={path} target=macs:0.5}}")
    assert "this sensitivity profile is of another model: 'other.onnx' (ffffffffffff), not" in str(
        caught.value
    )
    replace(profile, model_sha256=None).save(path)  # made in memory: its tensors tell
    with pytest.raises(UserError, match="no group of this model is in the sensitivity profile"):
        prunec.run(DIGITS, f"prune-channels{{budget={path} target=macs:0.5}}")


def test_a_profile_of_other_units_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile_of(graph(CHAIN), dict.fromkeys("abc", (0.0, 0.1, 0.2))).save(path)
    with pytest.raises(UserError, match="was made with unit=head, the pass has unit=head-dim"):
        prunec.run(graph(CHAIN), f"prune-channels{{budget={path} target=macs:0.5 unit=head-dim}}")


@pytest.mark.parametrize(("criterion", "told"), [("l1", True), ("l2", False)])
def test_a_profile_of_another_criterion_is_told(tmp_path: Path, criterion: str, told: bool) -> None:
    path = tmp_path / "profile.json"
    profile_of(graph(CHAIN), dict.fromkeys("abc", (0.0, 0.1, 0.2))).save(path)
    result = prunec.run(
        graph(CHAIN), f"prune-channels{{budget={path} target=macs:0.5 criterion={criterion}}}"
    )
    found = [r for r in result.remarks if "masked units by criterion=l2, and by criterion=l1" in r.message]
    assert bool(found) == told and all(remark.kind == "analysis" for remark in found)


def test_a_limit_below_the_usual_ratio_goes_with_a_target() -> None:
    result = prunec.run(graph(CHAIN), "prune-channels{target=macs:0.8 max-ratio=0.25 round-to=1}")
    assert shares(result)["macs"] == pytest.approx(0.8, abs=TOLERANCE)
    assert all(len(cut.removed) <= 16 for cut in result.plan.steps[0].groups)


def test_coarse_steps_that_miss_are_told_unasked() -> None:
    result = prunec.run(graph(CHAIN), "prune-channels{target=macs:0.9 round-to=32}")
    (told,) = [remark for remark in result.remarks if "the target is" in remark.message]
    assert told.kind == "missed" and told.urgent and "round-to=32" in (told.reason or "")


def test_a_target_is_written_as_it_is_read() -> None:
    pass_ = PruneChannels(target=Target("macs", 0.5), budget="profile.json")
    assert "target=macs:0.5 budget=profile.json" in str(pass_)
    assert prunec.parse_pipeline(str(pass_)).passes == (pass_,)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_damage_is_made_convex_from_below(values: list[float]) -> None:
    levels = np.arange(len(values)) * 3
    rising = np.maximum.accumulate(np.array(values))
    convex = _convex(levels, rising)
    assert (convex <= rising + 1e-9).all() and (np.diff(convex, 2) >= -1e-6).all()
    assert convex[0] == rising[0] and convex[-1] == rising[-1]


def test_curves_go_through_their_points_and_end_in_the_loss_of_everything() -> None:
    curve = GroupCurve(
        id="g1", groups=("g1",), layers=("l",), tensors=("w:0",), units=10, channels=1, macs_per_unit=1,
        parameters_per_unit=1,
        curve=(Point(ratio=0.2, removed=2, value=0.9), Point(ratio=0.5, removed=5, value=0.92)),
    )  # fmt: skip
    profile = Profile(
        model_name="n", model_sha256=None, data_name="d", samples=10**6, metric="top1", higher_is_better=True, dense=0.9,
        criterion="l2", unit="head", seed=0, version="0", groups=(replace(curve, curve=(
            Point(ratio=0.2, removed=2, value=0.88), Point(ratio=0.5, removed=5, value=0.89))),),
    )  # fmt: skip
    at = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    found = Damages(profile, profile.groups)(0, at)
    assert found[:3] == pytest.approx([0, 0.02, 0.02], abs=1e-3)
    assert found[3] > 0.5 and found[4] >= 0.9
    assert np.isinf(Damages(profile, [None])(0, at)[1:]).all()
