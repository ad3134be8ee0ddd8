"""Modules and inputs that a user gives by mistake, or that are special: the rendered text, or what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

import prunec

X = torch.randn(2, 8)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


class While(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() > 1:
            x = x / 2
        return x


class Numpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})


def sparse_buffer() -> nn.Module:
    module = net()
    module.register_buffer("mask", torch.eye(8).to_sparse())
    return module


REFUSED: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "a function": (lambda: torch.relu, (X,), "only an nn.Module can be captured, got a builtin_function_or_method"),
    "a class": (lambda: nn.Linear, (X,), "only an nn.Module can be captured, got the class `Linear`"),
    "quantised": (
        quantised,
        (X,),
        "error: module `0` is quantised (Linear)\n  = help: prune before quantising",
    ),
    "lazy": (Lazy, (X,), "error: `layer.weight` has no size yet: its layer is lazy\n  = help: run the module once"),
    "sparse": (sparse_buffer, (X,), "error: `mask` is a sparse tensor (torch.sparse_coo)\n  = help: make it dense"),
    "compiled": (lambda: torch.compile(net()), (X,), "give the module inside it: model._orig_mod"),
    "meta": (lambda: net().to("meta"), (X,), "`0.weight` is on the meta device: it has no values"),
    "meta inputs": (net, (X.to("meta"),), "= help: the inputs must lie on the CPU, as the module does: x.cpu()"),
    "numpy inputs": (net, (X.numpy(),), "= help: inputs are tensors, numbers, and lists, tuples and dicts of them"),
    "a list": (net, [X], "error: example_inputs is a list, must be a tuple of positional arguments"),
    "another type": (lambda: nn.LSTM(8, 4), (X[None].double(),), "= help: do the example inputs have the shapes and"),
    "another size": (net, (torch.randn(2, 9),), "= help: do the example inputs have the shapes and types"),
    "numpy inside": (Numpy, (X,), "= help: numpy works outside of the graph; use the operator of torch"),
    "a loop": (
        While,
        (X,),
        "= help: a size or a branch depends on the contents of a tensor; compute both sides, and choose with torch.where",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_captured_is_refused_by_name(what: str) -> None:
    build, inputs, words = REFUSED[what]
    with pytest.raises(prunec.UserError) as caught:
        prunec.trace(build(), inputs)
    assert words in caught.value.render()


TAKING_A_MODULE: dict[str, Callable[[Any], Any]] = {
    "load": prunec.load,
    "run": lambda given: prunec.run(given, "prune-channels"),
    "save": lambda given: prunec.save(given, "net.onnx"),
    "analyse": prunec.analyse,
    "evaluate": lambda given: prunec.evaluate(given, {}),
    "sensitivity": lambda given: prunec.sensitivity(given, {}),
    "quantization_table": lambda given: prunec.quantization_table(given, "quantize", {}),
    "export": lambda given: prunec.export(given, "onnx", "net.onnx"),
    "bench": lambda given: prunec.bench([given]),
    "ceiling": prunec.ceiling,
}


@pytest.mark.parametrize("entry", TAKING_A_MODULE)
def test_what_is_not_captured_yet_is_refused_with_what_to_do(entry: str) -> None:
    takes = TAKING_A_MODULE[entry]
    for given, words in (
        (
            net(),
            "error: `Sequential` is a torch module: capture it first\n  = help: captured = prunec.trace(",
        ),
        (torch.export.export(net(), (X,)), "= help: prunec.trace(program.module(), example_inputs), or"),
        (prunec.run(prunec.trace(net(), (X,)), "verify"), "= help: give its attribute `module`"),
        (3, "error: this takes a module, got an int"),
    ):
        if entry == "export" and isinstance(given, prunec.Result):
            continue  # which it takes
        with pytest.raises(prunec.UserError) as caught:
            takes(given)
        assert words in caught.value.render()


def wrong_kinds() -> dict[str, tuple[Callable[[], Any], str]]:
    module = net()
    captured = prunec.trace(module, (X,))
    cut, sparse = (prunec.run(captured, p, verify=False) for p in ("prune-channels", "sparsify{layers=all}"))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    keep, pipeline = prunec.torch.keep_masks, cut.plan.pipeline
    return {
        "a path to replay": (
            lambda: prunec.run(captured, pipeline, replay="plan.json"),
            "this takes a plan, got a str\n  = help: prunec.Plan.load(path) reads one from a file",
        ),
        "a result to replay": (
            lambda: prunec.run(captured, pipeline, replay=cut),
            "this takes a plan, got a Result\n  = help: give its attribute `plan`",
        ),
        "masks of a result": (lambda: keep(module, sparse), "this takes a plan, got a Result"),
        "masks on a capture": (lambda: keep(captured, sparse.plan), "this takes an nn.Module, got a Module"),
        "an optimizer's capture": (
            lambda: cut.apply_to_optimizer(optimizer, captured),
            "this takes an nn.Module, got a Module\n  = help: give the module that apply_to has cut",
        ),
        "a plan for a module": (
            lambda: cut.plan.transfer(module, captured),
            "`Sequential` is a torch module",
        ),
        "a dense module": (
            lambda: prunec.evaluate(captured, {}, reference=module),
            "`Sequential` is a torch module",
        ),
        "keywords": (
            lambda: prunec.trace(module, (X,), (X,)),
            "kwargs is a tuple, must be a mapping of keyword",
        ),
    }


def test_wrong_kinds_are_refused_by_name() -> None:
    for what, (use, words) in wrong_kinds().items():
        with pytest.raises(prunec.UserError) as caught:
            use()
        assert words in caught.value.render(), what


@pytest.mark.parametrize("write", [prunec.write_report, prunec.write_card])
def test_a_report_of_a_module_is_refused(write: Callable[..., None]) -> None:
    with pytest.raises(prunec.UserError, match="a report is made from the result of a run, got a Sequential"):
        write(net(), "page.html")


def test_a_bench_of_one_model_asks_for_a_list() -> None:
    with pytest.raises(prunec.UserError, match="this takes a list of models, got a single one"):
        prunec.bench("net.onnx")


def test_a_dynamic_axis_of_size_1_is_told_to_need_a_larger_example() -> None:
    with pytest.raises(prunec.UserError, match="constraints violated") as caught:
        prunec.trace(net(), (torch.randn(1, 8),), dynamic_shapes={"input": {0: torch.export.Dim("batch")}})
    assert "give examples of size 2 or more along dynamic axes" in caught.value.render()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_verdict_says_the_batch_that_the_capture_fixed(batch: int) -> None:
    result = prunec.run(prunec.trace(net(), (torch.randn(batch, 8),)), "prune-channels")
    assert f"batch {batch})" in str(result.verdicts[0])


def test_statistics_of_torch_are_estimated_by_running_it() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    captured = prunec.trace(module, (torch.randn(2, 3, 8, 8),))
    data = {captured.graph.inputs[0].name: np.zeros((4, 3, 8, 8), np.float32)}
    (remark,) = prunec.run(captured, "recalibrate-norm", data=data).remarks
    assert remark.reason == "a torch program takes statistics from its inputs in training mode"


class Chosen(nn.Module):
    """Runs on whole numbers from 0 to 3 alone, which come as floats."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Embedding(4, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.long()))


