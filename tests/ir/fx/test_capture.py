"""What a capture keeps of a module, and what it refuses and how."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn
from torch_modules import CASES, Decoder, Residual, images

import prunec
from prunec.ir.location import source_of


def node(module: prunec.Module, op_type: str) -> object:
    return next(n for n in module.graph if n.op_type == op_type)


def residual(training: bool = True) -> prunec.Module:
    case = CASES["residual"]
    return prunec.trace(case.made().train(training), case.inputs(), dynamic_shapes=case.dynamic)


def test_tensors_have_the_names_of_the_module_and_share_its_memory() -> None:
    case = CASES["residual"]
    module = case.made()
    captured = prunec.trace(module, case.inputs())
    states = dict(module.named_parameters()) | dict(module.named_buffers())
    values = captured.graph.initializers
    assert set(values) <= set(states)
    for name, value in values.items():
        assert value.const_value.numpy().__array_interface__["data"][0] == states[name].data_ptr()


def test_every_call_knows_its_line_and_its_module() -> None:
    found = {n.op_type: source_of(n) for n in residual().graph}
    assert found["batch_norm.default"].startswith("torch_modules.py:")
    assert found["batch_norm.default"].endswith(" in norm")


def test_the_dump_is_that_of_every_module() -> None:
    from prunec.passes.printer import print_module

    text = print_module(residual())
    assert "%conv2d_1 = aten::conv2d.default(%relu_, @depthwise.weight, @depthwise.bias)" in text
    assert "groups=16" in text
    assert "// torch_modules.py:" in text


def test_statistics_of_batch_norms_are_kept() -> None:
    ops = [n.op_type for n in residual(training=True).graph]
    assert "add_.Tensor" in ops, "the counter of batches"
    result = prunec.run(residual(training=True), "canonicalize, prune-channels{ratio=50%}")
    assert "add_.Tensor" in [n.op_type for n in result.module.graph]


def test_regions_without_gradients_stay_so() -> None:
    module = prunec.trace(Decoder(), CASES["decoder"].inputs())
    program = prunec.run(module, "verify").to_torch()
    assert "_set_grad_enabled(False)" in program.code
    with torch.no_grad():
        program(*CASES["decoder"].inputs())
        assert not torch.is_grad_enabled()
    assert program(*CASES["decoder"].inputs()).requires_grad


class Nested(nn.Module):
    """Nested arguments and results, keywords, an argument that is no tensor, a constant among the results."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, pair: list[Tensor], *, scale: Tensor, flag: bool = True) -> dict[str, object]:
        x = self.layer(pair[0] + pair[1]) * scale
        return {"out": (self.head(x), None), "flag": flag, "again": [self.head(x.relu())]}


def test_nested_arguments_and_results_come_back() -> None:
    inputs, keywords = ([torch.randn(2, 4), torch.randn(2, 4)],), {"scale": torch.tensor(2.0), "flag": False}
    module = Nested()
    program = prunec.run(prunec.trace(module, inputs, keywords), "verify").to_torch()
    expected, made = module(*inputs, **keywords), program(*inputs, **keywords)
    assert made["flag"] is False and made["out"][1] is None
    assert torch.equal(made["out"][0], expected["out"][0])
    assert torch.equal(made["again"][0], expected["again"][0])


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Reads(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(int(x.sum().item())) + 1


@pytest.mark.parametrize(
    ("module", "inputs", "words"),
    [
        (Branches(), (torch.randn(3),), ["cannot capture `Branches`", "test_capture.py:", "torch.where"]),
        (Residual(), (torch.randn(2, 5, 8, 8),), ["cannot capture `Residual`", "torch_modules.py:"]),
        (Residual(), (), ["cannot capture `Residual`", "what `forward` accepts"]),
        (Residual(), torch.randn(2, 3, 8, 8), ["example_inputs is a Tensor", "write (x,)"]),
        (Residual().to("meta"), images()(), ["`stem.weight` is on the meta device"]),
        (torch.jit.script(nn.Linear(2, 2)), (torch.randn(1, 2),), ["is a TorchScript module"]),
        (nn.DataParallel(nn.Linear(2, 2)), (torch.randn(1, 2),), ["model.module"]),
    ],
    ids=["branch", "shape", "none", "no tuple", "meta", "script", "parallel"],
)
def test_what_cannot_be_captured_is_named(module: nn.Module, inputs: object, words: list[str]) -> None:
    with pytest.raises(prunec.UserError) as caught:
        prunec.trace(module, inputs)  # type: ignore[arg-type]
    text = caught.value.render()
    assert all(word in text for word in words), text


def test_a_dynamic_axis_that_the_module_fixes_is_an_error_of_the_user() -> None:
    with pytest.raises(prunec.UserError, match=r"torch\.export cannot capture"):
        prunec.trace(Residual(), images()(), dynamic_shapes={"x": {1: torch.export.Dim("channels")}})


def test_onnx_models_do_not_become_torch() -> None:
    module = prunec.load("examples/digits.onnx")
    with pytest.raises(prunec.UserError, match="this is an ONNX model, not a program of torch"):
        prunec.run(module, "verify").to_torch()


def test_the_graph_that_torch_could_not_finish_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("the user's own words", file=sys.stderr)
            found = x[x > 0]
            return found.sum() if found.numel() > 10 else x.sum()

    with pytest.raises(prunec.UserError, match="data-dependent"):
        prunec.trace(Counting(), (torch.randn(5, 5),))
    assert capsys.readouterr().err == "the user's own words\n"
