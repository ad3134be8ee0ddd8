"""Schedules come to what one run would, train on the way, and leave a plan of all of it."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch_modules import CASES, assert_same, leaves

import prunec
from prunec.passes.training.schedule import _CURVES


def schedule(module: nn.Module, name: str, pipeline: str, **options: Any) -> Any:
    return prunec.torch.schedule(module, CASES[name].inputs(), pipeline, **options)


def loss(module: nn.Module, batch: tuple[Any, ...]) -> torch.Tensor:
    return leaves(module(*batch))[0].square().mean()


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("name", ["residual", "encoder"])
def test_without_training_it_ends_where_one_run_ends(name: str, scope: str) -> None:
    pipeline = f"prune-channels{{round-to=4 scope={scope}}}"
    module, case = CASES[name].made(), CASES[name]
    once = prunec.run(
        prunec.trace(case.made(), case.inputs()), f"prune-channels{{ratio=50% round-to=4 scope={scope}}}"
    )
    *_, last = schedule(module, name, pipeline, ratio=0.5, steps=4)
    sizes = {n: p.shape for n, p in module.named_parameters()}
    assert (last.number, last.ratio) == (4, 0.5)
    expected = {n: p.shape for n, p in once.to_torch().named_parameters() if n in sizes}
    if scope == "local":
        assert {n: sizes[n] for n in expected} == expected
    else:
        assert sum(p.numel() for p in module.parameters()) <= 1.3 * sum(
            p.numel() for p in {id(p): p for p in once.to_torch().parameters()}.values()
        )


def test_small_steps_that_rounding_would_swallow_add_up() -> None:
    """Of 32 units 10 % are nearer to none than to 8."""
    module = CASES["perceptron"].made()
    steps = schedule(module, "perceptron", "prune-channels", ratio=0.5, steps=5, curve="linear", verify=False)
    assert [step.module[0].out_features for step in steps] == [32, 24, 24, 24, 16]


def test_the_plan_of_all_steps_replays_at_once() -> None:
    case = CASES["residual"]
    module, original = case.made(), case.made()
    *_, last = schedule(
        module, "residual", "prune-channels{round-to=1}, sparsify{pattern=unstructured}", ratio=0.6, steps=3
    )
    captured = prunec.trace(original, case.inputs())
    again = prunec.run(captured, last.plan.pipeline, replay=prunec.Plan.from_json(last.plan.to_json()))
    inputs = case.inputs()
    assert_same(module.eval()(*inputs), again.to_torch().eval()(*inputs))
    assert again.plan.steps == last.plan.steps


@pytest.mark.parametrize("name", ["residual", "decoder"])
def test_training_goes_on_with_the_same_optimizer_and_the_zeros(name: str) -> None:
    case = CASES[name]
    module = case.made().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    pipeline = "prune-channels{criterion=taylor round-to=1}, sparsify{pattern=unstructured}"
    shares = []
    for step in schedule(
        module, name, pipeline, ratio=0.5, steps=3, optimizer=optimizer, dynamic_shapes=case.dynamic,
        gradients=lambda net: prunec.torch.gradients(net, loss, [case.inputs()]),
    ):  # fmt: skip
        assert step.module is module and module.training and step.result.verdicts
        for _ in range(2):
            optimizer.zero_grad()
            loss(module, case.inputs()).backward()
            optimizer.step()
        assert step.masks.broken() == {}
        weights = [module.get_parameter(n) for n in step.masks.names]
        shares.append(sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights))
        for parameter in module.parameters():
            assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
    assert shares == pytest.approx([0.352, 0.481, 0.5], abs=0.01)
    assert step.masks.broken() == {}


def test_a_cut_that_is_refused_leaves_the_zeros_of_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunec.ir.fx.proof import Proof

    case = CASES["residual"]
    module = case.made().train()
    steps = schedule(
        module, "residual", "prune-channels{round-to=1}, sparsify{pattern=unstructured}", ratio=0.5, steps=2
    )
    masks = next(steps).masks
    monkeypatch.setattr(Proof, "_difference", lambda *_: "another output")
    with pytest.raises(prunec.UserError):
        next(steps)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    loss(module, case.inputs()).backward()
    optimizer.step()
    assert masks.broken() == {}
    masks.remove()
    optimizer.step()
    assert masks.broken() == {}, "gradients were zero too"
    loss(module, case.inputs()).backward()
    optimizer.step()
    assert masks.broken()


def test_a_share_of_the_pass_is_where_its_steps_end() -> None:
    module = CASES["perceptron"].made()
    *_, last = schedule(module, "perceptron", "prune-channels{ratio=75%}", steps=2, verify=False)
    assert (last.ratio, module[0].out_features) == (0.75, 8)


def test_a_module_is_not_cut_where_its_optimizer_could_not_follow() -> None:
    case = CASES["perceptron"]
    module = case.made()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    steps = schedule(module, "perceptron", "permute-channels{for=1:2}, prune-channels", optimizer=optimizer)
    with pytest.raises(prunec.UserError, match="cannot follow channels that were reordered"):
        next(steps)
    assert module[0].out_features == 32
    steps = schedule(module, "perceptron", "prune-channels", optimizer=optimizer)
    assert next(steps).module[0].out_features == 24
    optimizer.state[module[0].weight]["rows"] = torch.zeros(24)
    with pytest.raises(prunec.UserError, match=r"state `rows` of `0\.weight` has shape \[24\]"):
        next(steps)
    assert module[0].out_features == 24


def test_a_captured_module_is_no_module_to_train() -> None:
    case = CASES["perceptron"]
    with pytest.raises(prunec.UserError, match=r"this takes an nn\.Module, got a Module"):
        prunec.torch.schedule(prunec.trace(case.made(), case.inputs()), case.inputs(), "prune-channels")


@pytest.mark.parametrize("curve", list(_CURVES))
def test_curves_begin_at_nothing_and_end_at_the_ratio(curve: str) -> None:
    values = [_CURVES[curve](0.8, n / 10) for n in range(11)]
    assert values[0] == pytest.approx(0) and values[-1] == pytest.approx(0.8)
    assert values == sorted(values)
    steps = [b - a for a, b in pairwise(values)]
    assert steps[0] >= steps[-1] - 1e-9


@pytest.mark.parametrize(
    ("pipeline", "options", "words"),
    [
        ("sparsify", {}, "no pass of `sparsify` takes a ratio that could grow"),
        ("canonicalize", {}, "an N:M pattern is made at once"),
        ("prune-channels", {"steps": 0}, "a schedule has at least 1 step, got 0"),
        ("prune-channels", {"ratio": 1.0}, "lies between 0 and 1 (both excluded), got 1.0"),
        ("prune-channels", {"steps": 2.5}, "a schedule has at least 1 step, got 2.5"),
        ("prune-channels", {"ratio": "50%"}, "(both excluded), got '50%'"),
        (
            "prune-channels{ratio=30%}",
            {"ratio": 0.6},
            "error: `prune-channels{ratio=0.3}` and ratio=0.6 are two answers to how much goes",
        ),
        ("prune-channels", {"curve": "square"}, "unknown curve 'square'"),
        (
            "prune-channels{criterion=taylor}",
            {},
            "`prune-channels{criterion=taylor}` needs gradients, and none",
        ),
        (
            "prune-channels",
            {"gradients": {}},
            "takes a function that collects gradients before every step, got a dict",
        ),
        ("prune-channels", {"gradients": lambda: 1}, "`gradients` cannot be called with (net)"),
        (
            "prune-channels",
            {"optimizer": 0.1},
            "only a torch.optim.Optimizer has a state to cut, got a float",
        ),
        ("prune-chanels", {}, "unknown pass 'prune-chanels'"),
    ],
)
def test_mistakes_are_told_before_anything_is_cut(pipeline: str, options: Any, words: str) -> None:
    with pytest.raises(prunec.UserError) as caught:
        schedule(nn.Linear(2, 2), "residual", pipeline, **options)
    assert words in caught.value.render()


def test_examples_of_docstrings_do_what_they_say() -> None:
    import doctest

    modules = [sys.modules["prunec.passes.training.schedule"], sys.modules["prunec.ir.fx.entry"]]
    assert [doctest.testmod(module).failed for module in modules] == [0, 0]
