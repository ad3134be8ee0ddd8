"""Modules of torch are captured, pruned, and equal the module masked by hand; then they train."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch_modules import CASES, Case, assert_same, leaves, masked

import prunec

EVERY = [(name, unit, False) for name, case in CASES.items() for unit in case.units]
EVERY += [(name, "head", True) for name in ("residual", "transformer", "recurrent")]


def captured(case: Case, module: torch.nn.Module) -> prunec.Module:
    return prunec.trace(module, case.inputs(), dynamic_shapes=case.dynamic)


@pytest.fixture(autouse=True)
def no_fast_path() -> Iterator[None]:
    """Torch's fused encoder layer would read the weights of norms that the oracle has restricted."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize(("name", "unit", "training"), EVERY)
def test_pruned_equals_the_module_masked_by_hand(name: str, unit: str, training: bool) -> None:
    case = CASES[name]
    module = case.made().train(training)
    result = prunec.run(captured(case, module), f"prune-channels{{ratio=50% round-to=1 unit={unit}}}")
    assert result.cost_after.parameters < 0.75 * result.cost_before.parameters
    assert len(result.verdicts) == 1
    pruned = result.to_torch().eval()
    reference = masked(module, result.plan.removed()).eval()
    inputs = case.inputs()
    with torch.no_grad():
        assert_same(pruned(*inputs), reference(*inputs))


@pytest.mark.parametrize("name", ["residual", "decoder", "recurrent"])
def test_pruned_modules_train(name: str) -> None:
    case = CASES[name]
    module = case.made().train()
    pruned = prunec.run(captured(case, module), "prune-channels{ratio=50%}", verify=False).to_torch()
    inputs = case.inputs()
    target = torch.zeros_like(leaves(pruned(*inputs))[0])
    optimizer = torch.optim.Adam(pruned.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(0)
        loss = (leaves(pruned(*inputs))[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for parameter in pruned.parameters():
            assert parameter.grad is not None and parameter.grad.shape == parameter.shape
            assert torch.isfinite(parameter.grad).all()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_dynamic_sizes_stay_dynamic() -> None:
    case = CASES["decoder"]
    pruned = prunec.run(captured(case, case.made()), "prune-channels{ratio=50%}").to_torch()
    assert pruned(torch.randint(0, 50, (5, 13))).shape == (5, 13, 50)


def test_sizes_that_are_products_of_batch_and_heads_follow() -> None:
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    dynamic = {"src": {0: torch.export.Dim("batch"), 1: torch.export.Dim("steps")}}
    module = prunec.trace(layer, (torch.randn(2, 7, 32),), dynamic_shapes=dynamic)
    result = prunec.run(module, "prune-channels{ratio=50% round-to=1}")
    heads = [g for g in result.plan.steps[0].groups if g.tensors[0].name == "self_attn.in_proj_weight"]
    assert [g.units for g in heads] == [4]
    assert result.to_torch()(torch.randn(3, 5, 32)).shape == (3, 5, 32)


def test_groups_are_those_of_the_modules_names() -> None:
    case = CASES["residual"]
    groups = prunec.analyse(captured(case, case.made()).model).groups
    assert str(groups[0]) == (
        "group g1 size=4 {@stem.weight:0*4, @stem.bias:0*4, @norm.weight:0*4, @norm.bias:0*4, "
        "@norm.running_mean:0*4, @norm.running_var:0*4, @depthwise.weight:0*4, @depthwise.bias:0*4, "
        "@grouped.weight:0*4, @grouped.weight:1, @grouped.bias:0*4, @branch.weight:1*4, @head.weight:1*16}"
    )


def test_tied_weights_stay_tied() -> None:
    case = CASES["decoder"]
    pruned = prunec.run(captured(case, case.made()), "prune-channels{ratio=50%}").to_torch()
    tables = [name for name, p in pruned.named_parameters() if p.shape[0] == 50]
    assert len(tables) == 1


def test_a_plan_replays_on_a_fresh_capture() -> None:
    case = CASES["residual"]
    module = case.made()
    first = prunec.run(captured(case, module), "prune-channels{ratio=50% criterion=random}", seed=3)
    plan = prunec.Plan.from_json(first.plan.to_json())
    again = prunec.run(captured(case, module), plan.pipeline, replay=plan)
    assert again.plan.steps == first.plan.steps


def test_frozen_parameters_stay_frozen() -> None:
    case = CASES["residual"]
    module = case.made()
    module.stem.requires_grad_(False)
    pruned = prunec.run(captured(case, module), "prune-channels{ratio=50%}").to_torch()
    trained = {name: p.requires_grad for name, p in pruned.named_parameters()}
    assert not trained["stem.weight"] and not trained["stem.bias"] and trained["branch.weight"]


def test_the_input_module_stays_as_it_is() -> None:
    case = CASES["residual"]
    module = case.made().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    result = prunec.run(captured(case, module), "prune-channels{ratio=50%}")
    pruned = result.to_torch()
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.fill_(7)
    pruned(*case.inputs())
    after = module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = (
            nn.Embedding(10, 32),
            nn.Linear(32, 32),
            nn.Linear(32, 10, bias=False),
        )
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(self.embed(x))))


def test_tied_tensors_keep_all_of_their_names() -> None:
    module = Language()
    result = prunec.run(prunec.trace(module, (torch.arange(8).reshape(2, 4),)), "prune-channels")
    program = result.to_torch()
    for made in (program, copy.deepcopy(program), program.train()):
        assert set(made.state_dict()) == set(module.state_dict())
        assert made.embed.weight is made.head.weight and made.head.weight.shape == (10, 16)
        assert len(list(made.parameters())) == len(list(module.parameters()))
    result.apply_to(module)
    assert module.head.weight is module.embed.weight and module.head.in_features == 16
    program.load_state_dict(module.state_dict())
