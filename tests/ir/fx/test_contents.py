"""What checks run leaves no trace in the tensors of the user's module."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import prunec

X = torch.randn(4, 8)


class Writing(nn.Module):
    """Layers and a buffer, which subclasses write to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)
        self.register_buffer("held", torch.rand(32))
        self.register_buffer("calls", torch.zeros(2))


class Average(Writing):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        self.held.mul_(0.9).add_(0.1 * h.detach().mean(0))
        return self.last(h - self.held)


class Counter(Writing):
    """Counts through a view."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls[:1].add_(1)
        return self.last(self.first(x).relu() * self.held)


class Replacing(Writing):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        self.held = 0.9 * self.held + 0.1 * h.detach().mean(0)
        return self.last(h - self.held)


class Clamped(Writing):
    """Writes to a parameter."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.first.bias.add_(0.1)
        return self.last(self.first(x).relu())


class Normed(Writing):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(32, affine=True, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)[..., None].expand(-1, -1, 3)).mean(-1))


@pytest.mark.parametrize("build", [Average, Counter, Replacing, Clamped, Normed])
def test_checks_leave_tensors_as_they_were(build: Callable[[], nn.Module]) -> None:
    module = build()
    dense = copy.deepcopy(module.state_dict())
    captured = prunec.trace(module, (X,))
    result = prunec.run(captured, "prune-channels{ratio=50%}")
    assert_equal(module.state_dict(), dense)
    removed = result.plan.removed()
    for name, axes in removed.items():
        for axis, gone in axes.items():
            kept = [i for i in range(dense[name].shape[axis]) if i not in set(gone)]
            dense[name] = dense[name].index_select(axis, torch.tensor(kept))
    pruned = result.to_torch()
    result.apply_to(module)
    assert module.first.out_features == 16 and "first.weight" in removed
    assert_equal(module.state_dict(), dense)
    assert_equal({n: t for n, t in pruned.state_dict().items() if n in dense}, dense, partly=True)


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor], *, partly: bool = False) -> None:
    assert partly or set(actual) == set(expected)
    assert {name for name, tensor in actual.items() if not torch.equal(tensor, expected[name])} == set()
