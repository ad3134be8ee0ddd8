"""A module that changes between the run and its result is refused, never mixed with what it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import prunec

X = torch.randn(4, 8)
PIPELINE = "prune-channels{ratio=50%}"


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)).train()


def load(module: nn.Sequential) -> None:
    module.load_state_dict(net().state_dict())


def train(module: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(X).square().sum().backward()
    optimizer.step()


def fill(module: nn.Sequential) -> None:
    module[3].bias.data.fill_(7)  # which moves no version


@pytest.mark.parametrize("change", [load, train, fill])
def test_changed_weights_are_refused(change: Callable[[nn.Sequential], None], tmp_path: Path) -> None:
    module = net()
    result = prunec.run(prunec.trace(module, (X,)), PIPELINE)
    change(module)
    held = copy.deepcopy(module.state_dict())
    for use in (result.to_torch, lambda: result.apply_to(module), lambda: result.save(tmp_path / "net.pt2")):
        with pytest.raises(prunec.UserError, match="weights changed since it was captured") as caught:
            use()
    assert "replay=result.plan" in caught.value.render()
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in held.items())
    prunec.run(prunec.trace(module, (X,)), PIPELINE, replay=result.plan).apply_to(module)
    assert module[0].out_features == 16


@pytest.mark.parametrize("change", [load, train])
def test_what_is_trained_between_the_capture_and_the_run_counts(
    change: Callable[[nn.Sequential], None],
) -> None:
    module = net()
    captured = prunec.trace(module, (X,))
    before = prunec.run(captured, PIPELINE)
    change(module)
    result = prunec.run(captured, f"{PIPELINE}, sparsify{{layers=all}}")
    with pytest.raises(prunec.UserError, match="weights changed since it was captured"):
        before.apply_to(module)
    program = result.to_torch()
    result.apply_to(module)
    assert torch.equal(module.eval()(X), program.eval()(X)) and module[0].out_features == 16


def test_a_result_of_other_weights_stays_refused_where_passes_go_on() -> None:
    module = net()
    first = prunec.run(prunec.trace(module, (X,)), "prune-channels{only=0.weight}, sparsify{layers=all}")
    train(module)
    second = prunec.run(first.module, "verify")
    for use in (second.to_torch, lambda: second.apply_to(module)):
        with pytest.raises(prunec.UserError, match="weights changed since it was captured"):
            use()


def test_parameters_of_other_memory_are_not_those_of_the_capture() -> None:
    module = net()
    captured = prunec.trace(module, (X,))
    module.double().float()
    train(module)
    with pytest.raises(prunec.UserError, match="weights changed since it was captured"):
        prunec.run(captured, PIPELINE).apply_to(module)


def test_statistics_of_a_batch_norm_count() -> None:
    module = net()
    result = prunec.run(prunec.trace(module, (X,)), PIPELINE)
    module(X)
    with pytest.raises(prunec.UserError, match=r"`1\.running_mean` and 1 more"):
        result.apply_to(module)


def test_masks_and_moves_are_no_change() -> None:
    module = net()
    result = prunec.run(prunec.trace(module, (X,)), f"{PIPELINE}, sparsify{{layers=all}}")
    module.double().float()
    result.to_torch()
    result.apply_to(module)
    assert module[0].out_features == 16


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return self.last(self.first(x).relu())


def test_what_the_program_counts_is_no_change() -> None:
    module = Counter()
    result = prunec.run(prunec.trace(module, (X,)), PIPELINE)
    module(X)
    result.apply_to(module)
    assert module.first.out_features == 16
