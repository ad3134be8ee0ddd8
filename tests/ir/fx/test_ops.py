"""Every op of ATen that is registered for pruning, in a small network: pruned, it equals the network masked by hand.

Each network is ``first -> op -> last``. What the op does to the channels between the two decides what can go.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_modules import assert_same, masked

import prunec
from prunec.ir.dialect import ATEN
from prunec.ir.registry import OPS, find_op


class Between(nn.Module):
    """An op between two convolutions (``[2, 3, 8, 8]`` in) or two linear layers (``[2, 6, 10]`` in)."""

    def __init__(self, op: Callable[[Tensor], Tensor], width: int, *, image: bool) -> None:
        super().__init__()
        self.op = op
        self.first = nn.Conv2d(3, 16, 1) if image else nn.Linear(10, 16)
        self.last = nn.Conv2d(width, 4, 1) if image else nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(self.first(x)))


IMAGES: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "pooling": (lambda x: F.avg_pool2d(F.max_pool2d(x, 2), 2), 16),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 3) + F.adaptive_max_pool2d(x, 3), 16),
    "shuffle": (lambda x: F.channel_shuffle(x, 4), 16),
    "pixels": (lambda x: F.pixel_shuffle(x, 2), 4),
    "unpixels": (lambda x: F.pixel_unshuffle(x, 2), 64),
    "pads": (lambda x: F.pad(F.pad(x, (1, 1, 2, 0)), (1, 1, 1, 1), mode="reflect"), 16),
    "shortcut": (lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)), 24),
    "chunk": (lambda x: torch.mul(*x.chunk(2, 1)), 8),
    "split": (lambda x: torch.cat(x.split([4, 12], 1)[::-1], 1), 16),
    "split evenly": (lambda x: sum(x.split(4, 1)), 4),  # type: ignore[dict-item,return-value]
    "split at": (lambda x: torch.cat(x.tensor_split([4, 12], 1)[::-1], 1), 16),
    "windows": (lambda x: F.unfold(x, 3, padding=1).unflatten(2, (8, 8)), 144),
    "windows back": (lambda x: F.fold(F.unfold(x, 2), (8, 8), 2), 16),
    "narrow": (lambda x: x.narrow(1, 4, 8), 8),
    "slice": (lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1), 16),
    "index": (lambda x: x[:, torch.arange(15, -1, -1)], 16),
    "index_select": (lambda x: x.index_select(1, torch.tensor([0, 2, 4, 6])), 4),
    "flip": (lambda x: x.flip(1), 16),
    "roll": (lambda x: x.roll(3, 1), 16),
    "glu": (lambda x: F.glu(x, 1), 8),
    "stack": (lambda x: torch.stack([x, x.relu()], 1).flatten(1, 2), 32),
    "unbind": (lambda x: sum(x.unflatten(1, (2, 8)).unbind(1)), 8),  # type: ignore[dict-item,return-value]
    "repeat": (lambda x: x.repeat(1, 2, 1, 1), 32),
    "repeated to": (lambda x: x * x.mean((1, 2, 3), keepdim=True).repeat(1, 16, 1, 1), 16),
    "tiled to": (lambda x: x * x.mean((0, 1, 2, 3)).reshape(1, 1).tile(16, 1, 1), 16),
    "interleave": (lambda x: x.repeat_interleave(2, 1), 32),
    "squeeze": (lambda x: x.mean((2, 3), keepdim=True).squeeze(3).unsqueeze(3), 16),
    "gate": (lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), 16),
    "clamp": (lambda x: F.hardtanh(x).clamp(min=-0.5).masked_fill(x > 2, 0.0), 16),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x) + torch.zeros_like(x), 16),
    "upsample": (lambda x: F.interpolate(x, size=(5, 7), mode="nearest"), 16),
    "group norm": (lambda x: F.group_norm(x, 4), 16),
    "instance norm": (lambda x: F.instance_norm(x), 16),
    "moved": (lambda x: x.movedim(1, -1).transpose(-1, 1).swapaxes(2, 3), 16),
    "permuted": (lambda x: x.permute(0, 2, 3, 1).flatten(1, 2).mT.unflatten(2, (8, 8)), 16),
    "grid": (lambda x: F.grid_sample(x, torch.zeros(2, 3, 3, 2), align_corners=False), 16),
    "expanded": (lambda x: x[:, :, :1].expand(-1, -1, 8, -1).expand_as(x), 16),
    "slopes": (lambda x: F.prelu(F.prelu(x, torch.full((16,), 0.2)), torch.tensor(0.3)), 16),
    "maximum": (lambda x: torch.maximum(x, x.amax((2, 3), keepdim=True) / 2), 16),
    "in place": (lambda x: x.add_(1).mul_(2).relu_(), 16),
}

SEQUENCES: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "view": (lambda x: x.view(2, 3, 2, 16).reshape(2, 6, 16), 16),
    "reshape as": (lambda x: x.flatten(0, 1).reshape_as(x) + x.flatten(1).view_as(x), 16),
    "bmm": (lambda x: torch.bmm(torch.softmax(torch.bmm(x, x.mT), -1), x), 16),
    "baddbmm": (lambda x: torch.baddbmm(x, torch.ones(2, 6, 6), x), 16),
    "matmul": (lambda x: torch.ones(6, 6) @ x, 16),
    "einsum": (lambda x: torch.einsum("bsc,btc,btd->bsd", x, x, x), 16),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), 16),
    "cumsum": (lambda x: x.cumsum(1), 16),
    "gathered": (lambda x: x.gather(1, torch.arange(5, -1, -1)[:, None].repeat(2, 1, 16)), 16),
    "gather": (lambda x: x.gather(1, torch.zeros(2, 6, 16, dtype=torch.int64)), 16),
    "max": (lambda x: x.max(1, keepdim=True).values + x, 16),
    "top": (lambda x: x.topk(3, 1).values, 16),
    "variance": (lambda x: x.var(1, keepdim=True) + x.std(1, keepdim=True), 16),
    "cast": (lambda x: x.double().float().type_as(x).contiguous(), 16),
    "triangle": (lambda x: torch.tril(torch.ones(6, 6)) @ x, 16),
}


class Written(nn.Module):
    """Writes into a part of the channels."""

    def __init__(self, part: slice) -> None:
        super().__init__()
        self.part = part
        self.first, self.last = nn.Linear(10, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y[:, self.part] *= 2
        y[:, self.part][:, 1:3].sigmoid_()
        return self.last(y)


@pytest.mark.parametrize("part", [slice(4, 12), slice(None, -3), slice(None)])
def test_a_part_without_gaps_may_be_written_in_place(part: slice) -> None:
    torch.manual_seed(0)
    module, inputs = Written(part).eval(), (torch.randn(3, 10),)
    result = prunec.run(prunec.trace(module, inputs), "prune-channels{ratio=50% round-to=1 criterion=random}")
    removed = result.plan.removed()
    assert len(removed["first.weight"][0]) >= 7
    with torch.no_grad():
        assert_same(result.to_torch().eval()(*inputs), masked(module, removed)(*inputs))


def test_a_part_with_gaps_that_is_written_in_place_is_pinned() -> None:
    captured = prunec.trace(Written(slice(None, None, 2)), (torch.randn(3, 10),))
    groups = prunec.analyse(captured.model).groups
    assert "a part of a tensor that has gaps is written in place" in str(groups[0])
    assert not prunec.run(captured, "prune-channels{ratio=50% criterion=random}").changed


def test_every_registered_op_exists() -> None:
    find_op(prunec.load("examples/digits.onnx").graph[0])
    names = [name.rpartition(".") for domain, name in OPS if domain == ATEN]
    missing = [
        f"{op}.{kind}" for op, _, kind in names if not hasattr(getattr(torch.ops.aten, op, None), kind)
    ]
    assert len(names) > 500
    assert missing == []


EVERY = [(name, True) for name in IMAGES] + [(name, False) for name in SEQUENCES]


@pytest.mark.parametrize(("name", "image"), EVERY, ids=[name for name, _ in EVERY])
def test_op_between_two_layers(name: str, image: bool) -> None:
    torch.manual_seed(0)
    op, width = (IMAGES if image else SEQUENCES)[name]
    module = Between(op, width, image=image).eval()
    inputs = (torch.randn(2, 3, 8, 8) if image else torch.randn(2, 6, 10),)
    result = prunec.run(prunec.trace(module, inputs), "prune-channels{ratio=50% round-to=1 criterion=random}")
    removed = result.plan.removed()
    assert removed.get("first.weight", {}).get(0), "nothing was removed"
    if _takes_statistics(result):
        return  # zeros are not what is left out there; the verifier has compared it
    with torch.no_grad():
        assert_same(result.to_torch().eval()(*inputs), masked(module, removed)(*inputs))


def _takes_statistics(result: prunec.Result) -> bool:
    return any(verdict.equivalence == "masked-kept-statistics" for verdict in result.verdicts)


@torch.library.custom_op("transformers::grouped_mm_fallback", mutates_args=())
def grouped_mm_fallback(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """What the library of that name registers for itself: float32, which torch's own has no kernel for."""
    parts = rows.tensor_split(ends[:-1].long(), 0)
    return torch.cat([part @ weight for part, weight in zip(parts, weights, strict=True)])


