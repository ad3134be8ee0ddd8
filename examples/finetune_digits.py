"""Prune a network of torch while it trains, export it, and make it 2:4 sparse, with no loss of accuracy.

A small residual network learns scikit-learn's digits; half of its channels go in steps, with training between them;
the result is exported to ONNX and compared with the dense one. Then its weights become 2:4, and training goes on
with the zeros where they are::

    python examples/finetune_digits.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

import prunec

HERE = Path(__file__).parent
ALLOWED = 0.005
"""Accuracy that pruning may cost: half a point."""


class Block(nn.Module):
    """Two convolutions and an identity skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm, self.out = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """From and to [batch, channels, height, width]."""
        return relu(x + self.out(self.second(relu(self.norm(self.first(x))))))


class DigitNet(nn.Sequential):
    """Logits [batch, 10] of grey images [batch, 1, 8, 8] with values in [0, 1]."""

    def __init__(self) -> None:
        stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        wide = nn.Sequential(nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        super().__init__(
            stem, Block(32), wide, Block(64), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images [sample, 1, 8, 8] and labels [sample], to learn from and to judge by."""

    images: Tensor
    labels: Tensor
    held_out: Tensor
    truth: Tensor

    @classmethod
    def load(cls) -> Digits:
        """From the files beside this one."""
        seen, kept = np.load(HERE / "digits_train.npz"), np.load(HERE / "digits.npz")
        images = torch.from_numpy(seen["image"]).float() / 16
        return cls(
            images=images,
            labels=torch.from_numpy(seen["label"]).long(),
            held_out=torch.from_numpy(kept["image"]),
            truth=torch.from_numpy(kept["label"]),
        )

    def batches(self, size: int = 128) -> list[tuple[Tensor, Tensor]]:
        """All that is to learn, in a new order and moved by up to a pixel."""
        order = torch.randperm(len(self.images)).split(size)
        return [(shifted(self.images[chosen]), self.labels[chosen]) for chosen in order]


def shifted(images: Tensor) -> Tensor:
    """Images [batch, 1, 8, 8] moved by -1, 0 or 1 pixel along both axes."""
    padded = pad(images, (1, 1, 1, 1))
    row, column = torch.randint(3, (2,)).tolist()
    return padded[:, :, row : row + 8, column : column + 8]


def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Of one batch."""
    return cross_entropy(net(batch[0]), batch[1])


def train(net: nn.Module, digits: Digits, optimizer: torch.optim.Optimizer, epochs: int, rate: float) -> None:
    """Some epochs, the learning rate falling linearly from ``rate``."""
    net.train()
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - epoch / epochs)
        for batch in digits.batches():
            optimizer.zero_grad()
            loss(net, batch).backward()
            optimizer.step()


def accuracy(net: nn.Module, digits: Digits) -> float:
    """Share of the held-out images that a module gets right."""
    with torch.no_grad():
        return float((net.eval()(digits.held_out).argmax(1) == digits.truth).float().mean())


def accuracy_of_file(path: Path, digits: Digits) -> float:
    """The same for an ONNX file, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path)
    (logits,) = session.run(None, {session.get_inputs()[0].name: digits.held_out.numpy()})
    return float((logits.argmax(1) == digits.truth.numpy()).mean())


def export(net: nn.Module, path: Path) -> None:
    """Write a module as ONNX, with an open batch."""
    with contextlib.redirect_stdout(io.StringIO()):
        shapes = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(net.eval(), (torch.zeros(2, 1, 8, 8),), path, dynamo=True, dynamic_shapes=shapes)


def report(what: str, net: nn.Module, share: float) -> None:
    """One line about a state of the network."""
    print(f"{what:28}{sum(p.numel() for p in net.parameters()):8,} parameters{share:9.2%} held-out accuracy")


def main() -> None:
    """Train, prune and train, export; then 2:4, and train on."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=16, help="of the dense network (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("finetuned.onnx"), help="ONNX file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits, net, images = Digits.load(), DigitNet(), torch.zeros(2, 1, 8, 8)

    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    train(net, digits, optimizer, options.epochs, 4e-3)
    dense = accuracy(net, digits)
    report("dense", net, dense)

    for step in prunec.torch.schedule(
        net.train(),
        (images,),
        "prune-channels{criterion=taylor}",
        ratio=0.5,
        steps=4,
        optimizer=optimizer,
        gradients=lambda net: prunec.torch.gradients(net, loss, digits.batches()),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    ):
        train(net, digits, optimizer, max(options.epochs // 8, 1), 2e-3)
        report(f"step {step.number}, {step.ratio:.0%} of the channels", net, accuracy(net, digits))
    train(net, digits, optimizer, options.epochs // 2, 2e-3)
    pruned = accuracy(net, digits)
    report("trained on", net, pruned)
    export(net, options.out)
    exported = accuracy_of_file(options.out, digits)
    report(f"{options.out.name}", net, exported)

    result = prunec.run(prunec.trace(net.train(), (images,)), "sparsify{pattern=2:4 layers=all}")
    result.apply_to(net)
    report("2:4", net, accuracy(net, digits))
    with prunec.torch.keep_masks(net, result.plan) as masks:
        train(net, digits, optimizer, options.epochs // 2, 2e-3)
        sparse = accuracy(net, digits)
        report("2:4, trained on", net, sparse)
        print(f"weights that should be zero and are not: {sum(masks.broken().values())}")
    if min(exported, sparse) < dense - ALLOWED:
        raise SystemExit(
            f"pruning costs more than {ALLOWED:.1%}: dense {dense:.2%}, ONNX {exported:.2%}, 2:4 {sparse:.2%}"
        )


if __name__ == "__main__":
    main()
