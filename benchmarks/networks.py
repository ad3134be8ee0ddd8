"""Small networks of torch that the benchmarks train themselves; reading this file needs torch and nothing of prunec."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention


def convolution(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution without bias, and its BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Plain(nn.Module):
    """Five convolutions and a classifier behind a Flatten."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 32, 48, 64, 64)
        strides = (1, 2, 1, 2, 1)
        self.layers = nn.ModuleList(
            convolution(a, b, stride=s) for a, b, s in zip(widths, widths[1:], strides, strict=False)
        )
        self.classifier = nn.Linear(64 * 16, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, 16, 16]."""
        for layer in self.layers:
            image = relu(layer(image))
        logits: Tensor = self.classifier(torch.flatten(image, 1))
        return logits


class Block(nn.Module):
    """Two convolutions around which the input goes, through a projection where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs)
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs:
            self.skip = convolution(inputs, outputs, stride=stride, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, inputs, height, width] to [batch, outputs, height / stride, width / stride]."""
        return relu(self.second(relu(self.first(x))) + self.skip(x))


class ResNet20(nn.Module):
    """The network of He et al. (2016) for small images: nine blocks of 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(1, 16)
        widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        self.blocks = nn.Sequential(*(Block(a, b, 1 + (a != b)) for a, b in pairwise(widths)))
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, 16, 16]."""
        logits: Tensor = self.classifier(self.blocks(relu(self.stem(image))).mean(dim=(2, 3)))
        return logits


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, token, width] -> the same."""
        batch, tokens, _ = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        return out


class Layer(nn.Module):
    """A transformer layer with norms in front."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, token, width] -> the same."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return out


class VisionTransformer(nn.Module):
    """Patches of 4 x 4 pixels, four layers of width 64 with four heads, the mean over patches."""

    def __init__(self, width: int = 64, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(Layer(width, heads, causal=False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, 16, 16]."""
        x = self.patches(image).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.classifier(self.norm(self.layers(x)).mean(dim=1))
        return logits


class Decoder(nn.Module):
    """A language model over characters: two layers of width 96 with four heads."""

    def __init__(
        self, characters: int, length: int = 64, width: int = 96, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, length, width))
        self.layers = nn.Sequential(*(Layer(width, heads, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, position, character] of numbers [batch, position]."""
        x = self.embedding(tokens) + self.positions
        logits: Tensor = self.head(self.norm(self.layers(x)))
        return logits


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "digits-cnn": lambda _: Plain(),
    "resnet20": lambda _: ResNet20(),
    "vit": lambda _: VisionTransformer(),
    "decoder": lambda characters: Decoder(characters),
}
"""By name; the decoder asks for the number of characters."""