@grouped_mm_fallback.register_fake
def _(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    del ends
    return rows.new_empty(rows.shape[0], weights.shape[2])


class Experts(nn.Module):
    """The first tokens go through one matrix, the others through another."""

    def __init__(self, op: Callable[..., Tensor], kind: torch.dtype) -> None:
        super().__init__()
        self.op, self.kind = op, kind
        self.first, self.last = nn.Linear(10, 16), nn.Linear(32, 4)
        self.experts = nn.Parameter(torch.randn(2, 16, 32) / 4)

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([5, 12], dtype=torch.int32)
        return self.last(self.op(self.first(x).to(self.kind), self.experts.to(self.kind), ends).float())


@pytest.mark.parametrize(
    ("op", "kind", "tolerance"),
    [
        (lambda x, w, ends: F.grouped_mm(x, w, offs=ends), torch.bfloat16, 0.02),
        (lambda x, w, ends: grouped_mm_fallback(x, w, ends), torch.float32, 1e-5),
    ],
)
def test_experts_lose_rows_and_columns_and_none_of_them_goes(
    op: Callable[..., Tensor], kind: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    module, inputs = Experts(op, kind).eval(), (torch.randn(12, 10),)
    result = prunec.run(
        prunec.trace(module, inputs), "prune-channels{ratio=50% criterion=random}", verify=False
    )
    removed = result.plan.removed()
    assert {axis: len(gone) for axis, gone in removed["experts"].items()} == {1: 8, 2: 16}
    with torch.no_grad():
        made, wanted = result.to_torch().eval()(*inputs), masked(module, removed)(*inputs)
    torch.testing.assert_close(made, wanted, rtol=tolerance, atol=tolerance)


def test_repeats_are_rewritten_beside_computed_ones() -> None:
    torch.manual_seed(0)
    module = Between(
        lambda x: x * x.mean((0, 2, 3)).mean().repeat(x.shape[0], 16, 1, 1), 16, image=True
    ).eval()
    inputs = (torch.randn(2, 3, 8, 8),)
    captured = prunec.trace(module, inputs, dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    result = prunec.run(captured, "prune-channels{ratio=50% round-to=1 criterion=random}")
    assert len(result.plan.removed()["first.weight"][0]) == 8
    assert result.to_torch()(torch.randn(5, 3, 8, 8)).shape == (5, 4, 8, 8)


class CrossCovariance(nn.Module):
    """Attention of the channels of a head to each other (El-Nouby et al. 2021, eq. 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv, self.last = nn.Linear(10, 16), nn.Linear(16, 48), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.first(x)).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 4, 1).unbind(0)
        mixed = torch.softmax(q @ k.mT, -1) @ v
        return self.last(mixed.flatten(1, 2).mT)


def test_positions_of_heads_that_share_a_softmax_stay_and_heads_go() -> None:
    torch.manual_seed(0)
    module, inputs = CrossCovariance().eval(), (torch.randn(2, 6, 10),)
    text = "prune-channels{ratio=50% round-to=1 unit=head-dim criterion=random}"
    result = prunec.run(prunec.trace(module, inputs), text)
    removed = result.plan.removed()
    heads = {slot // 4 for slot in removed["last.weight"][1]}
    assert len(heads) == 2 and len(removed["last.weight"][1]) == 8
    with torch.no_grad():
        assert_same(result.to_torch().eval()(*inputs), masked(module, removed)(*inputs))


class Registers(nn.Module):
    """Tokens of the module's own beside those of the input, in attention that is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(10, 16), nn.Linear(16, 4)
        self.registers = nn.Parameter(torch.randn(1, 4, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.registers.expand(x.shape[0], -1, -1), self.first(x)], 1)
        return self.last(torch.softmax(y @ y.mT, -1) @ y).mean(1)


def test_tokens_that_share_a_softmax_stay() -> None:
    captured = prunec.trace(Registers().eval(), (torch.randn(2, 6, 10),))
    removed = prunec.run(captured, "prune-channels{ratio=50% round-to=1}").plan.removed()
    assert removed["registers"].keys() == {2}
    assert "the slots of an axis of softmax.int share one sum" in " ".join(
        str(group) for group in prunec.analyse(captured.model).groups
    )


class Normed(nn.Module):
    """A convolution whose weights are directions and lengths, one length for every ``dim``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(3, 16, 1), nn.Conv1d(16, 4, 1)
        self.between = nn.utils.parametrizations.weight_norm(nn.Conv1d(16, 16, 3, padding=1), dim=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)).relu())


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_weight_norm_loses_directions_with_their_lengths(dim: int) -> None:
    torch.manual_seed(0)
    module, inputs = Normed(dim).eval(), (torch.randn(2, 3, 8),)
    result = prunec.run(prunec.trace(module, inputs), "prune-channels{ratio=50% round-to=1 criterion=random}")
    removed = result.plan.removed()
    length, direction = (f"between.parametrizations.weight.original{i}" for i in (0, 1))
    assert {axis: len(gone) for axis, gone in removed[direction].items()} == {0: 8, 1: 8}
    assert removed.get(length, {}) == {a: gone for a, gone in removed[direction].items() if a == dim}
    reference = masked(module, {n: axes for n, axes in removed.items() if n != direction})
    with torch.no_grad():
        kept = result.to_torch().eval()(*inputs)
        for axis, gone in removed[direction].items():  # zero over zero has no direction
            reference.get_parameter(direction).index_fill_(axis, torch.tensor(gone), 1e-12)
        assert_same(kept, reference(*inputs))


class Standardised(nn.Module):
    """A convolution whose weights are made of mean 0 and variance 1 for every filter (Qiao et al. 2019, eq. 5)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(3, 16, 1), nn.Conv1d(16, 4, 1)
        self.between = nn.Conv1d(16, 16, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.between.weight
        flat = F.batch_norm(weight.reshape(1, 16, -1), None, None, training=True, momentum=0.0)
        y = F.conv1d(self.first(x), flat.reshape_as(weight), padding=1, groups=self.between.groups)
        return self.last(y.relu())


@pytest.mark.parametrize("groups", [1, 4])
def test_standardised_weights_take_their_statistics_over_what_stays(groups: int) -> None:
    torch.manual_seed(0)
    captured = prunec.trace(Standardised(groups).eval(), (torch.randn(2, 3, 8),))
    result = prunec.run(captured, "prune-channels{ratio=50% round-to=1 unit=head-dim criterion=random}")
    assert result.plan.removed()["between.weight"].keys() == {0, 1}
    assert result.verdicts[0].equivalence == "masked-kept-statistics"


class Spectral(nn.Module):
    """A convolution whose weight is divided by its largest singular value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(3, 16, 1), nn.Conv1d(16, 4, 1)
        self.between = nn.utils.parametrizations.spectral_norm(nn.Conv1d(16, 16, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)).relu())


def test_spectral_norm_is_cut_with_its_vectors() -> None:
    torch.manual_seed(0)
    module, inputs = Spectral().eval(), (torch.randn(2, 3, 8),)
    result = prunec.run(prunec.trace(module, inputs), "prune-channels{ratio=50% round-to=1 criterion=random}")
    removed = result.plan.removed()
    assert {axis: len(gone) for axis, gone in removed["first.weight"].items()} == {0: 8}
    with torch.no_grad():
        assert_same(result.to_torch().eval()(*inputs), masked(module, removed)(*inputs))


def test_an_op_without_a_rule_is_pinned_and_named() -> None:
    module = Between(lambda x: torch.linalg.pinv(x), 6, image=False)
    with pytest.raises(prunec.UserError):
        prunec.trace(module, (torch.randn(2, 7, 10),))
    module.last = nn.Linear(6, 4)
    groups = prunec.analyse(prunec.trace(module, (torch.randn(2, 6, 10),)).model).groups
    assert "op `aten::linalg_pinv" in str(groups[0])
