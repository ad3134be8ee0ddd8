"""What a module that was cut in place has to compute, in every mode, of every type and size."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunec
from prunec.ir.fx.draws import drawn_alike

X = torch.randn(4, 8)


class Net(nn.Module):
    """Two layers; subclasses say what is made of the width between them, which the cut changes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Any:
        h = self.first(x).relu()
        return self.ended(self.last(h), h.shape[-1])

    def ended(self, y: Tensor, width: int) -> Any:
        return y


class NotANumber(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return y * torch.tensor(float(width - 17)).sqrt()


class Quiet(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return y * width**-0.5 * 1e-6


class Complex(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return torch.complex(y, y * width)


class Counted(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return y, width


class Whole(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return y, y.argmax(-1) * 100_000 + width


class OfPositives(Net):
    """Not a number on inputs below zero."""

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            x = x.sqrt()
        return super().forward(x)

    def ended(self, y: Tensor, width: int) -> Any:
        return y * width**-0.5


class InTraining(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return y * width if self.training else y * 32


class FailsInTraining(Net):
    def forward(self, x: Tensor) -> Any:
        h = self.first(x).relu()
        return self.last(h + torch.zeros(32) if self.training else h)


def cut(module: nn.Module, x: Tensor = X) -> prunec.Result:
    result = prunec.run(prunec.trace(module, (x,)), "prune-channels{ratio=50%}", verify=False)
    result.apply_to(module)
    return result


REFUSED = [
    (NotANumber, True, "result 0 differs by inf"),
    (Quiet, True, r"result 0 differs by 4\.1e-01"),
    (Complex, True, "result 0 differs by"),
    (Counted, True, "result 1 is 16, must be 32"),
    (Whole, True, r"result 1 differs by 1\.0e\+00 \(relative\), allowed is 0e\+00"),
    (InTraining, True, r"in training mode result 0 differs by 5\.0e-01"),
    (FailsInTraining, False, "in training mode RuntimeError: The size of tensor a"),
]


@pytest.mark.parametrize(("build", "training", "words"), REFUSED)
def test_a_module_that_computes_something_else_is_put_back(
    build: type[Net], training: bool, words: str
) -> None:
    module = build().train(training)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(prunec.UserError, match=words):
        cut(module)
    assert module.training == training and module.first.out_features == 32
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_inputs_that_the_model_is_not_made_for_prove_nothing() -> None:
    with pytest.raises(prunec.UserError, match=r"result 0 differs by 4\.1e-01"):
        cut(OfPositives(), X.abs() + 0.1)


class Masking(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return torch.cat([y * 1e-9, y.new_full(y.shape, float("-inf")), y.log()])


class Dropping(Net):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def ended(self, y: Tensor, width: int) -> Any:
        return self.drop(y)


class SkippingByChance(Net):
    """A layer that Python's generator leaves out in training; a capture holds one outcome."""

    def ended(self, y: Tensor, width: int) -> Any:
        return y if self.training and random.random() < 0.5 else y.tanh()


class NeedsTargets(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        if self.training:
            raise ValueError("targets")
        return y


class Noisy(Net):
    def ended(self, y: Tensor, width: int) -> Any:
        return nn.functional.dropout(y, 0.5, training=True)


RIGHT = [(Masking, True), (Dropping, True), (SkippingByChance, True), (NeedsTargets, False), (Noisy, True)]


@pytest.mark.parametrize(("build", "training"), RIGHT)
def test_a_module_that_computes_the_same_is_cut(build: type[Net], training: bool) -> None:
    module = build().train(training)
    random.seed(0)  # which leaves nothing out of the capture
    state = random.getstate(), torch.random.get_rng_state()
    result = cut(module)
    assert module.training == training and module.first.out_features == 16
    assert torch.equal(state[1], torch.random.get_rng_state())
    with drawn_alike():
        expected = result.to_torch().eval()(X)
    with drawn_alike():
        torch.testing.assert_close(module.eval()(X), expected, equal_nan=True)
