"""A plan of a torch module on its ONNX export, and the other way round, against the other world's own result."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch_modules import CASES, Case, leaves

import prunec
from prunec.passes.plan.correspondence import correspond
from prunec.tools import prunec as command

PRUNE = "prune-channels{ratio=50% round-to=1}"
ALL = "permute-channels, prune-channels{ratio=40% round-to=1}, sparsify{layers=all}"
BOTH = [
    ("residual", "program"),
    ("residual", "script"),
    ("encoder", "program"),
    ("perceptron", "script"),
    ("transformer", "program"),
    ("transformer", "script"),
    ("decoder", "program"),  # torch's older exporter has no RMSNorm
]


def trained(case: Case) -> nn.Module:
    """A module of which no two parameters are alike, as after training."""
    module = case.made().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


_MADE: dict[tuple[str, str], tuple[nn.Module, Path]] = {}


def exported(name: str, exporter: str, folder: Path) -> tuple[nn.Module, Path]:
    """A module and the file of its export."""
    if (name, exporter) not in _MADE:
        case, path = CASES[name], folder / f"{name}.{exporter}.onnx"
        module = trained(case)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, case.inputs(), path, dynamo=exporter == "program", verbose=False)
        _MADE[name, exporter] = module, path
    return _MADE[name, exporter]


def both(name: str, exporter: str, folder: Path) -> tuple[prunec.Module, prunec.Module]:
    """A captured module and its export."""
    module, path = exported(name, exporter, folder)
    return prunec.trace(module, CASES[name].inputs()), prunec.load(path)


def assert_same_function(program: prunec.Result, model: prunec.Result, case: Case, folder: Path) -> None:
    inputs = case.inputs()
    model.save(folder / "result.onnx")
    session = onnxruntime.InferenceSession(folder / "result.onnx")
    feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), inputs, strict=True)}
    with torch.no_grad():
        expected = leaves(program.to_torch().eval()(*inputs))
    for a, b in zip(session.run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize(
    ("name", "exporter", "pipeline"),
    [
        *((name, exporter, PRUNE) for name, exporter in BOTH),
        ("transformer", "program", ALL),
        ("residual", "script", ALL),
    ],
)
def test_a_plan_of_one_replays_on_the_other(name: str, exporter: str, pipeline: str, folder: Path) -> None:
    captured, model = both(name, exporter, folder)
    for source, target in ((captured, model), (model, captured)):
        made = prunec.run(source, pipeline, verify=False)
        plan = made.plan.transfer(source, target)
        again = prunec.run(target, plan.pipeline, replay=prunec.Plan.from_json(plan.to_json()))
        assert again.changed and again.verdicts
        program, exported_result = (made, again) if source is captured else (again, made)
        assert_same_function(program, exported_result, CASES[name], folder)
        assert not any(step.partial for step in again.plan.steps)
        assert (
            prunec.run(target, plan.pipeline, replay=again.plan, verify=False).plan.steps == again.plan.steps
        )


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
@pytest.mark.parametrize(
    ("name", "exporter"), [pair for pair in BOTH if pair[0] in ("encoder", "transformer")]
)
def test_both_choose_the_same_units(name: str, exporter: str, criterion: str, folder: Path) -> None:
    captured, model = both(name, exporter, folder)
    pipeline = f"prune-channels{{criterion={criterion} round-to=1}}"
    plan = prunec.run(captured, pipeline, verify=False).plan.transfer(captured, model)
    replayed = prunec.run(model, pipeline, replay=plan, verify=False)
    own = prunec.run(model, pipeline, verify=False)
    assert replayed.plan.removed() == own.plan.removed()


@pytest.mark.parametrize(
    ("name", "exporter"), [("residual", "script"), ("transformer", "script"), ("decoder", "program")]
)
def test_after_fine_tuning_tensors_are_found_by_what_exporters_note(
    name: str, exporter: str, folder: Path
) -> None:
    model = both(name, exporter, folder)[1]
    other = trained(CASES[name])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9).add_(0.1 * torch.randn_like(parameter))
    tuned = prunec.trace(other, CASES[name].inputs())
    plan = prunec.run(tuned, PRUNE, verify=False).plan
    result = prunec.run(model, PRUNE, replay=plan.transfer(tuned, model))
    assert [len(g.removed) for g in result.plan.steps[0].groups] == [
        len(g.removed) for g in plan.steps[0].groups
    ]


def test_evidence_for_every_tensor(folder: Path) -> None:
    captured, model = both("transformer", "program", folder)
    pairs = {pair.target: pair for pair in correspond(captured, model)}
    weights = [n for n, v in model.graph.initializers.items() if len(v.shape) == 2]
    assert {pairs[name].source for name in weights} == {
        n for n, p in exported("transformer", "program", folder)[0].named_parameters() if p.dim() == 2
    }
    assert all(pairs[name].transposed for name in weights if name.startswith("val_"))


def test_the_command_line_replays_across(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, path = exported("transformer", "program", folder)
    program = folder / "net.pt2"
    torch.export.save(torch.export.export(module, CASES["transformer"].inputs()), program)
    plan, out = folder / "plan.json", folder / "out.onnx"
    assert command.run([str(program), "-p", PRUNE, "--plan", str(plan), "-o", str(folder / "out.pt2")]) == 0
    arguments = [str(path), "--replay", str(plan), "-o", str(out)]
    assert command.run(arguments) == 2
    assert "--replay-from MODEL, in Python plan.transfer(" in capsys.readouterr().err
    assert command.run([*arguments, "--replay-from", str(program)]) == 0
    assert sum(v.shape.numpy() == (32, 32) for v in prunec.load(out).graph.initializers.values()) == 0
    capsys.readouterr()
    assert command.run([str(path), "-p", PRUNE, "--replay-from", str(program)]) == 2
    assert "--replay is missing" in capsys.readouterr().err


@cache
def _recurrent() -> prunec.Module:
    return prunec.trace(CASES["recurrent"].made(), CASES["recurrent"].inputs())


def test_what_has_no_counterpart_is_named(folder: Path) -> None:
    captured, model = both("encoder", "program", folder)
    plan = prunec.run(_recurrent(), PRUNE, verify=False).plan
    with pytest.raises(prunec.UserError) as caught:
        plan.transfer(_recurrent(), model)
    text = caught.value.render()
    assert "error: <Recurrent>: none of the tensors of group g1 is found in" in text
    assert "= note: its tensors: `lstm.weight_ih_l0`" in text
    assert "= help: both must be the same network, before any pass" in text
    masks = prunec.run(captured, "sparsify{layers=all}", verify=False).plan
    with pytest.raises(prunec.UserError, match=r"the masked weight `deep\.weight` is no layer of"):
        masks.transfer(captured, _recurrent())


def test_channels_that_only_the_other_graph_ties_are_named(folder: Path) -> None:
    captured, model = both("shuffle", "program", folder)
    plan = prunec.run(model, PRUNE, verify=False).plan.transfer(model, captured)
    with pytest.raises(prunec.UserError) as caught:
        prunec.run(captured, PRUNE, replay=plan)
    assert "is coupled to a removed one" in caught.value.render()
    assert "make the plan of this one, and transfer that" in caught.value.render()


def test_a_folded_norm_may_be_gone_when_the_plan_is_replayed(folder: Path) -> None:
    """A plan of the module with its norms, on an export in which they still are, behind a pass that folds them."""
    case = CASES["residual"]
    module = trained(case)
    path = folder / "norms.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
        torch.onnx.export(module, case.inputs(), path, dynamo=False, verbose=False, **options)
    captured, model = prunec.trace(module, case.inputs()), prunec.load(path)
    assert "norm.running_mean" in model.graph.initializers
    plan = prunec.run(captured, PRUNE, verify=False).plan.transfer(captured, model)
    result = prunec.run(model, f"fold-norm, {PRUNE}", replay=plan)
    assert "norm.running_mean" not in result.module.graph.initializers
    assert_same_function(prunec.run(captured, PRUNE, verify=False), result, case, folder)


class Positions(nn.Module):
    """A table of indices, of which an export keeps the part that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)
        self.register_buffer("positions", torch.arange(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x)) + self.positions[: x.shape[1], None].float()


def test_groups_of_indices_alone_are_left_out(folder: Path) -> None:
    module, x = Positions().eval(), torch.randn(2, 5, 8)
    torch.onnx.export(module, (x,), folder / "positions.onnx", dynamo=True, verbose=False)
    captured, model = prunec.trace(module, (x,)), prunec.load(folder / "positions.onnx")
    plan = prunec.run(captured, PRUNE, verify=False).plan
    assert any(tensor.name == "positions" for group in plan.steps[0].groups for tensor in group.tensors)
    result = prunec.run(model, PRUNE, replay=plan.transfer(captured, model))
    assert result.cost_after.parameters < result.cost_before.parameters
