"""Which attributes follow a cut: the fewest, wherever they are, in few runs of the user's module."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import prunec

X = torch.randn(2, 5, 16)


class Heads(nn.Module):
    """Attention over heads whose number is also their size, and a number of something else."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(16, 3 * count * 4), nn.Linear(count * 4, 16)
        self.heads, self.size, self.steps = count, 4, 4

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.project(x).view(b, t, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x + self.out(mixed.reshape(b, t, self.heads * self.size)) / self.steps


class Wide(nn.Module):
    """A width that the code reads beside numbers that equal it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 16)
        self.width = self.scale = self.patience = 32

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(2, -1, self.width)) / self.scale


def cut(module: nn.Module) -> int:
    """How often the module ran while it was cut."""
    result = prunec.run(prunec.trace(module, (X,)), "prune-channels{ratio=50% round-to=1}", verify=False)
    runs: Counter[str] = Counter()
    hook = module.register_forward_pre_hook(lambda *_: runs.update(["forward"]))
    result.apply_to(module)
    hook.remove()
    torch.testing.assert_close(module.eval()(X), result.to_torch().eval()(X))
    return runs["forward"]


def test_coincidences_in_every_layer_and_class() -> None:
    module = nn.Sequential(Heads(), Wide(), Heads(), Wide(), nn.Linear(16, 4))
    cut(module)
    assert {(part.heads, part.size, part.steps) for part in module if isinstance(part, Heads)} == {(2, 4, 4)}
    assert {(p.width, p.scale, p.patience) for p in module if isinstance(p, Wide)} == {(16, 32, 32)}


@pytest.mark.parametrize("depth", [2, 12])
def test_runs_do_not_grow_with_depth(depth: int) -> None:
    module = nn.Sequential(*(Heads(2) for _ in range(depth)), nn.Linear(16, 4))
    assert cut(module) <= 8
    assert {part.heads for part in module if isinstance(part, Heads)} == {1}


class Viewed(nn.Module):
    def forward(self, x: Tensor, width: int) -> Tensor:
        return x.view(2, -1, width)


class Around(nn.Module):
    """The number is handed to the module whose code makes the call."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.viewed = nn.Linear(16, 32), nn.Linear(32, 4), Viewed()
        self.width = 32

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.viewed(self.first(x), self.width))


def test_attributes_of_enclosing_modules_follow() -> None:
    module = nn.Sequential(nn.Identity(), Around())
    cut(module)
    assert module[1].width == 16


class TrainedOnly(nn.Module):
    """A size that training alone needs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.width = nn.Linear(16, 32), nn.Linear(32, 4), 32

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x.view(2, -1, self.width) if self.training else x)


def test_what_only_training_needs_follows() -> None:
    module = TrainedOnly().train()
    cut(module)
    assert module.width == 16
