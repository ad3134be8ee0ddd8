"""Masks hold through every way in which a module is trained, and let go when they are told to."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optim
from torch_modules import CASES, leaves

import prunec
from prunec.ir.fx.training.masks import Masks
from prunec.passes.training.masks import final_masks

SPARSE = "sparsify{layers=all}"


def sparsified(name: str = "perceptron", pipeline: str = SPARSE) -> tuple[nn.Module, prunec.Plan]:
    """A module in training mode whose weights are in the pattern, and the plan of it."""
    case = CASES[name]
    module = case.made().train()
    result = prunec.run(prunec.trace(module, case.inputs()), pipeline, verify=False)
    result.apply_to(module)
    return module, result.plan


def train(module: nn.Module, optimizer: torch.optim.Optimizer, name: str = "perceptron") -> None:
    """Three steps with a closure, which every optimizer takes."""

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = leaves(module(*CASES[name].inputs()))[0].square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "adam, one by one": lambda p: torch.optim.Adam(p, lr=0.1, foreach=False, weight_decay=0.1),
    "rprop": lambda p: torch.optim.Rprop(p),
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=3),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_zeros_hold_and_all_else_is_trained(kind: str) -> None:
    module, plan = sparsified()
    before = copy.deepcopy(module.state_dict())
    with prunec.torch.keep_masks(module, plan) as masks:
        train(module, OPTIMIZERS[kind](module.parameters()))
        assert masks.names == ("3.weight", "5.weight")
        assert masks.broken() == {}
    for name in masks.names:
        weight = module.get_parameter(name)
        assert torch.equal(weight == 0, before[name] == 0)
        assert not torch.equal(weight, before[name])


def test_without_masks_the_zeros_go() -> None:
    module, plan = sparsified()
    masks = prunec.torch.keep_masks(module, plan)
    masks.remove()
    train(module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert set(masks.broken()) == set(masks.names)
    masks.apply()
    assert masks.broken() == {}


def test_momentum_from_before_does_not_come_through() -> None:
    module, plan = sparsified()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    train(module, optimizer)
    masks = prunec.torch.keep_masks(module, plan)
    assert masks.broken() == {}, "weights are zeroed at once"
    train(module, optimizer)
    assert masks.broken() == {}


def test_gradients_and_the_state_of_the_optimizer_are_zero_there() -> None:
    module, plan = sparsified()
    masks = prunec.torch.keep_masks(module, plan)
    optimizer = torch.optim.AdamW(module.parameters())
    train(module, optimizer)
    for name in masks.names:
        weight = module.get_parameter(name)
        zero = weight == 0
        assert not weight.grad[zero].any() and weight.grad[~zero].any()
        assert not optimizer.state[weight]["exp_avg"][zero].any()


def test_accumulation_and_a_gradient_scaler() -> None:
    module, plan = sparsified()
    masks = prunec.torch.keep_masks(module, plan)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(2):
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = module(*CASES["perceptron"].inputs()).square().mean()
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=False)
    assert masks.broken() == {}


def test_a_program_and_a_module_inside_of_another() -> None:
    case = CASES["decoder"]
    result = prunec.run(prunec.trace(case.made().train(), case.inputs()), SPARSE, verify=False)
    program = result.to_torch()
    masks = prunec.torch.keep_masks(program, result.plan)
    wrapper = nn.Sequential(program)
    train(wrapper, torch.optim.AdamW(wrapper.parameters(), lr=0.1), "decoder")
    assert masks.broken() == {}


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_is_masked_as_it_is_loaded(assign: bool) -> None:
    module, plan = sparsified()
    dense = CASES["perceptron"].made().state_dict()
    masks = prunec.torch.keep_masks(module, plan)
    assert module.state_dict().keys() == dense.keys()
    module.load_state_dict({name: tensor.clone() for name, tensor in dense.items()}, assign=assign)
    assert masks.broken() == {}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    train(module, optimizer)
    assert masks.broken() == {}
    name = masks.names[0]
    weight = module.get_parameter(name)
    assert not weight.grad[weight == 0].any(), "the parameter that came in is held as well"


def test_a_checkpoint_goes_on_with_the_masks_of_its_plan(tmp_path: Any) -> None:
    module, plan = sparsified()
    prunec.torch.keep_masks(module, plan)
    train(module, torch.optim.AdamW(module.parameters(), lr=0.1))
    torch.save(module.state_dict(), tmp_path / "net.pth")
    plan.save(tmp_path / "plan.json")

    again = CASES["perceptron"].made()
    again.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    masks = prunec.torch.keep_masks(again, prunec.Plan.load(tmp_path / "plan.json"))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
    train(again, torch.optim.AdamW(again.parameters(), lr=0.1))
    assert masks.broken() == {}


def test_copies_are_on_their_own() -> None:
    module, plan = sparsified()
    prunec.torch.keep_masks(module, plan)
    copied = copy.deepcopy(module)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    dense = CASES["perceptron"].made().state_dict()
    for other in (copied, torch.load(buffer, weights_only=False)):
        train(other, torch.optim.SGD(other.parameters(), lr=0.1))
        assert other[3].weight.all()
        other.load_state_dict(dense)
        assert (other[3].weight == 0).sum() == other[3].weight.numel() // 2, "but they load what they were"
    assert (module[3].weight == 0).sum() == module[3].weight.numel() // 2


def test_frozen_parameters_stay_and_may_thaw() -> None:
    module, plan = sparsified()
    module[3].requires_grad_(False)
    masks = prunec.torch.keep_masks(module, plan)
    train(module, torch.optim.SGD(module.parameters(), lr=0.1))
    module[3].requires_grad_(True)
    train(module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert masks.broken() == {}


def test_masks_end_with_their_module() -> None:
    def hooks() -> int:
        return len(torch_optim._global_optimizer_post_hooks)

    gc.collect()
    before = hooks()
    module, plan = sparsified()
    prunec.torch.keep_masks(module, plan)
    assert hooks() == before + 1
    del module
    gc.collect()
    assert hooks() == before


def test_masks_follow_cuts_and_orders_of_later_passes() -> None:
    case = CASES["perceptron"]
    module = case.made().train()
    pipeline = "sparsify{pattern=unstructured}, permute-channels, prune-channels{ratio=25% round-to=1}"
    result = prunec.run(prunec.trace(module, case.inputs()), pipeline, verify=False)
    assert result.plan.steps[1].orders
    result.apply_to(module)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with prunec.torch.keep_masks(module, result.plan) as masks:
        assert all(torch.equal(module.get_parameter(name), before[name]) for name in masks.names)
        assert all((before[name] == 0).any() for name in masks.names)


@pytest.mark.parametrize(
    ("module", "pipeline", "words"),
    [
        (lambda m: m, "prune-channels", "the plan has no masks to keep"),
        (lambda m: nn.Sequential(m), SPARSE, "which is no parameter of `Sequential`"),
        (lambda m: m[3], SPARSE, "which is no parameter of `Linear`"),
        (
            lambda m: m,
            "prune-channels{round-to=4}, " + SPARSE,
            r"`3\.weight` in shape \[12, 16\], the parameter has \[24, 32\]",
        ),
    ],
    ids=["no masks", "around", "inside", "not cut"],
)
def test_a_plan_that_does_not_fit_is_refused(
    module: Callable[[Any], nn.Module], pipeline: str, words: str
) -> None:
    case = CASES["perceptron"]
    made = case.made()
    plan = prunec.run(prunec.trace(made, case.inputs()), pipeline, verify=False).plan
    with pytest.raises(prunec.UserError, match=words) as caught:
        prunec.torch.keep_masks(module(made), plan)
    assert "= help: " in caught.value.render()


def test_a_plan_of_a_sparsify_that_took_nothing_says_what_would() -> None:
    with pytest.raises(prunec.UserError, match="the plan has no masks to keep") as caught:
        prunec.torch.keep_masks(*sparsified(pipeline="sparsify"))
    assert "sparsify{layers=all} takes every one" in caught.value.render()


def test_a_cut_below_masks_is_named() -> None:
    module, plan = sparsified()
    masks = prunec.torch.keep_masks(module, plan)
    name = masks.names[0]
    module.get_parameter(name).data = module.get_parameter(name).data[::2]
    with pytest.raises(prunec.UserError, match=r"was cut from .* while a mask was kept on it"):
        masks.apply()
    masks.remove()


def keep_frozen(module: nn.Module, plan: prunec.Plan) -> Masks:
    return prunec.torch.keep_masks(module.requires_grad_(False), plan)


def keep_around(module: nn.Module, plan: prunec.Plan) -> Masks:
    keep = final_masks(plan.steps)
    return Masks(nn.ModuleDict({"inner": module}), {f"inner.{name}": mask for name, mask in keep.items()})


@pytest.mark.parametrize("keep", [prunec.torch.keep_masks, keep_frozen, keep_around])
@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("prune-channels", r"would be cut from \[\d+, \d+\] to .* while masks are kept on `Perceptron`"),
        ("permute-channels", "would have .* other values than zero where its mask is"),
    ],
)
def test_a_cut_is_refused_while_masks_are_kept(
    keep: Callable[[nn.Module, prunec.Plan], Masks], pipeline: str, words: str
) -> None:
    module, plan = sparsified(pipeline="sparsify{layers=all pattern=unstructured ratio=50%}")
    masks = keep(module, plan)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    result = prunec.run(prunec.trace(module, CASES["perceptron"].inputs()), pipeline, verify=False)
    with pytest.raises(prunec.UserError, match=words) as caught:
        result.apply_to(module)
    assert "= help: remove() the masks first" in caught.value.render()
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    masks.remove()
    result.apply_to(module)