UNRUNNABLE: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "type": (
        net,
        X.double(),
        "= help: it does not run on the example inputs that it was captured with either",
    ),
    "integers": (net, X.long(), "so that module(*example_inputs) runs"),
    "an index": (
        lambda: nn.Sequential(nn.Embedding(4, 32), nn.Linear(32, 4)),
        torch.tensor([[7]]),
        "error: <Sequential>: the program fails when it runs: index out of range in self\n  = help: it does not run",
    ),
    "random floats": (
        Chosen,
        torch.full((8,), 3.0),
        "= help: it runs on its example inputs, but not on random floats in place of theirs\n"
        "  = help: a model that does not run cannot be verified; --no-verify, verify=False in Python, goes without",
    ),
}


@pytest.mark.parametrize("what", UNRUNNABLE)
def test_a_module_that_does_not_run_is_told_what_to_do(what: str) -> None:
    build, x, words = UNRUNNABLE[what]
    torch.manual_seed(0)
    with pytest.raises(prunec.UserError) as caught:
        prunec.run(prunec.trace(build(), (x,)), "prune-channels", seed=3)
    assert words in caught.value.render()
    assert ("--no-verify" in caught.value.render()) == (what == "random floats")


def test_nothing_is_said_beside_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(prunec.UserError):
        prunec.trace(net(), (torch.randn(2, 9),))
    assert capfd.readouterr().err == ""


