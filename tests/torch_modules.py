"""Small modules of torch with the structures that couple channels, and an oracle that knows no graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

torch.set_num_threads(1)  # the modules are small: threads would only wait for each other

Removed = Mapping[str, Mapping[int, Sequence[int]]]
BATCH = {"x": {0: torch.export.Dim("batch")}}


class Residual(nn.Module):
    """A residual sum, a concatenation, depthwise and grouped convolutions, a flatten, and a dict as result."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.branch = nn.Conv2d(16, 16, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(32 * 4, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu_(self.norm(self.stem(x)))
        x = x + self.grouped(self.depthwise(x))
        both = torch.cat([x, self.branch(x)], 1)
        return {"logits": self.head(self.drop(F.max_pool2d(both, 4).flatten(1)))}


class Shuffle(nn.Module):
    """Halves by ``chunk``, and a channel shuffle by views whose sizes are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.point = nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat([left, F.relu(self.depthwise(self.point(right)))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.head(x).mean([2, 3])


class Encoder(nn.Module):
    """An encoder and decoder over images with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 32, 3, 2, 1)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.merge = nn.Conv2d(32, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.silu(self.down(x))
        x = torch.cat([skip, self.up(F.gelu(self.deep(skip)))], 1)
        x = F.interpolate(self.merge(x), scale_factor=2, mode="bilinear")
        return self.head(F.pad(x, (1, 1, 1, 1)))


class Perceptron(nn.Sequential):
    """Linear layers with a LayerNorm between them."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(10, 32),
            nn.ReLU(inplace=True),
            nn.LayerNorm(32),
            nn.Linear(32, 24),
            nn.Tanh(),
            nn.Linear(24, 4),
        )


class Transformer(nn.Sequential):
    """``torch``'s own encoder between two linear layers."""

    def __init__(self) -> None:
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        super().__init__(nn.Linear(10, 32), nn.TransformerEncoder(layer, 2), nn.Linear(32, 5))


class DecoderLayer(nn.Module):
    """Grouped-query attention with rotary positions, and a gated feed-forward part."""

    def __init__(self, size: int, heads: int, keys: int) -> None:
        super().__init__()
        self.heads, self.keys, self.head_size = heads, keys, size // heads
        self.before_attention, self.before_gate = nn.RMSNorm(size), nn.RMSNorm(size)
        self.q = nn.Linear(size, size, bias=False)
        self.k = nn.Linear(size, keys * self.head_size, bias=False)
        self.v = nn.Linear(size, keys * self.head_size, bias=False)
        self.o = nn.Linear(size, size, bias=False)
        self.up, self.gate, self.down = nn.Linear(size, 64), nn.Linear(size, 64), nn.Linear(64, size)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, steps, _ = x.shape
        normed = self.before_attention(x)
        q = self.q(normed).view(batch, steps, self.heads, self.head_size).transpose(1, 2)
        k, v = (
            f(normed).view(batch, steps, self.keys, self.head_size).transpose(1, 2) for f in (self.k, self.v)
        )
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        each = self.heads // self.keys
        k, v = (
            t[:, :, None]
            .expand(batch, self.keys, each, steps, self.head_size)
            .reshape(batch, self.heads, steps, self.head_size)
            for t in (k, v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        x = x + self.o(mixed.reshape(batch, steps, -1))
        normed = self.before_gate(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Decoder(nn.Module):
    """A language model with tied embeddings, of which batch and length are dynamic."""

    def __init__(self, vocabulary: int = 50, size: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size)
        self.layers = nn.ModuleList(DecoderLayer(size, heads=4, keys=2) for _ in range(2))
        self.norm = nn.RMSNorm(size)
        self.head = nn.Linear(size, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        frequencies = 1 / 10000 ** (torch.arange(0, 8, 2).float() / 8)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            angles = torch.outer(torch.arange(ids.shape[1]).float(), self.frequencies)
            angles = torch.cat([angles, angles], -1)
            cos, sin = angles.cos(), angles.sin()
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    """A bidirectional LSTM of two layers in front of a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(24, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A module with its example inputs.

    Attributes:
        build: makes the module.
        inputs: makes the inputs.
        dynamic: its dynamic shapes.
        units: what attention may lose.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    dynamic: Any = None
    units: tuple[str, ...] = ("head",)

    def made(self) -> nn.Module:
        """The module with reproducible weights, and batch norms that normalise something."""
        torch.manual_seed(0)
        module = self.build()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.running_mean, -1, 1)
                nn.init.uniform_(part.running_var, 0.5, 2)
        return module


def images(size: int = 8) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randn(2, 3, size, size),)


BOTH = ("head", "head-dim")
_TOKENS = {"ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("steps")}}
CASES: Mapping[str, Case] = {
    "residual": Case(build=Residual, inputs=images(), dynamic=BATCH),
    "shuffle": Case(build=Shuffle, inputs=images(), dynamic=BATCH),
    "encoder": Case(build=Encoder, inputs=images(16)),
    "perceptron": Case(
        build=Perceptron, inputs=lambda: (torch.randn(3, 10),), dynamic=({0: torch.export.Dim("n")},)
    ),
    "transformer": Case(build=Transformer, inputs=lambda: (torch.randn(2, 7, 10),), units=BOTH),
    "decoder": Case(
        build=Decoder, inputs=lambda: (torch.randint(0, 50, (2, 7)),), dynamic=_TOKENS, units=BOTH
    ),
    "recurrent": Case(build=Recurrent, inputs=lambda: (torch.randn(2, 7, 8),)),
}


def masked(module: nn.Module, removed: Removed) -> nn.Module:
    """A copy with the removed slices of all parameters at zero and norms over the kept channels alone."""
    copied = copy.deepcopy(module)
    tensors = dict(copied.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, axes in removed.items():
            for axis, positions in axes.items():
                if name in tensors:
                    tensors[name].index_fill_(axis, torch.tensor(positions), 0)
    for name, part in copied.named_modules():
        if isinstance(part, nn.LayerNorm | nn.RMSNorm) and f"{name}.weight" in removed:
            _restrict(part, removed[f"{name}.weight"][0])
    return copied


def _restrict(norm: nn.LayerNorm | nn.RMSNorm, gone: Sequence[int]) -> None:
    kept = [i for i in range(norm.weight.shape[0]) if i not in set(gone)]

    def forward(x: Tensor) -> Tensor:
        part = x[..., kept]
        if isinstance(norm, nn.LayerNorm):
            made = F.layer_norm(part, (len(kept),), norm.weight[kept], norm.bias[kept], norm.eps)
        else:
            made = F.rms_norm(part, (len(kept),), norm.weight[kept], norm.eps)
        return torch.zeros_like(x).index_copy(-1, torch.tensor(kept), made)

    norm.forward = forward  # type: ignore[method-assign]


def leaves(result: Any) -> list[Tensor]:
    """The tensors of a result, in order."""
    return [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, Tensor)]


def assert_same(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Both return the same tensors, relative to their largest magnitude."""
    pairs = list(zip(leaves(actual), leaves(expected), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape
        scale = max(float(b.detach().abs().max()), 1e-3)
        assert float((a - b).detach().abs().max()) <= tolerance * scale
