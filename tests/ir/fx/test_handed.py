"""A result does not write weights that were left behind by the training of a copy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import prunec


def cut() -> prunec.Result:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).train()
    return prunec.run(prunec.trace(module, (torch.randn(4, 6),)), "prune-channels{ratio=50%}")


@pytest.mark.parametrize("how", ["optimizer", "statistics", "load_state_dict"])
def test_what_a_copy_learned_is_not_lost_by_saving_the_result(how: str, tmp_path: Path) -> None:
    result = cut()
    copy = result.to_torch()
    if how == "load_state_dict":
        copy.load_state_dict({name: tensor + 1 for name, tensor in copy.state_dict().items()})
    else:
        copy.train()(torch.randn(4, 6)).sum().backward()
    if how == "optimizer":
        torch.optim.SGD(copy.parameters(), lr=0.1).step()
    with pytest.raises(
        prunec.UserError, match=r"the module that to_torch\(\) gave has changed since"
    ) as caught:
        result.save(tmp_path / "net.pt2")
    assert "torch.export.save" in str(caught.value)
    assert not list(tmp_path.iterdir())
    prunec.save(result.module, tmp_path / "untrained.pt2")


def test_a_copy_that_only_computed_stands_in_nobodys_way(tmp_path: Path) -> None:
    result = cut()
    copy = result.to_torch().eval()
    copy(torch.randn(4, 6)).sum().backward()
    result.save(tmp_path / "net.pt2")
