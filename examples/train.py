"""Train a small residual CNN on scikit-learn's digits and export it as the model of the examples.

Writes, beside this file, ``digits.onnx``, ``digits.npz`` (the held-out images and labels),
``digits_calibration.npz`` (images from the training part) and ``digits_train.npz`` (all of that part).
Only this file needs scikit-learn::

    python examples/train.py

Training makes the network cheap to cut. As in network slimming (Liu et al., 2017), a penalty on the scales of
BatchNorm (here on the shifts too) lets the channels fade that the task can do without. Two things differ:

- channels that are cut together (along a skip, through a depthwise layer) are one channel with one L2 norm n;
- the penalty is not the sum of n, which the next BatchNorm undoes and which lets whole layers die, but the
  effective number of channels of each group, (sum n)^2 / sum n^2 (Group-HS; Yang et al., 2020), which ignores
  scale. It ends at a chosen share of the channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d, pad, relu

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that the result depends on, besides the network, the versions of the packages and the kind of CPU.

    Attributes:
        seed: of the split, the initial weights, the order of the samples and the shifts.
        weight_decay: on convolutions and the classifier; BatchNorm has the sparsity penalty instead.
        sparsity: weight of that penalty in the loss.
        share: effective share of the channels of a group at which its penalty ends.
        held_out: number of samples that training never sees, classes in proportion.
        calibration: number of training samples that are written for passes that need activations.
    """

    seed: int = 0
    epochs: int = 120
    batch: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 5e-3
    sparsity: float = 1.0
    share: float = 0.4
    held_out: int = 450
    calibration: int = 256


class ConvNorm(nn.Module):
    """A convolution without bias that keeps the image size (at stride 1), and its BatchNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, inputs, height, width] to [batch, outputs, height / stride, width / stride]."""
        normed: Tensor = self.norm(self.conv(x))
        return normed


class Residual(nn.Module):
    """Two convolutions and a skip: the identity where the shapes agree, else a strided 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride=stride)
        self.second = ConvNorm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, inputs, height, width] to [batch, outputs, height / stride, width / stride]."""
        return relu(self.second(relu(self.first(x))) + self.skip(x))


class DigitNet(nn.Module):
    """Residual blocks, a depthwise-separable stage, two concatenated branches, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 24, 3)
        self.block = Residual(24, 24)
        self.down = Residual(24, 48, stride=2)
        self.depthwise = ConvNorm(48, 48, 3, groups=48)
        self.pointwise = ConvNorm(48, 64, 1)
        self.narrow = ConvNorm(64, 32, 1)
        self.wide = ConvNorm(64, 32, 3)
        self.classifier = nn.Linear((32 + 32) * 2 * 2, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [batch, 10] of grey images [batch, 1, 8, 8] with values in [0, 1]."""
        x = self.down(self.block(relu(self.stem(image))))
        x = relu(self.pointwise(relu(self.depthwise(x))))
        x = torch.cat([relu(self.narrow(x)), relu(self.wide(x))], dim=1)
        logits: Tensor = self.classifier(torch.flatten(max_pool2d(x, 2), 1))
        return logits

    def coupled(self) -> Iterator[list[nn.Module]]:
        """The layers of each channel group: output channels that can only be cut together."""
        yield [self.stem, self.block.second]
        yield [self.down.second, self.down.skip, self.depthwise]
        for alone in (self.block.first, self.down.first, self.pointwise, self.narrow, self.wide):
            yield [alone]

    def excess_width(self, share: float) -> Tensor:
        """By how much the effective share of channels exceeds ``share``, summed over the groups."""
        excess = torch.zeros(())
        for layers in self.coupled():
            scales_and_shifts = (p for layer in layers for p in layer.parameters() if p.ndim == 1)
            n = torch.stack([*scales_and_shifts]).square().sum(0).add(1e-8).sqrt()
            excess = excess + relu(n.sum().square() / n.square().sum() / len(n) - share)
        return excess


def shifted(images: Tensor) -> Tensor:
    """Each image [batch, 1, 8, 8] moved by -1, 0 or 1 pixel along both axes; zeros come in."""
    padded = pad(images, (1, 1, 1, 1)).squeeze(1)
    rows, columns = torch.randint(3, (2, len(images), 1)) + torch.arange(8)
    batch = torch.arange(len(images))[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def optimizer_of(net: DigitNet, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay only on tensors with more than one axis."""
    decayed: dict[str, Any] = {"params": [], "weight_decay": recipe.weight_decay}
    plain: dict[str, Any] = {"params": []}
    for parameter in net.parameters():
        (decayed if parameter.ndim > 1 else plain)["params"].append(parameter)
    return torch.optim.SGD([decayed, plain], recipe.learning_rate, momentum=0.9, nesterov=True)


def train(images: Tensor, labels: Tensor, recipe: Recipe) -> DigitNet:
    """A trained network in eval mode, from images [sample, 1, 8, 8] and labels [sample]."""
    torch.manual_seed(recipe.seed)
    net = DigitNet()
    optimizer = optimizer_of(net, recipe)
    steps = len(images) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.epochs * steps)
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(images))[: steps * recipe.batch].view(steps, -1):
            loss = cross_entropy(net(shifted(images[chosen])), labels[chosen])
            loss = loss + recipe.sparsity * net.excess_width(recipe.share)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return net.eval()


def export(net: DigitNet, path: Path) -> None:
    """Write the network in inference form, each BatchNormalization still a node of its own."""
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )


def main() -> None:
    """Train, export, and say the held-out accuracy in torch and in ONNX Runtime."""
    torch.set_num_threads(1)
    recipe = Recipe()
    images, classes = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    seen, held_out, seen_labels, labels = train_test_split(
        images, classes, test_size=recipe.held_out, stratify=classes, random_state=recipe.seed
    )
    net = train(torch.from_numpy(seen), torch.from_numpy(seen_labels), recipe)
    export(net, HERE / "digits.onnx")
    np.savez_compressed(HERE / "digits.npz", image=held_out, label=labels.astype(np.int64))
    np.savez_compressed(HERE / "digits_calibration.npz", image=seen[: recipe.calibration])
    numbers = {"image": (seen * 16).astype(np.uint8), "label": seen_labels.astype(np.uint8)}
    np.savez_compressed(HERE / "digits_train.npz", **numbers)
    with torch.no_grad():
        in_torch = net(torch.from_numpy(held_out)).numpy()
    (in_onnx,) = onnxruntime.InferenceSession(HERE / "digits.onnx").run(["logits"], {"image": held_out})
    for name, logits in (("torch", in_torch), ("ONNX Runtime", in_onnx)):
        print(f"{name}: {np.mean(logits.argmax(1) == labels):.2%} of {len(labels)} held-out images")


if __name__ == "__main__":
    main()
