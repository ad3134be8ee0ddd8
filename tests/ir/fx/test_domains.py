"""Modules that take no negative numbers are verified on inputs that they take, and NaN is held against no cut."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import prunec
from prunec.ir.fx.dialect import AtenDialect

HALF = "prune-channels{ratio=50% round-to=1}"
POSITIVE = torch.rand(4, 16, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


class Transformed(nn.Module):
    """Linear layers behind a function of the input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(16, 32), nn.Linear(32, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(self.function(x)).relu())


@pytest.mark.parametrize("function", [torch.log, torch.sqrt, torch.asin, lambda x: torch.log1p(-x)])
def test_inputs_are_those_that_the_module_takes(function: Callable[[Tensor], Tensor]) -> None:
    net = Transformed(function)
    result = prunec.run(prunec.trace(net, (POSITIVE,)), HALF)
    assert result.verdicts[0].finite
    assert result.verdicts[0].error < 1e-5
    assert result.to_torch()(POSITIVE).isfinite().all()


def test_gradients_that_are_not_finite_before_are_not_held_against_the_cut() -> None:
    net = Transformed(lambda x: (x * float("nan")).log())
    result = prunec.run(prunec.trace(net, (POSITIVE,)), HALF)
    assert not result.verdicts[0].finite
    assert result.cost_after.parameters < result.cost_before.parameters


def test_gradients_that_the_cut_spoils_are() -> None:
    captured = prunec.trace(Transformed(torch.log), (POSITIVE,))

    def spoilt(_: AtenDialect, module: prunec.Module, feeds: object) -> str | None:
        rows = module.graph.initializers["first.weight"].const_value.shape[0]
        return None if rows == 32 else "the gradient of `first.weight` is not finite"

    with patch.object(AtenDialect, "train_error", spoilt), pytest.raises(prunec.PrunecError, match="V019"):
        prunec.run(captured, HALF)


def test_onnx_models_are_run_on_positive_numbers_likewise() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 8] x) => (float[N, 4] y) {
            bent = Log (x)
            first = MatMul (bent, A)
            relu = Relu (first)
            y = MatMul (relu, B)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in {"A": (8, 16), "B": (16, 4)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    verdict = prunec.run(prunec.load(model), HALF).verdicts[0]
    assert verdict.finite
    assert verdict.error < 1e-5
