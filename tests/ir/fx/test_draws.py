"""Programs that draw random numbers: compared with equal draws, cut in place, and never blamed on prunec."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunec

HALF = "prune-channels{ratio=50%}"
INPUTS = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


class Noisy(nn.Module):
    """Linear layers with something random behind the first of them."""

    def __init__(self, noise: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 32)
        self.last, self.noise = nn.Linear(32, 4), noise
        self.norm.running_mean.copy_(torch.linspace(-0.5, 0.5, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.noise(self.norm(self.first(x)), self.training)
        return self.last(self.second(x).relu())


def latent(x: Tensor, training: bool) -> Tensor:
    """What a variational autoencoder does."""
    return x + torch.randn_like(x) * (0.5 * x).exp() if training else x


NOISE: dict[str, Callable[[Tensor, bool], Tensor]] = {
    "randn": lambda x, _: x + torch.randn(32),
    "randn_like": lambda x, _: x + torch.randn_like(x),
    "rand_like": lambda x, _: x * torch.rand_like(x),
    "normal_": lambda x, _: x + torch.empty_like(x).normal_(1.0, 0.5),
    "bernoulli": lambda x, _: x * torch.bernoulli(torch.full_like(x, 0.3)),
    "gumbel": lambda x, _: F.gumbel_softmax(x),
    "dropout": lambda x, _: F.dropout(x, 0.5, True),
    "latent": latent,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("noise", NOISE)
def test_is_verified_and_cut_in_place(noise: str, training: bool) -> None:
    net = Noisy(NOISE[noise]).train(training)
    result = prunec.run(prunec.trace(net, (INPUTS,)), HALF)
    verdict = result.verdicts[0]
    assert verdict.error < 1e-5
    assert ("random draws made the same" in str(verdict)) == verdict.drawn
    assert verdict.drawn == (noise not in ("dropout", "latent") or (noise == "latent" and training))
    before = net.norm.running_mean.clone(), net.norm.num_batches_tracked.clone()
    result.apply_to(net)
    assert net.second.out_features == 16
    assert net.training == training
    assert torch.isin(net.norm.running_mean, before[0]).all()
    assert torch.equal(net.norm.num_batches_tracked, before[1])
    assert net(INPUTS).shape == (4, 4)


def test_what_the_user_draws_next_is_what_it_was_without_prunec() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    net = Noisy(NOISE["randn_like"])
    captured = prunec.trace(net, (INPUTS,))
    torch.manual_seed(7)
    prunec.run(captured, HALF).apply_to(net)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("noise", ["randn", "bernoulli", "normal_"])
def test_equal_draws_hide_no_mistake(noise: str) -> None:
    """A wrong number in a weight is found as without noise."""
    from prunec.passes.verifier.compare import compare_outputs

    module = prunec.trace(Noisy(NOISE[noise]), (INPUTS,))
    wrong = module.clone()
    weight = wrong.graph.initializers["last.weight"].const_value
    changed = weight.numpy().copy()
    changed[3] += 1
    wrong.graph.initializers["last.weight"].const_value = type(weight)(torch.from_numpy(changed))
    compare_outputs("nothing", module, module.clone())
    with pytest.raises(prunec.PrunecError, match="is off by"):
        compare_outputs("mistake", module, wrong)
