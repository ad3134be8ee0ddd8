"""Gradients for the Taylor criterion: what is collected, and what pruning makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import CASES, leaves

import prunec

TAYLOR = "prune-channels{criterion=taylor round-to=1}"


def loss(module: nn.Module, batch: tuple[Any, ...]) -> torch.Tensor:
    return leaves(module(*batch))[0].square().mean()


def test_the_root_mean_square_over_batches() -> None:
    case = CASES["residual"]
    module = case.made().train()
    module.stem.weight.grad = torch.ones_like(module.stem.weight)
    batches = [case.inputs() for _ in range(3)]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = prunec.torch.gradients(module, loss, iter(batches))

    assert module.training and (module.stem.weight.grad == 1).all() and module.branch.weight.grad is None
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    module.eval()
    for name, parameter in module.named_parameters():
        single = [torch.autograd.grad(loss(module, b), parameter)[0].numpy() for b in batches]
        np.testing.assert_allclose(
            found[name], np.sqrt(np.mean(np.square(single), axis=0)), rtol=1e-4, atol=1e-7
        )


def test_random_numbers_go_on_as_if_nothing_had_been_drawn() -> None:
    case = CASES["residual"]
    module, batches = case.made(), [case.inputs()[0]]
    state = torch.get_rng_state()
    prunec.torch.gradients(module, lambda m, x: (leaves(m(x))[0] * torch.rand(())).mean(), batches)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["residual", "decoder", "transformer"])
def test_what_goes_changes_the_loss_least(name: str) -> None:
    """Against a sum over every slot of every tensor of the group."""
    case = CASES[name]
    module = case.made()
    found = prunec.torch.gradients(module, loss, [case.inputs() for _ in range(3)])
    captured = prunec.trace(module, case.inputs())
    groups = {group.id: group for group in prunec.analyse(captured.model).groups}
    weights = {n: p.detach().numpy() for n, p in module.named_parameters(remove_duplicate=False)}
    cuts = prunec.run(captured, TAYLOR, gradients=found).plan.steps[0].groups
    assert cuts
    for cut in cuts:
        change = np.zeros(cut.units)
        for member in groups[cut.id].members:
            if member.name in found:
                squares = np.square(found[member.name].astype(float) * weights[member.name])
                for slot, unit in enumerate(member.units):
                    change[unit] += squares.take(slot, member.axis).sum() if unit >= 0 else 0
        kept = np.setdiff1d(np.arange(cut.units), cut.removed)
        assert change[list(cut.removed)].max() <= change[kept].min() * (1 + 1e-6)


def test_a_step_judges_by_the_gradients_of_what_the_steps_before_left() -> None:
    case = CASES["residual"]
    module = case.made()
    found = prunec.torch.gradients(module, loss, [case.inputs()])
    captured = prunec.trace(module, case.inputs())
    both = prunec.run(captured, f"permute-channels, {TAYLOR}, {TAYLOR}", gradients=found)
    first = prunec.run(captured, f"permute-channels, {TAYLOR}", gradients=found)
    moved = {name: p.detach().numpy() for name, p in first.to_torch().named_parameters()}
    cut = {}
    for name, array in found.items():
        weight = module.get_parameter(name).detach().numpy()
        stays = [np.isin(weight, moved[name]).any(axis=tuple(a for a in range(weight.ndim) if a != axis))
                 for axis in range(weight.ndim)]  # fmt: skip
        cut[name] = array[np.ix_(*stays)]
        order = np.argsort(np.argsort(moved[name].ravel()))
        cut[name] = (
            cut[name].ravel()[np.argsort(weight[np.ix_(*stays)].ravel())][order].reshape(moved[name].shape)
        )
    second = prunec.run(first.module, TAYLOR, gradients=cut)
    for a, b in zip(both.to_torch().parameters(), second.to_torch().parameters(), strict=True):
        assert torch.equal(a, b)


def linear() -> tuple[nn.Module, prunec.Module]:
    module = CASES["perceptron"].made()
    return module, prunec.trace(module, CASES["perceptron"].inputs())


@pytest.mark.parametrize(
    ("pipeline", "gradients", "words"),
    [
        (TAYLOR, None, "`prune-channels{criterion=taylor round-to=1}` needs gradients, and none are given"),
        (TAYLOR, {}, "there are no gradients, the model has no weights of these names"),
        (TAYLOR, {"0.wieght": np.ones((32, 10))}, "`0.wieght` and others (did you mean `0.weight`?)"),
        (TAYLOR, {"0.weight": np.ones((10, 32))}, "has shape [10, 32], the weight has [32, 10]"),
        (TAYLOR, {"0.weight": np.full((32, 10), np.nan)}, "holds 320 NaN or infinite values"),
        (
            TAYLOR,
            [np.ones((32, 10))],
            "must be arrays by the names of parameters, got a list\n  = help: prunec.torch.",
        ),
        (TAYLOR, {nn.Parameter(torch.ones(1)): 1}, "got a key that is a Parameter"),
        (
            TAYLOR,
            {"0.weight": nn.Parameter(torch.ones(32, 10))},
            "`0.weight` is a Parameter that is no array: Can't",
        ),
        (
            TAYLOR,
            {"0.weight": torch.ones(32, 10).bfloat16()},
            "= help: gradient.detach().float().cpu().numpy()",
        ),
        (TAYLOR, {"0.weight": None}, "`0.weight` is a NoneType, must be an array of real numbers"),
        (TAYLOR, {"0.weight": np.ones((32, 10)) > 0}, "`0.weight` is of type bool, must be"),
        (TAYLOR, {"5.bias": np.ones(4)}, "no gradient is given for group"),
        (f"fold-norm, {TAYLOR}", {"0.weight": np.ones((32, 10))}, "`fold-norm` changes the weights"),
    ],
    ids=[
        "none",
        "empty",
        "name",
        "shape",
        "nan",
        "list",
        "keys",
        "parameter",
        "bfloat16",
        "no array",
        "flags",
        "frozen",
        "behind fold-norm",
    ],
)
def test_gradients_that_do_not_fit_are_refused(pipeline: str, gradients: Any, words: str) -> None:
    with pytest.raises(prunec.UserError) as caught:
        prunec.run(linear()[1], pipeline, gradients=gradients)
    assert words in caught.value.render()


def test_a_replay_needs_no_gradients() -> None:
    module, captured = linear()
    found = prunec.torch.gradients(module, loss, [CASES["perceptron"].inputs()])
    plan = prunec.run(captured, TAYLOR, gradients=found).plan
    assert prunec.run(captured, plan.pipeline, replay=plan).changed


def test_an_onnx_model_needs_them_from_elsewhere() -> None:
    with pytest.raises(prunec.UserError) as caught:
        prunec.run(prunec.load("examples/digits.onnx"), TAYLOR)
    assert "an ONNX file has no gradients: make the plan on the torch module" in caught.value.render()


@pytest.mark.parametrize(
    ("value", "batches", "words"),
    [
        (lambda m, x: m(x), 1, r"the loss of batch 0 must be a single number .* got shape \[3, 4\]"),
        (lambda m, x: 1.0, 1, "got a float"),
        (lambda m, x: m(x).mean().detach(), 1, "got a number that depends on no parameter"),
        (lambda m, x: m(x).mean() * float("nan"), 1, "the loss of batch 0 is nan"),
        (lambda m, x: m(x).mean(), 0, "there are no batches"),
    ],
)
def test_losses_that_are_none(value: Any, batches: int, words: str) -> None:
    module, _ = linear()
    with pytest.raises(prunec.UserError, match=words):
        prunec.torch.gradients(module, value, [torch.randn(3, 10)] * batches)
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize(
    ("module", "value", "batches", "words"),
    [
        (lambda: linear()[1], loss, [], "this takes an nn.Module, got a Module"),
        (lambda: linear()[0], lambda m: m, [], "the loss cannot be called with (module, batch): too many"),
        (lambda: linear()[0], "mse", [], "the loss must be a function, got a str"),
        (lambda: linear()[0], loss, 8, "the batches must be iterable, got an int"),
    ],
)
def test_what_gradients_cannot_be_collected_from(module: Any, value: Any, batches: Any, words: str) -> None:
    with pytest.raises(prunec.UserError) as caught:
        prunec.torch.gradients(module(), value, batches)
    assert words in caught.value.render()


def test_a_frozen_module_has_none() -> None:
    with pytest.raises(prunec.UserError, match="no parameter of `Perceptron` is trained"):
        prunec.torch.gradients(linear()[0].requires_grad_(False), loss, [])
