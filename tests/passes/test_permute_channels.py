"""The pass: what it gains, what it leaves alone, what the plan says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, weights
from coupling_graphs import coupled
from generators.recipe import Recipe, build
from generators.strategies import recipes
from hypothesis import HealthCheck, given, settings

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.manager import Result
from prunec.passes.permute_channels import PermuteChannels
from prunec.passes.plan import Plan, Step
from prunec.passes.sparsify import Sparsify
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.patterns import NM

NET = """
net (float[N,3,4,4] x) => (float[N,5,4,4] y)
<float[16,3,1,1] w0, float[16] b0, float[8,16,3,3] w1, float[8] b1, float[16,8,1,1] w2, float[5,16,1,1] w3>
{
    a0 = Conv(x, w0, b0) a = Relu(a0)
    b = Conv<pads=[1,1,1,1]>(a, w1, b1) c = Relu(b)
    d = Conv(c, w2) e = Add(a, d) y = Conv(e, w3)
}"""
MIXED = """
net (float[N,3,4] x) => (float[N,6,4] y)
<float[6,3,1] w1, float[10,3,1] w2, float[16,16,1] w3, float[16,4,1] w4, float[6,32,1] w5>
{
    a = Conv(x, w1) b = Conv(x, w2) c = Concat<axis=1>(a, b) d = Conv(c, w3) e = Relu(d)
    f = Conv<group=4>(e, w4) g = Concat<axis=1>(e, f) y = Conv(g, w5)
}"""
HEADS = """
net (float[2,6,16] x) => (float[2,6,16] y)
<float[16,16] wq, float[16,16] wk, float[16,16] wv, float[16,16] wo>
{
    q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
    q1 = Reshape(q0, s) k1 = Reshape(k0, s) v1 = Reshape(v0, s)
    q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,3,1]>(k1) v = Transpose<perm=[0,2,1,3]>(v1)
    p0 = MatMul(q, k) p = Softmax(p0) o0 = MatMul(p, v)
    o1 = Transpose<perm=[0,2,1,3]>(o0) o = Reshape(o1, t) y = MatMul(o, wo)
}"""
SPLIT = {"s": np.array([2, 6, 2, 8]), "t": np.array([2, 6, 16])}


def permuted(module: Module, options: str = "") -> Result:
    return prunec.run(module, f"permute-channels{options}")


def moved(result: Result) -> dict[str, tuple[int, ...]]:
    """What the plan moves: per tensor and axis the slots in their new order."""
    orders = (order for step in result.plan.steps for order in step.orders)
    return {f"{tensor.name}:{tensor.axis}": tensor.order for order in orders for tensor in order.tensors}


def kept(module: Module, n: int = 2, m: int = 4) -> float:
    """What an N:M pattern keeps of all layers that can have it, by plain sorting."""
    layers = find_layers(module.model, prunec.analyse(module.model).facts).layers
    stripes = [np.abs(layer.weights()).reshape(-1, m) for layer in layers if layer.shape[-1] % m == 0]
    return float(sum(np.sort(stripe, axis=1)[:, m - n :].sum() for stripe in stripes))


def test_all_weights_are_what_they_were_in_another_order() -> None:
    module = graph(NET)
    before, after = weights(module), weights(permuted(module).module)
    assert before.keys() == after.keys()
    for key, array in before.items():
        np.testing.assert_array_equal(np.sort(after[key], axis=None), np.sort(array, axis=None))


@pytest.mark.parametrize(
    ("text", "pattern"), [(NET, NM(2, 4)), (NET, NM(1, 2)), (MIXED, NM(2, 4)), (MIXED, NM(1, 2))]
)
def test_the_pattern_keeps_more_and_the_outputs_stay(text: str, pattern: NM) -> None:
    module = graph(text)
    result = prunec.run(module, PermuteChannels(for_=pattern))
    [verdict] = result.verdicts
    assert verdict.equivalence == "same"
    assert verdict.error < 1e-5
    assert kept(result.module, pattern.n, pattern.m) > kept(module, pattern.n, pattern.m)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_no_network_loses_magnitude(recipe: Recipe) -> None:
    module = prunec.load(build(recipe))
    result = prunec.run(module, PermuteChannels(for_=NM(1, 2), unit="head-dim"), seed=recipe.seed)
    assert kept(result.module, 1, 2) >= kept(module, 1, 2) * (1 - 1e-6)
    assert result.changed == any(remark.kind == "passed" for remark in result.remarks)


def test_the_remarks_say_how_good_an_order_is() -> None:
    result = permuted(graph(NET))
    residual, inner = (remark.message for remark in result.remarks)
    assert residual.startswith("group g1 (w0 and 4 more): 2:4 keeps ")
    assert inner.startswith("group g2 (w1 and 2 more): 2:4 keeps ")
    assert "(efficacy 0.0 % before, " in residual
    units = sum(len(order.order) for order in result.plan.steps[0].orders)
    counts = {name.removeprefix("permute-channels."): n for name, n in result.statistics.items()}
    assert (counts["groups"], counts["units"]) == (2, units)
    assert 0 < counts["efficacy"] <= 100


def test_the_same_seed_gives_the_same_model() -> None:
    first, second, other = (prunec.run(graph(NET), "permute-channels", seed=s) for s in (1, 1, 2))
    assert first.plan == second.plan
    assert first.plan != other.plan


def test_names_choose_groups() -> None:
    assert set(moved(permuted(graph(NET), "{only=w2}"))) == {"w1:0", "b1:0", "w2:1"} | {
        "w0:0",
        "b0:0",
        "w1:1",
        "w2:0",
        "w3:1",
    }
    assert set(moved(permuted(graph(NET), "{ignore=w3}"))) == {"w1:0", "b1:0", "w2:1"}


def test_the_same_positions_of_every_head_move_together() -> None:
    order = moved(permuted(graph(HEADS, **SPLIT), "{for=2:4 only=wo}"))["wo:0"]
    first, second = np.array(order).reshape(2, -1)
    np.testing.assert_array_equal(first + 8, second)
    whole = permuted(graph(HEADS, **SPLIT), "{unit=head}")
    assert not whole.changed
    assert [remark.message.split(" ", 2)[2] for remark in whole.remarks] == [
        "(wq and 3 more) keeps its order"
    ]


def test_a_model_with_nothing_to_reorder_says_so() -> None:
    result = permuted(coupled("plain"), "{for=2:8}")
    assert not result.changed
    [remark] = result.remarks
    assert remark.message == "no channels can be reordered in this model"
    assert "multiple of 8 input channels" in (remark.reason or "")


# -- plans ------------------------------------------------------------


def finetuned(module: Module) -> Module:
    """The same network with other weights."""
    other = module.clone()
    for name, value in other.graph.initializers.items():
        array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        if array.dtype == np.float32:
            value.const_value = onnx_ir.tensor(array * np.float32(1.01) + np.float32(0.1), name=name)
    return other


@pytest.mark.parametrize(
    "pipeline",
    [
        "permute-channels",
        "permute-channels, prune-channels{ratio=0.25 round-to=1}",
        "prune-channels{ratio=0.25 round-to=1}, permute-channels, prune-channels{ratio=0.2 round-to=1}",
        "permute-channels{for=1:2}, permute-channels",
        "permute-channels{only=nothing}, prune-channels{ratio=0.25 round-to=1}",
    ],
)
def test_a_plan_is_replayed_on_the_same_and_on_a_fine_tuned_network(pipeline: str) -> None:
    module = graph(NET)
    result = prunec.run(module, pipeline)
    plan = Plan.from_json(result.plan.to_json())
    assert plan == result.plan
    again = prunec.run(module, plan.pipeline, replay=plan)
    assert again.plan == plan
    for name, array in weights(result.module).items():
        np.testing.assert_array_equal(weights(again.module)[name], array)
    other = prunec.run(finetuned(module), plan.pipeline, replay=plan)
    assert other.plan.steps == plan.steps


def test_positions_are_those_of_the_input_file_after_a_permutation() -> None:
    module = graph(NET)
    result = prunec.run(module, "permute-channels, prune-channels{ratio=0.5 round-to=1}")
    removed = {
        tensor.name: list(tensor.removed)
        for group in result.plan.steps[1].groups
        for tensor in group.tensors
        if tensor.axis == 0
    }
    before, after = weights(module), weights(result.module)
    assert set(removed) == {"w0", "b0", "w1", "b1", "w2"}
    for name in ("b0", "b1"):
        stayed = np.delete(before[name], removed[name])
        np.testing.assert_array_equal(np.sort(after[name]), np.sort(stayed))
        assert list(after[name]) != list(stayed)  # they stand in another order


def edited(step: Step, **changes: object) -> Step:
    """A step with changes to the first tensor of its first group."""
    group, *groups = step.orders
    tensor, *tensors = group.tensors
    if changes:
        tensors = [replace(tensor, **changes), *tensors]  # type: ignore[arg-type]
    return replace(step, orders=(replace(group, tensors=tuple(tensors)), *groups))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "the plan does not fit this graph: what it moves on axis 0 of 'w0' is not all that is coupled"),
        ({"order": (1, 0)}, "the plan does not fit this graph: axis "),
        ({"order": (16, 0)}, "the plan moves index 16 of axis 0 of 'w0', which has size 16"),
        ({"axis": 4}, "the plan reorders axis 4 of 'w0', which has 4 axes"),
        ({"axis": 1, "order": (1, 0)}, "axis 1 of 'w0' cannot be reordered: graph input `x`"),
        ({"name": "w9"}, "the plan names tensor 'w9', which this graph does not have"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    module = graph(NET)
    plan = permuted(module).plan
    wrong = replace(plan, steps=(edited(plan.steps[0], **changes),))
    with pytest.raises(UserError) as caught:
        prunec.run(module, plan.pipeline, replay=wrong)
    assert caught.value.message.startswith(message)


def test_units_that_are_not_alike_are_not_exchanged_by_a_plan() -> None:
    """A channel of the one part of a concatenation in place of one of the other."""
    module = graph(MIXED)
    plan = permuted(module).plan
    groups = {tensor.name: group for group in plan.steps[0].orders for tensor in group.tensors}
    group = groups["w3"]
    [tensor] = [t for t in group.tensors if (t.name, t.axis) == ("w3", 1)]
    step = replace(plan.steps[0], orders=(replace(group, tensors=(replace(tensor, order=(9, 0)),)),))
    with pytest.raises(UserError, match="it exchanges channels that are not alike here"):
        prunec.run(module, plan.pipeline, replay=replace(plan, steps=(step,)))


# -- before sparsify ------------------------------------------------------------


def test_sparsify_reorders_first_where_it_is_asked_to() -> None:
    module = graph(NET)
    plain = prunec.run(module, "sparsify{layers=all}")
    result = prunec.run(module, "sparsify{layers=all permute}")
    assert [step.pass_name for step in result.plan.steps] == ["permute-channels", "sparsify"]
    assert [verdict.equivalence for verdict in result.verdicts] == ["same", "sparse"]
    assert kept(result.module) > kept(plain.module)
    again = prunec.run(module, result.plan.pipeline, replay=result.plan)
    assert again.plan == result.plan


def test_sparsify_hands_its_pattern_and_names_on() -> None:
    order, zeros = Sparsify(pattern=NM(1, 4), permute=True, only=("a*",), ignore=("b",)).expand()
    assert str(order) == "permute-channels{for=1:4 ignore=b only=a*}"
    assert str(zeros) == "sparsify{pattern=1:4 ignore=b only=a*}"


def test_patterns_that_no_order_helps_take_no_permutation() -> None:
    with pytest.raises(UserError, match="option 'permute' is for N:M patterns, and pattern is unstructured"):
        prunec.run(graph(NET), "sparsify{pattern=unstructured permute}")


def test_a_layer_that_has_the_pattern_keeps_it() -> None:
    result = prunec.run(graph(NET), "sparsify{layers=all only=w1}, permute-channels")
    assert set(moved(result)) == {"w1:0", "b1:0", "w2:1"}  # not the channels that w1 reads
    [layer] = [la for la in find_layers(result.module.model, prunec.analyse(result.module.model).facts).layers
               if la.value.name == "w1"]  # fmt: skip
    assert NM(2, 4).violations(layer.weights()) == 0
