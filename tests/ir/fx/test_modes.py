"""Training and evaluation of what comes back: the same as those of the module."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_modules import CASES, assert_same

import prunec


def program(name: str, training: bool) -> tuple[nn.Module, torch.fx.GraphModule]:
    case = CASES[name]
    module = case.made().train(training)
    captured = prunec.trace(module, case.inputs(), dynamic_shapes=case.dynamic)
    return module, prunec.run(captured, "verify").to_torch()


@pytest.mark.parametrize("captured", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ["residual", "recurrent"])
def test_modes_switch_whatever_the_capture_was(name: str, captured: bool) -> None:
    module, made = program(name, captured)
    assert made.training is captured
    for mode in (not captured, captured, not captured):
        module.train(mode)
        made.train(mode)
        inputs = CASES[name].inputs()
        torch.manual_seed(1)
        expected = module(*inputs)
        torch.manual_seed(1)
        assert_same(made(*inputs), expected)


def test_batch_norms_learn_their_statistics_in_training_alone() -> None:
    _, made = program("residual", True)
    inputs = CASES["residual"].inputs()
    before = made.norm.running_mean.clone()
    made.eval()(*inputs)
    assert torch.equal(made.norm.running_mean, before) and made.norm.num_batches_tracked == 0
    made.train()(*inputs)
    assert not torch.equal(made.norm.running_mean, before) and made.norm.num_batches_tracked == 1


def test_a_dropout_that_is_always_on_stays_on() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    captured = prunec.trace(Noisy().eval(), (torch.ones(64),))
    made = prunec.run(captured, "verify").to_torch().eval()
    assert 0 < int((made(torch.ones(64)) == 0).sum()) < 64


def test_copies_switch_on_their_own() -> None:
    _, made = program("residual", True)
    copied = copy.deepcopy(made).eval()
    assert made.training and not copied.training
    inputs = CASES["residual"].inputs()
    assert_same(copied(*inputs), copied(*inputs))


def test_the_result_compiles_and_exports() -> None:
    case = CASES["residual"]
    captured = prunec.trace(case.made(), case.inputs(), dynamic_shapes=case.dynamic)
    pruned = prunec.run(captured, "prune-channels{ratio=50%}").to_torch().eval()
    inputs = case.inputs()
    expected = pruned(*inputs)
    assert_same(torch.compile(pruned, backend="eager")(*inputs), expected)
    assert_same(torch.export.export(pruned, inputs).module()(*inputs), expected)
