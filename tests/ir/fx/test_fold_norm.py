"""Batch norms of captured programs go into the layers before them, and what is left trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_modules import assert_same

import prunec

X = torch.randn(4, 3, 8, 8)
BATCH = {"x": {0: torch.export.Dim("batch")}}


class Norms(nn.Module):
    """A norm behind every kind of layer: without a bias, grouped, transposed, linear, and without an affine part."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.norm1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.grouped, self.norm2 = nn.Conv2d(16, 32, 3, groups=4), nn.BatchNorm2d(32, affine=False)
        self.up, self.norm3 = nn.ConvTranspose2d(32, 16, 2, 2, groups=2), nn.BatchNorm2d(16, eps=0.1)
        self.linear, self.norm4, self.head = nn.Linear(16, 24), nn.BatchNorm1d(24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm1(self.plain(x)))
        x = self.norm3(self.up(torch.relu(self.norm2(self.grouped(x))))).relu()
        return self.head(torch.relu(self.norm4(self.linear(x.mean((2, 3))))))


def made(kind: Callable[[], nn.Module] = Norms) -> nn.Module:
    """In evaluation mode, with statistics and scales of every size."""
    torch.manual_seed(0)
    module = kind().eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module


def folded(module: nn.Module, pipeline: str = "fold-norm") -> prunec.Result:
    return prunec.run(prunec.trace(module, (X,), dynamic_shapes=BATCH), pipeline)


def test_every_batch_norm_goes_and_what_is_left_trains(tmp_path: Path) -> None:
    module = made()
    module.grouped.requires_grad_(False)
    result = folded(module)
    program = result.to_torch()
    assert [r.message for r in result.remarks] == [
        "`batch_norm` is folded into `conv2d` before it",
        "`batch_norm_1` is folded into `conv2d_1` before it",
        "`batch_norm_2` is folded into `conv_transpose2d` before it",
        "`batch_norm_3` is folded into `linear` before it",
    ]
    assert_same(program(X), module(X))
    layers = ("plain", "grouped", "up", "linear", "head")
    assert {n for n, _ in program.named_parameters()} == {
        f"{at}.{n}" for at in layers for n in ("weight", "bias")
    }
    assert not dict(program.named_buffers())
    assert not program.get_parameter("grouped.bias").requires_grad
    program.train()(X).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in program.parameters())
    assert_same(program.train()(X), program.eval()(X))
    result.save(tmp_path / "net.pt2")
    assert_same(torch.export.load(tmp_path / "net.pt2").module()(X), module(X))


def test_what_is_folded_is_pruned_like_any_other() -> None:
    module = made()
    result = folded(module, "fold-norm, prune-channels{round-to=4}")
    program = result.to_torch()
    assert program.get_parameter("up.weight").shape == (16, 4, 2, 2)
    assert program.get_parameter("linear.bias").shape == (12,)
    replayed = prunec.run(
        prunec.trace(module, (X,), dynamic_shapes=BATCH), result.plan.pipeline, replay=result.plan
    )
    assert_same(replayed.to_torch()(X), program(X))


def test_a_module_with_its_norms_cannot_follow() -> None:
    for module in (made(), made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))):
        before = copy.deepcopy(module.state_dict())
        result = prunec.run(prunec.trace(module, (X,)), "fold-norm")
        with pytest.raises(prunec.UserError, match="the program has other layers now") as caught:
            result.apply_to(module)
        assert "= help: result.to_torch() is a module of these layers" in caught.value.render()
        assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


class Twice(nn.Module):
    """One convolution in front of two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm1, self.norm2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv(self.norm1(self.conv(x))))


class BatchStatistics(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))


MISSED = {
    "tied": (Twice, "`conv.weight` is tied: 2 nodes read it"),
    "alone": (lambda: nn.Sequential(nn.BatchNorm2d(3)), "its input is not computed by a node of this graph"),
    "no statistics": (BatchStatistics, "it is in training mode, where its statistics follow the data"),
    "behind an activation": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        "`relu` is relu.default, not a linear layer",
    ),
    "read twice": (
        lambda: Sum(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        "`conv2d` is also used by `add`",
    ),
}


class Sum(nn.Module):
    """A norm beside a shortcut."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x + self.norm(x)


@pytest.mark.parametrize("what", MISSED)
def test_what_stays_is_told_with_the_reason(what: str) -> None:
    kind, reason = MISSED[what]
    result = prunec.run(prunec.trace(made(kind), (X,)), "fold-norm")
    assert reason in [remark.reason for remark in result.remarks]


def test_a_layer_over_the_last_axis_is_not_folded_into() -> None:
    module = made(lambda: nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3)))
    result = prunec.run(prunec.trace(module, (torch.randn(2, 3, 8),)), "fold-norm")
    assert [r.reason for r in result.remarks] == ["`linear` is not known to put its outputs on axis 1"]


def test_norms_of_training_mode_stay() -> None:
    result = folded(made().train())
    assert not result.changed and len(list(result.remarks)) == 4
    for remark in result.remarks:
        assert remark.kind == "missed"
        assert remark.reason == "it is in training mode, where its statistics follow the data"
        assert remark.help == "capture the module in evaluation mode: module.eval()"