def test_the_line_of_the_user_is_told() -> None:
    with pytest.raises(prunec.UserError) as caught:
        prunec.trace(While(), (X,))
    assert caught.value.place is not None and caught.value.place.file == "test_bad_input.py"


def weight_norm(module: nn.Sequential) -> None:
    parametrizations.weight_norm(module[0])


def orthogonal(module: nn.Sequential) -> None:
    parametrizations.orthogonal(module[0])


def spectral_norm(module: nn.Sequential) -> None:
    parametrizations.spectral_norm(module[0])


def masked(module: nn.Sequential) -> None:
    torch_prune.l1_unstructured(module[0], "weight", 0.3)


@pytest.mark.parametrize("special", [weight_norm, orthogonal, spectral_norm, masked])
def test_parametrised_modules_are_pruned_as_far_as_they_can_be(
    special: Callable[[nn.Sequential], None],
) -> None:
    """The result computes what the module masked by the plan computes (verified), in both forms."""
    module = net()
    special(module)
    module.eval()
    result = prunec.run(prunec.trace(module, (X,)), "prune-channels")
    program = result.to_torch().eval()
    result.apply_to(module)
    assert torch.allclose(module(X), program(X), atol=1e-5)
    module.train()(X).sum().backward()


def test_frozen_parameters_stay_frozen_and_ties_tied() -> None:
    module = net()
    module[0].requires_grad_(False)
    module.append(nn.Linear(4, 32))
    module.append(nn.Linear(32, 4))
    module[4].weight = module[2].weight
    prunec.run(prunec.trace(module, (X,)), "prune-channels").apply_to(module)
    assert not module[0].weight.requires_grad and module[0].out_features == 16
    assert module[4].weight is module[2].weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_pruned_as_they_are(dtype: torch.dtype) -> None:
    module = net().to(dtype)
    prunec.run(prunec.trace(module, (X.to(dtype),)), "prune-channels").apply_to(module)
    assert module[0].weight.dtype == dtype and module[0].out_features == 16


def test_layers_that_gain_by_2_4_are_those_of_the_export() -> None:
    module = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 12))
    result = prunec.run(prunec.trace(module, (torch.randn(2, 64),)), "sparsify")
    assert [mask.name for mask in result.plan.steps[0].masks] == ["2.weight"]
    reasons = [remark.reason for remark in result.remarks if remark.kind == "missed"]
    assert reasons == [
        "too small to profit: 64 summed inputs, below 256",
        "12 output channels are no multiple of 8",
    ]


def test_a_result_is_applied_to_modules_and_optimizers_alone() -> None:
    module = net()
    result = prunec.run(prunec.trace(module, (X,)), "prune-channels")
    with pytest.raises(prunec.UserError, match=r"only an nn\.Module can be cut in place, got a str"):
        result.apply_to("net.pt2")  # type: ignore[arg-type]
    with pytest.raises(prunec.UserError, match=r"only a torch\.optim\.Optimizer has a state to cut"):
        result.apply_to_optimizer(None, module)  # type: ignore[arg-type]
