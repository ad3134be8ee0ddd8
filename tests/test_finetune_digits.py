"""The example that trains: half of the channels go, then half of the weights, and the accuracy stays."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import onnx
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "finetune_digits.py"


def test_accuracy_is_within_half_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    monkeypatch.setattr(sys, "argv", ["finetune_digits.py", "--out", str(path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")  # it exits where the accuracy falls
    printed = capsys.readouterr().out
    states = {
        what.strip(): (int(count.replace(",", "")), float(share))
        for what, count, share in re.findall(
            r"^(.{28}) *([\d,]+) parameters +([\d.]+)%", printed, re.MULTILINE
        )
    }
    dense, pruned, sparse = (states[name] for name in ("dense", "net.onnx", "2:4, trained on"))
    assert pruned[0] < 0.3 * dense[0]
    assert min(pruned[1], sparse[1]) >= dense[1] - 0.5
    assert dense[1] > 98
    assert printed.endswith("weights that should be zero and are not: 0\n")
    widths = {next(iter(t.dims)) for t in onnx.load(path).graph.initializer if len(t.dims) == 4}
    assert widths == {16, 32}
