"""The table of dense, pruned, quantised and both: its arithmetic, its variants, and when it warns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from documents import ROOT

import prunec
from prunec.ir.diagnostics import UserError
from prunec.passes.judging.quantization_table import QuantizationTable, quantization_table
from prunec.passes.manager import run


def made(
    values: tuple[float, float, float, float], *, higher: bool = True, limit: float = 0.01
) -> QuantizationTable:
    dense, pruned, quantised, both = values
    return QuantizationTable(
        metric="m",
        higher_is_better=higher,
        data="d.npz",
        samples=10,
        dense=dense,
        pruned=pruned,
        quantised=quantised,
        both=both,
        limit=limit,
    )


@pytest.mark.parametrize(
    ("values", "higher", "interaction", "warns"),
    [
        ((0.9, 0.89, 0.88, 0.87), True, 0.0, False),
        ((0.9, 0.89, 0.88, 0.80), True, 0.07, True),
        ((0.9, 0.89, 0.88, 0.90), True, -0.03, False),
        ((10.0, 11.0, 12.0, 13.0), False, 0.0, False),
        ((10.0, 11.0, 12.0, 20.0), False, 0.7, True),  # perplexities: a share of the dense model's
        ((0.2, 0.2, 0.2, 0.3), False, 0.5, True),  # errors below 1 are no shares
    ],
)
def test_the_interaction_is_what_is_lost_beyond_both_alone(
    values: tuple[float, float, float, float], higher: bool, interaction: float, warns: bool
) -> None:
    table = made(values, higher=higher)
    assert table.interaction == pytest.approx(interaction, abs=1e-9)
    assert (table.warning is not None) is warns
    assert table.to_json()["interaction"] == table.interaction


def test_the_warning_says_the_numbers() -> None:
    assert made((0.9, 0.89, 0.88, 0.80)).warning == (
        "pruning and quantising together lose 7.00 points of m more than each by itself, the limit is 1.00 points (`warn`)"
    )
    assert made((10, 11, 12, 20), higher=False, limit=0.5).warning == (
        "pruning and quantising together lose 70.00 % of m more than each by itself, the limit is 50.00 % (`warn`)"
    )


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    with np.load(ROOT / "examples" / "digits.npz") as file:
        return dict(file)


def test_the_variants_are_the_pipeline_without_one_kind_of_pass(data: dict[str, Any]) -> None:
    module = prunec.load(ROOT / "examples" / "digits.onnx")
    pipeline = "fold-norm, repeat{times=2}(prune-channels{ratio=35%}), quantize{mode=dynamic warn=2%}, verify"
    table = quantization_table(module, pipeline, data)
    assert (table.metric, table.samples, table.limit) == ("top1", 450, 0.02)

    def top1(text: str) -> float:
        return prunec.evaluate(run(module, text, verify=False, data=data).module, data).value

    assert table.dense == prunec.evaluate(module, data).value
    assert table.pruned == top1("fold-norm, prune-channels{ratio=35%}, prune-channels{ratio=35%}")
    assert table.quantised == top1("fold-norm, quantize{mode=dynamic}")
    assert table.both == top1(pipeline)
    assert table.dense > table.pruned


def test_without_labels_the_dense_model_is_the_judge(data: dict[str, Any]) -> None:
    module = prunec.load(ROOT / "examples" / "digits.onnx")
    pipeline = "fold-norm, prune-channels{ratio=60%}, quantize"
    table = quantization_table(module, pipeline, {"image": data["image"]}, limit=0.5)
    assert (table.metric, table.dense, table.limit) == ("agreement", 1.0, 0.5)
    assert table.pruned < 1


@pytest.mark.parametrize("pipeline", ["quantize{mode=dynamic}", "prune-channels", "fold-norm"])
def test_a_pipeline_that_does_not_do_both_is_a_mistake(pipeline: str, data: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="nothing to compare: the pipeline does not both prune and quantise"):
        quantization_table(prunec.load(ROOT / "examples" / "digits.onnx"), pipeline, data)
