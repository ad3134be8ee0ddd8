"""`sparsify` on layers of every kind: valid masks on the right axis, everything else as it was, replay, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from core_graphs import graph, weights
from generators.recipe import Recipe, build
from generators.strategies import recipes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nm_counter import crowded, readers_of, summed_runs
from sabotage import put
from sparse_graphs import CASES

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.execute import run_model
from prunec.ir.probes import probe_feeds
from prunec.passes.manager import Result
from prunec.passes.pipeline import Pipeline
from prunec.passes.plan import Plan
from prunec.passes.sparsify import Sparsify

WIDE = (
    "net (float[N,64] x) => (float[N,256] y) <float[64,256] narrow, float[256,256] wide, float[256,256] odd> "
    "{ a = MatMul(x, narrow) b = MatMul(a, wide) y = MatMul(b, odd) }"
)

UNCOUNTED = ("Attention", "Einsum", "GRU", "LSTM", "RNN")
"""Ops whose sums the plain loops do not know."""


def missed(result: Result) -> list[tuple[str, str | None]]:
    return [(r.message, r.reason) for r in result.remarks if r.kind == "missed"]


def check_masks(result: Result, n: int, m: int) -> None:
    """Every masked weight follows N:M for each op that reads it, by the count of plain loops."""
    for mask in result.plan.steps[-1].masks:
        readers = readers_of(result.module, mask.name)
        assert readers
        for node in readers:
            if node.op_type not in UNCOUNTED:
                assert list(summed_runs(node)), node.op_type
            assert crowded(summed_runs(node), n, m) == 0, (mask.name, node.op_type)


@given(
    name=st.sampled_from([name for name, case in CASES.items() if case.shape[-1] % 4 == 0]),
    pattern=st.sampled_from([(2, 4), (1, 4), (3, 4), (1, 2)]),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_layers_of_every_kind_get_valid_masks(name: str, pattern: tuple[int, int]) -> None:
    n, m = pattern
    module = CASES[name].module
    before = weights(module)
    result = prunec.run(module, f"sparsify{{pattern={n}:{m} layers=all}}")
    (mask,) = result.plan.steps[0].masks
    check_masks(result, n, m)
    after = weights(result.module)
    np.testing.assert_array_equal(after["w"][mask.keep()], before["w"][mask.keep()])
    assert mask.zeros == mask.keep().size * (m - n) // m
    assert {k: v for k, v in after.items() if k != "w"}.keys() == before.keys() - {"w"}
    for other in before.keys() - {"w"}:
        np.testing.assert_array_equal(after[other], before[other])
    assert result.verdicts[0].masks is not None
    assert result.verdicts[0].masks.counted == 1
    np.testing.assert_equal(weights(module), before)


@given(recipe=recipes(max_steps=6), ratio=st.sampled_from([0.0, 0.3, 0.5]))
@settings(
    deadline=None,
    max_examples=30,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_random_networks_are_pruned_and_then_sparsified(recipe: Recipe, ratio: float) -> None:
    module = prunec.load(build(recipe))
    text = f"prune-channels{{ratio={ratio} round-to=4}}, sparsify{{pattern=1:2 layers=all}}"
    result = prunec.run(module, text)
    if result.plan.steps and result.plan.steps[-1].masks:
        check_masks(result, 1, 2)
    again = prunec.run(module, text, replay=result.plan)
    assert again.plan == result.plan
    np.testing.assert_equal(weights(again.module), weights(result.module))


def test_the_largest_of_four_input_channels_stay() -> None:
    w = np.array([[1, -4, 3, 2, 0.5, 0.25, -0.5, -1]], np.float32)
    module = graph("net (float[N,8] x) => (float[N,1] y) { y = Gemm<transB = 1>(x, w) }", w=w)
    result = prunec.run(module, "sparsify{layers=all}")
    np.testing.assert_array_equal(weights(result.module)["w"], [[0, -4, 3, 0, 0.5, 0, 0, -1]])


def test_the_share_of_a_layer_and_of_all_layers() -> None:
    small, large = np.full((4, 4), 0.1, np.float32), np.full((4, 4), 9, np.float32)
    small += np.arange(16).reshape(4, 4) / 1000
    large += np.arange(16).reshape(4, 4) / 1000
    text = "net (float[N,4] x) => (float[N,4] y) { a = MatMul(x, small) y = MatMul(a, large) }"
    module = graph(text, small=small, large=large)

    def zeros(options: str) -> dict[str, int]:
        result = prunec.run(module, f"sparsify{{pattern=unstructured {options}}}")
        return {name: int((array == 0).sum()) for name, array in weights(result.module).items()}

    assert zeros("") == {"small": 8, "large": 8}
    assert zeros("ratio=25%") == {"small": 4, "large": 4}
    assert zeros("ratio=25% scope=global") == {"small": 8, "large": 0}


def test_blocks_go_as_a_whole() -> None:
    module = graph("net (float[N,8] x) => (float[N,8] y) <float[8,8] w> { y = Gemm<transB = 1>(x, w) }")
    result = prunec.run(module, "sparsify{pattern=block:2x4 ratio=50%}")
    array = weights(result.module)["w"]
    blocks = [array[r : r + 2, c : c + 4] for r in range(0, 8, 2) for c in range(0, 8, 4)]
    assert sorted(int((block == 0).sum()) for block in blocks) == [0] * 4 + [8] * 4
    assert str(result.verdicts[0]).startswith("sparsify: 1 mask holds, 50% of 64 weights are zero")


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ("", ["wide", "odd"]),
        ("layers=eligible", ["narrow", "wide", "odd"]),
        ("layers=eligible ignore=narrow", ["wide", "odd"]),
        ("only=w*", ["wide"]),
        ("pattern=4:8", ["narrow", "wide", "odd"]),
    ],
)
def test_which_layers_are_taken(options: str, taken: list[str]) -> None:
    result = prunec.run(graph(WIDE), f"sparsify{{{options}}}", verify=False)
    assert [mask.name for mask in result.plan.steps[0].masks] == taken


def test_a_layer_that_stays_dense_says_why_and_what_helps() -> None:
    result = prunec.run(graph(WIDE), "sparsify", verify=False)
    (remark,) = [r for r in result.remarks if r.kind == "missed"]
    assert str(remark) == (
        "remark[missed]: sparsify: layer `a` stays dense\n"
        "  = reason: too small to profit: 64 summed inputs, below 256\n"
        "  = help: `layers=eligible` takes it"
    )


def test_a_pattern_that_does_not_divide_the_channels() -> None:
    module = graph("net (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }")
    result = prunec.run(module, "sparsify{layers=all}")
    assert not result.changed
    assert missed(result) == [
        ("layer `y` stays dense", "6 input channels are no multiple of 4"),
        ("no layer of this model is sparsified", "the pattern divides the channels of none"),
    ]
    with pytest.raises(UserError) as caught:
        prunec.run(module, "sparsify{strict}")
    assert str(caught.value) == (
        "error: layer `y` cannot be 2:4: 6 input channels are no multiple of 4\n"
        "  = help: leave it out with `ignore=`, or leave `strict` out"
    )


def test_weights_that_are_not_finite_have_no_order() -> None:
    w = np.full((8, 4), np.nan, np.float32)
    module = graph("net (float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }", w=w)
    result = prunec.run(module, "sparsify{layers=all}")
    assert missed(result)[0] == ("layer `y` stays dense", "its weights are not all finite")


def test_a_weight_that_is_no_layer_is_remarked() -> None:
    module = graph("net (int64[N] n) => (float[N,8] y) <float[8,8] w> { a = Gather(w, n) y = MatMul(a, w) }")
    result = prunec.run(module, "sparsify{layers=all only=w,v}")
    assert missed(result) == [
        ("weight `w` is left as it is", "`Gather` `a` reads it too"),
        ("pattern 'v' matches no node or tensor", "no such name in the graph"),
        ("no layer of this model is sparsified", "it has no contraction with a stored weight"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sparsify{pattern=4:2}",
            "error: <pipeline>:1:18: option 'pattern' takes a pattern: N:M with 0 < N < M, such as 2:4; "
            "unstructured; or block:RxC, such as block:4x4, got '4:2'\n"
            "  1 | sparsify{pattern=4:2}\n"
            "    |                  ^^^",
        ),
        (
            "sparsify{ratio=40%}",
            "error: <pipeline>:1:1: pattern 2:4 leaves no room for option 'ratio'\n"
            "  1 | sparsify{ratio=40%}\n"
            "    | ^^^^^^^^\n"
            "  = help: leave `ratio` out, or take `pattern=unstructured` or `pattern=block:RxC`",
        ),
        (
            "sparsify{scope=global}",
            "error: <pipeline>:1:1: pattern 2:4 leaves no room for option 'scope=global'\n"
            "  1 | sparsify{scope=global}\n"
            "    | ^^^^^^^^\n"
            "  = help: leave `scope=global` out, or take `pattern=unstructured` or `pattern=block:RxC`",
        ),
    ],
)
def test_options_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        prunec.run(graph(WIDE), text)
    assert str(caught.value) == message


def test_the_text_of_the_pass_is_canonical() -> None:
    assert str(Sparsify()) == "sparsify"
    text = "sparsify{pattern=block ratio=0.25 scope=global layers=all}"
    (made,) = Pipeline.of(text)
    assert str(made) == "sparsify{pattern=block:4x4 ratio=0.25 scope=global layers=all}"


# -- replay --------------------------------------------------------------------


def test_a_plan_makes_the_same_zeros_in_other_weights() -> None:
    first, second = graph(WIDE), graph(WIDE)
    plan = Plan.from_json(prunec.run(first, "sparsify", verify=False).plan.to_json())
    array = np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)
    put(second, "wide", array)
    result = prunec.run(second, "sparsify", replay=plan)
    assert result.plan.steps == plan.steps
    mask = plan.steps[0].masks[0]
    np.testing.assert_array_equal(weights(result.module)["wide"], np.where(mask.keep(), array, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"name": "wade"},
            "the plan masks weight 'wade', which no layer of this graph has (did you mean 'wide'?)",
        ),
        ({"name": "narrow"}, "the plan masks weight 'narrow' of shape [256, 256], here it has [64, 256]"),
        ({"pattern": "3:2"}, "the plan has an unknown pattern '3:2'"),
        (
            {"pattern": "1:4"},
            "the plan's mask of 'wide' is not 1:4: 16,384 places of the mask break the pattern",
        ),
        ({"pattern": "1:3"}, "the plan's mask of 'wide' is not 1:3: 256 input channels are no multiple of 3"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change: dict[str, str], message: str) -> None:
    data = json.loads(prunec.run(graph(WIDE), "sparsify{only=wide}", verify=False).plan.to_json())
    data["steps"][0]["masks"][0] |= change
    with pytest.raises(UserError) as caught:
        prunec.run(graph(WIDE), "sparsify", replay=Plan.from_json(json.dumps(data)))
    assert caught.value.message == message


def test_the_sparse_model_computes_what_the_masked_weights_say() -> None:
    module = graph("net (float[N,8,6,6] x) => (float[N,4,4,4] y) <float[4,8,3,3] w> { y = Conv(x, w) }")
    result = prunec.run(module, "sparsify{layers=all}")
    feeds = probe_feeds(module)
    windows = np.lib.stride_tricks.sliding_window_view(feeds["x"], (3, 3), axis=(2, 3))
    masked = np.where(result.plan.steps[0].masks[0].keep(), weights(module)["w"], 0)
    expected = np.einsum("nchwkl,ockl->nohw", windows, masked)
    np.testing.assert_allclose(run_model(result.module, feeds)["y"], expected, rtol=1e-4, atol=1e-5)
