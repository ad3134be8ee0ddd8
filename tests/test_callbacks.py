"""The callbacks that examples/README.md shows, driven as their trainers drive them."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

README = Path(__file__).parents[1] / "examples" / "README.md"
OPTIONS: dict[str, Any] = {"ratio": 0.5, "steps": 2, "verify": False}


def callback(package: str, base: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class ``Prune`` of a snippet, over a stand-in of the package that has its base class alone."""
    stand_in = ModuleType(package)
    setattr(stand_in, base, type(base, (), {}))
    monkeypatch.setitem(sys.modules, package, stand_in)
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", README.read_text(encoding="utf-8"), re.MULTILINE)
    (code,) = [block for block in blocks if f"import {package}\n" in block]
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(code), str(README), "exec"), names)
    return names["Prune"]


class Inner(nn.Module):
    """Two layers, the first of which is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.net(input_ids)


def epoch(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.randn(8, 4)).square().mean().backward()
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
