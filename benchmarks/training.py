"""Trains the networks of the benchmarks with fixed seeds, keeps them in a folder, and writes them as ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import specimens

if TYPE_CHECKING:
    import torch

LENGTH = 64
"""Characters that the decoder sees."""
IMAGES, TOKENS = "image", "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one network is trained: AdamW, one cycle of the learning rate.

    Attributes:
        steps: of the optimizer.
        batch: samples of a step.
        rate: highest learning rate.
        seed: of the weights and of the order of the samples.
    """

    steps: int
    batch: int = 64
    rate: float = 3e-3
    seed: int = 0


RECIPES = {
    "digits-cnn": Recipe(steps=700),
    "resnet20": Recipe(steps=600),
    "vit": Recipe(steps=1600, rate=2e-3),
    "decoder": Recipe(steps=900, batch=32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained network on disk.

    Attributes:
        name: of the network.
        model: the ONNX file.
        weights: its ``state_dict``, for torch.
        calibration: ``.npz`` with its input.
        test: ``.npz`` with its input and ``label``, what each output should be.
        characters: of the decoder's alphabet.
    """

    name: str
    model: Path
    weights: Path
    calibration: Path
    test: Path
    characters: int


def trained(name: str, folder: Path) -> Trained:
    """The network of a name, trained now unless the folder has it."""
    folder.mkdir(parents=True, exist_ok=True)
    characters = len(specimens.text().characters) if name == "decoder" else 0
    stem = folder / name
    files = Trained(
        name=name,
        model=stem.with_suffix(".onnx"),
        weights=stem.with_suffix(".pt"),
        calibration=folder / f"{name}_calibration.npz",
        test=folder / f"{name}_test.npz",
        characters=characters,
    )
    if not files.model.exists():
        _make(files)
    return files


def _make(files: Trained) -> None:
    import torch

    from networks import NETWORKS

    recipe = RECIPES[files.name]
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    inputs, labels, calibration, test = _data(files.name)
    net = NETWORKS[files.name](files.characters)
    if files.weights.exists():
        net.load_state_dict(torch.load(files.weights, weights_only=True))
    else:
        _fit(net, recipe, torch.from_numpy(inputs), torch.from_numpy(labels))
        torch.save(net.state_dict(), files.weights)
    key = TOKENS if files.name == "decoder" else IMAGES
    np.savez(files.calibration, allow_pickle=False, **{key: calibration})
    np.savez(files.test, allow_pickle=False, **{key: test[0], "label": test[1]})
    _export(net.eval(), torch.from_numpy(test[0][:2]), key, files.model)


def _data(name: str) -> tuple[Any, Any, Any, tuple[Any, Any]]:
    """Inputs and labels to train on, inputs to calibrate with, inputs and labels to test on."""
    if name != "decoder":
        digits = specimens.digits()
        return *digits.train, digits.calibration, digits.test
    text = specimens.text()
    pieces = specimens.windows(text.train, LENGTH + 1, 1 << 30)
    held_out = specimens.windows(text.test, LENGTH + 1, 600)
    return pieces[:, :-1], pieces[:, 1:], pieces[:512, :-1], (held_out[:, :-1], held_out[:, 1:])


def _fit(net: torch.nn.Module, recipe: Recipe, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    import torch

    optimizer = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.steps)
    for _ in range(recipe.steps):
        chosen = torch.randint(len(inputs), (recipe.batch,))
        logits = net(inputs[chosen])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels[chosen].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()


def _export(net: torch.nn.Module, inputs: torch.Tensor, name: str, path: Path) -> None:
    """Write a network in inference form, each BatchNormalization still a node of its own."""
    import torch

    torch.onnx.export(
        net,
        (inputs,),
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
        input_names=[name],
        output_names=["logits"],
        dynamic_axes={name: {0: "batch"}, "logits": {0: "batch"}},
    )
