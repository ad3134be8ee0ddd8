"""Steps of a plan: written, replayed in the words of the input file, refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir
import pytest
from core_graphs import coupling_of, graph, prune, weights
from coupling_graphs import GRAPHS, coupled
from generators import random_model

import prunec
from prunec.ir.diagnostics import PrunecError, UserError
from prunec.ir.module import Module
from prunec.passes.manager import Result
from prunec.passes.plan import GroupCut, Plan, Step, TensorCut
from prunec.passes.plan.steps import components_of, make_step
from prunec.passes.pruning.selection import removed_components

TWICE = "prune-channels{ratio=0.3 round-to=1}, prune-channels{ratio=0.4 round-to=1 criterion=random}"


def replayed(module: Module, plan: Plan, pipeline: str = TWICE) -> Result:
    """The plan, through its JSON text, on a module."""
    return prunec.run(module, pipeline, replay=Plan.from_json(plan.to_json()), verify=False)


def same_weights(a: Module, b: Module) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(left[n].tobytes() == right[n].tobytes() for n in left)


@pytest.mark.parametrize("name", GRAPHS)
def test_two_steps_replay_to_the_same_bytes(name: str) -> None:
    module = coupled(name)
    first = prunec.run(module, TWICE, verify=False)
    again = replayed(module, first.plan)
    assert same_weights(first.module, again.module)
    assert again.plan.steps == first.plan.steps


@pytest.mark.parametrize("seed", range(30))
def test_random_models_replay_to_the_same_bytes(seed: int) -> None:
    module = prunec.load(random_model(seed))
    first = prunec.run(module, TWICE, seed=seed, verify=False)
    assert same_weights(first.module, replayed(module, first.plan).module)


def test_indices_of_the_second_step_are_those_of_the_input_file() -> None:
    module = coupled("plain")
    result = prunec.run(
        module, "prune-channels{ratio=0.25 round-to=1}, prune-channels{ratio=0.34 round-to=1}"
    )
    first, second = ({t.name: t.removed for g in s.groups for t in g.tensors} for s in result.plan.steps)
    gone = sorted(first["w1"] + second["w1"])
    assert len(gone) == 2
    kept = np.setdiff1d(np.arange(4), gone)
    np.testing.assert_array_equal(weights(result.module)["w1"], weights(module)["w1"][kept])


def test_a_plan_may_be_replayed_after_fine_tuning() -> None:
    module = coupled("residual")
    plan = prune(module).plan
    tuned = coupled("residual")
    for value in tuned.graph.initializers.values():
        array = value.const_value.numpy() * 2 + 1  # type: ignore[union-attr]
        value.const_value = onnx_ir.tensor(array)
    after = replayed(tuned, plan, "prune-channels").module
    removed = next(t.removed for g in plan.steps[0].groups for t in g.tensors if t.name == "w0")
    kept = np.setdiff1d(np.arange(4), removed)
    np.testing.assert_array_equal(weights(after)["w0"], weights(tuned)["w0"][kept])


# -- make_step and components_of ------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_a_step_says_exactly_the_components_that_it_was_made_from(name: str) -> None:
    coupling = coupling_of(coupled(name))
    groups = coupling.prunable
    units = [np.arange(g.units // 2) for g in groups]
    step = make_step("prune-channels", groups, units)
    np.testing.assert_array_equal(components_of(step, coupling), removed_components(coupling, groups, units))


def test_groups_that_lose_nothing_are_left_out() -> None:
    coupling = coupling_of(coupled("residual"))
    step = make_step("p", coupling.prunable, [np.array([1]), np.zeros(0, np.int64)])
    assert [(g.id, g.units, g.removed, g.equivalence) for g in step.groups] == [("g1", 4, (1,), "masked")]


def test_statistics_are_said() -> None:
    coupling = coupling_of(coupled("normalised"))
    step = make_step("p", coupling.prunable, [np.array([0])])
    assert step.groups[0].equivalence == "masked-kept-statistics"


def test_uses_are_said_where_users_differ() -> None:
    coupling = coupling_of(coupled("shared zero bias"))
    step = make_step("p", coupling.prunable, [np.array([0]), np.array([1])])
    uses = [t.uses for g in step.groups for t in g.tensors if t.name == "zero"]
    assert uses == [("a:2",), ("b:2",)]


# -- plans that do not fit ------------------------------------------------------------


def step_of(*tensors: tuple[str, int, tuple[int, ...]]) -> Step:
    cuts = tuple(TensorCut(name=n, axis=a, removed=r) for n, a, r in tensors)
    group = GroupCut(id="g1", units=4, removed=(0,), equivalence="masked", tensors=cuts)
    return Step(pass_name="prune-channels", groups=(group,))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (step_of(("w11", 0, (0,))),
         "the plan names tensor 'w11', which this graph does not have (did you mean 'w1'?)"),
        (step_of(("zzzzzz", 0, (0,))), "the plan names tensor 'zzzzzz', which this graph does not have"),
        (step_of(("w1", 7, (0,))), "the plan cuts axis 7 of 'w1', which has 4 axes"),
        (step_of(("w1", 0, (4,))), "the plan removes index 4 of axis 0 of 'w1', which has size 4"),
        (step_of(("w1", 1, (0,))), "axis 1 of 'w1' cannot be cut: graph input `x`"),
        (step_of(("w2", 0, (0,))), "axis 0 of 'w2' cannot be cut: graph output `y`"),
        (step_of(("w1", 0, (0,)), ("b1", 0, (1,))),
         "the plan does not fit this graph: index 1 of axis 0 of 'w1' is coupled to a removed one"),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_says_where(step: Step, message: str) -> None:
    with pytest.raises(UserError) as caught:
        components_of(step, coupling_of(coupled("plain")))
    assert caught.value.message.startswith(message)


def test_slots_that_are_pinned_here_are_refused() -> None:
    """The first half of the channels is a graph output now."""
    text = """net (float[N,3,8] x) => (float[N,5,8] y, float[N,2,8] b) <float[4,3,1] w1, float[5,4,1] w2>
        { a = Conv(x, w1) b, c = Split<axis=1>(a) y = Conv(a, w2) }"""
    with pytest.raises(UserError, match="the plan removes slots that are pinned here: graph output `b`"):
        components_of(step_of(("w1", 0, (0,)), ("w2", 1, (0,))), coupling_of(graph(text)))


def test_another_step_of_the_plan_is_left_over() -> None:
    plan = prunec.run(coupled("residual"), TWICE).plan
    with pytest.raises(
        UserError, match="the plan has a step of `prune-channels` that no pass of the pipeline"
    ):
        replayed(coupled("residual"), plan, "prune-channels")


def test_a_step_of_another_pass_is_refused() -> None:
    plan = prune(coupled("residual")).plan
    other = replace(plan, steps=tuple(replace(s, pass_name="other") for s in plan.steps))
    with pytest.raises(UserError, match="the plan's next step is of `other`, the pipeline's next pass is"):
        replayed(coupled("residual"), other, "prune-channels")


def test_a_plan_for_another_model_is_refused() -> None:
    plan = prune(coupled("heads")).plan
    with pytest.raises(PrunecError, match="the plan names tensor 'wq'"):
        replayed(coupled("residual"), plan, "prune-channels")


def test_a_removal_that_empties_an_axis_is_refused() -> None:
    step = step_of(("w1", 0, (0, 1, 2, 3)), ("b1", 0, (0, 1, 2, 3)), ("w2", 1, (0, 1, 2, 3)))
    with pytest.raises(UserError, match="the plan removes all 4 slots of axis 0 of 'w1'"):
        components_of(step, coupling_of(coupled("plain")))
