"""The oracle of the torch benchmark: it finds what was cut by the values, and sees one wrong channel."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import prunec
import torch_models
import torch_oracle
from torch_summary import report_of


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 4)
        self.plain = nn.LayerNorm(12, elementwise_affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.plain(self.norm(self.first(x)) ** 3))


def judged(module: nn.Module, pruned: nn.Module, data: torch.Tensor) -> torch_oracle.Comparison:
    before, after = (dict(m.named_parameters()) | dict(m.named_buffers()) for m in (module, pruned))
    kept = torch_oracle.kept_slices(before, after)
    with torch.no_grad():
        masked = torch_oracle.mask(module, kept)
        return torch_oracle.compare(pruned(data), masked(data), module(data), kept)


@pytest.fixture
def cut() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module, data = Normed().eval(), torch.randn(3, 8)
    torch_models.randomise(module)
    result = prunec.run(prunec.trace(module, (data,)), "prune-channels{ratio=50% round-to=1}")
    return module, result.to_torch().eval(), data


def test_a_right_cut_is_exact(cut: tuple[Any, ...]) -> None:
    found = judged(*cut)
    assert found.exact
    assert found.change > 0.1


def test_one_wrong_channel_is_not(cut: tuple[Any, ...]) -> None:
    module, pruned, data = cut
    wrong = copy.deepcopy(pruned)
    kept = torch_oracle.kept_slices(dict(module.named_parameters()), dict(pruned.named_parameters()))
    (stayed,) = kept["first.bias"].values()
    others = np.setdiff1d(np.arange(12), stayed)
    with torch.no_grad():
        wrong.get_parameter("last.weight")[:, 0] = 0
    with pytest.raises(ValueError, match=r"last\.weight is no part of what it was"):
        judged(module, wrong, data)
    with torch.no_grad():  # each tensor is a part of what it was, but not the same part
        wrong.get_parameter("last.weight").copy_(module.last.weight[:, others[: len(stayed)]])
    assert not judged(module, wrong, data).exact


def test_positions_are_found_where_values_repeat() -> None:
    rng = np.random.default_rng(0)
    old = rng.integers(0, 1500, (60, 50)).astype(np.float32)
    rows, columns = np.sort(rng.permutation(60)[:30]), np.sort(rng.permutation(50)[:20])
    new = old[np.ix_(rows, columns)]
    found = torch_oracle.kept_slices({"w": torch.from_numpy(old)}, {"w": torch.from_numpy(new)})["w"]
    assert np.array_equal(found[0], rows)
    assert np.array_equal(found[1], columns)


def test_the_table_takes_the_better_try_of_the_other_and_counts_what_is_right() -> None:
    right = {
        "captured": True,
        "forward": True,
        "backward": True,
        "exact": True,
        "kept": 0.25,
        "parameters": 10**6,
    }
    log = {
        ("a", "ours"): {**right, "seconds": 1.0, "onnx": True},
        ("a", "peer"): {"outcome": "RuntimeError: shapes", "seconds": 2.0},
        ("a", "hints"): {**right, "kept": 0.2, "seconds": 3.0},
        ("b", "ours"): {"outcome": "UserError: error: torch.export cannot capture `B`", "parameters": 5},
        ("b", "peer"): {"outcome": "not finished after 60 s"},
    }
    report = report_of(log, ["a", "b", "c"], {"peer": 60})
    first, second = report.rows
    assert (first["ours"], first["peer"], first["ratio"]) == ("right", "exact with hints", 3.0)
    assert (second["ours"], second["captured"], second["peer"]) == ("not captured", "no", "never finishes")
    assert report.notes[0].startswith("ours: 1 of 2 tried are right (50.0%), of 1 captured 1")
    assert "keeps more parameters in 1: a" in report.notes[-1]
