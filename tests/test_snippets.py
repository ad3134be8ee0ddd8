"""The export script of the README, and the callbacks of examples/README.md, driven as their trainers drive them."""

from __future__ import annotations

import re
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import prunec

ROOT = Path(__file__).parents[1]
README = ROOT / "examples" / "README.md"
OPTIONS: dict[str, Any] = {"ratio": 0.5, "steps": 2, "verify": False}


def executed(page: Path, words: str) -> dict[str, Any]:
    """The names that the one indented block of a page with these words leaves behind."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(encoding="utf-8"), re.MULTILINE)
    (code,) = [textwrap.dedent(block) for block in blocks if words in block]
    names: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), names)
    return names


def test_the_export_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    mine = ModuleType("mine")
    vars(mine).update(
        Net=Wide, images=torch.randn(2, 8), train=lambda net, _: trained.append(epoch(net, _, 8))
    )
    monkeypatch.setitem(sys.modules, "mine", mine)
    trained: list[None] = []
    names = executed(ROOT / "README.md", "import torch, prunec\n")
    assert len(trained) == 2 and (tmp_path / "plan.json").exists()
    weight = names["net"].layers[2].weight
    assert weight.shape == (256, 256) and (weight == 0).float().mean() == 0.5
    (zeros,) = [
        (array == 0).mean()
        for v in prunec.load(tmp_path / "net.onnx").graph.initializers.values()
        if (array := v.const_value.numpy()).shape == (256, 256)
    ]
    assert zeros == 0.5


class Wide(nn.Module):
    """Layers wide enough for sparse tensor cores, also when they are halved."""

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 512, 512, 4)
        pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.layers = nn.Sequential(*[layer for pair in pairs for layer in pair][:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def callback(package: str, base: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class ``Prune`` of a snippet, over a stand-in of the package that has its base class alone."""
    stand_in = ModuleType(package)
    setattr(stand_in, base, type(base, (), {}))
    monkeypatch.setitem(sys.modules, package, stand_in)
    return executed(README, f"import {package}\n")["Prune"]


class Inner(nn.Module):
    """Two layers, the first of which is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.net(input_ids)


def epoch(module: nn.Module, optimizer: torch.optim.Optimizer, width: int = 4) -> None:
    optimizer.zero_grad()
    module(torch.randn(8, width)).square().mean().backward()
    optimizer.step()


def test_the_callback_of_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    prune = callback("lightning", "Callback", monkeypatch)((torch.randn(2, 4),), **OPTIONS)
    module = Inner()
    optimizer = torch.optim.AdamW(module.parameters())
    trainer = SimpleNamespace(optimizers=[optimizer])
    prune.on_train_start(trainer, module)
    widths = []
    for _ in range(3):
        prune.on_train_epoch_start(trainer, module)
        epoch(module, optimizer)
        widths.append(module.net[0].out_features)
    assert widths == [16, 16, 16]


def test_the_callback_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    prune = callback("transformers", "TrainerCallback", monkeypatch)(
        {"input_ids": torch.randn(2, 4)}, "prune-channels, sparsify{pattern=unstructured}", **OPTIONS
    )
    module = Inner()
    optimizer = torch.optim.AdamW(module.parameters())
    prune.on_train_begin(None, None, None, model=module, optimizer=optimizer, train_dataloader=None)
    for _ in range(3):
        prune.on_epoch_begin(None, None, None, model=module)
        epoch(module, optimizer)
    assert module.net[0].out_features == 16
    assert (module.net[0].weight == 0).float().mean() == 0.5
