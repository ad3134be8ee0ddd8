"""Attacks along the gradient of the loss, on programs of torch, from Python and from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.fx.gradients import LossGradient
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.perturb import Perturbation
from prunec.passes.judging.slice_file import parse_slices
from prunec.tools.prunec import run

ATTACKS = "".join(f"[robustness.{k}]\nkind = '{k}'\nstrength = 0.2\n" for k in ("fgsm", "pgd", "noise"))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).eval()


def classifier() -> tuple[prunec.Module, dict[str, np.ndarray]]:
    """A linear classifier of torch with samples near its borders."""
    net = network()
    x = torch.randn(80, 6)
    with torch.no_grad():
        labels = net(x).argmax(dim=1)
    batch = torch.export.Dim("batch")
    module = prunec.trace(net, (x[:4],), dynamic_shapes=({0: batch},))
    [name] = [value.name or "" for value in module.graph.inputs]
    return module, {name: x.numpy(), "label": labels.numpy()}


def test_attacks_on_programs_of_torch_lower_accuracy_and_steps_help() -> None:
    module, data = classifier()
    slices = parse_slices(ATTACKS + "max-drop = 0.05\n")
    result = prunec.evaluate(module, data, reference=module, slices=slices)
    clean, fgsm, pgd, noise = [row.value for row in result.rows]
    assert clean == 1.0 and pgd <= fgsm < noise
    assert result.rows[3].status == "holds" and result.rows[1].drop == 0.0


def test_a_run_that_is_filled_up_is_attacked_as_any_other() -> None:
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    module = prunec.trace(network(), (x[:4],))
    [name] = [value.name or "" for value in module.graph.inputs]
    with torch.no_grad():
        labels = network()(x).argmax(dim=1).numpy()
    result = prunec.evaluate(module, {name: x.numpy(), "label": labels}, slices=parse_slices(ATTACKS))
    assert [row.size for row in result.rows] == [10] * 4


def test_an_attack_stays_within_its_strength() -> None:
    module, data = classifier()
    [name] = [n for n in data if n != "label"]
    what = Perturbation.of("name", "pgd", {"strength": 0.05, "steps": 3})
    known = CalibrationData.of(data)
    change = what.bind(module, known, known.bind(module, every=True), 0)
    feed, _ = change({name: data[name][:16]}, {"label": data["label"][:16]}, 0)
    moved = np.abs(feed[name] - data[name][:16])
    assert 0.01 < moved.max() <= 0.05 + 1e-6 and feed[name].max() <= data[name].max()


def test_gradients_are_those_of_torch_and_leave_the_module_without_any() -> None:
    module, data = classifier()
    [name] = [n for n in data if n != "label"]
    slopes = LossGradient(module)({name: data[name]}, data["label"])
    net, x = network(), torch.from_numpy(data[name]).requires_grad_()
    torch.nn.functional.cross_entropy(net(x), torch.from_numpy(data["label"]), reduction="sum").backward()
    assert x.grad is not None
    np.testing.assert_allclose(slopes[name], x.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_negative_labels_do_not_count() -> None:
    module, data = classifier()
    [name] = [n for n in data if n != "label"]
    labels = np.where(np.arange(len(data["label"])) % 2, data["label"], -1)
    slopes = LossGradient(module)({name: data[name]}, labels)[name]
    assert not slopes[::2].any()
    np.testing.assert_allclose(
        slopes[1::2], LossGradient(module)({name: data[name]}, data["label"])[name][1::2]
    )


def test_labels_that_are_no_classes_of_the_output_are_refused() -> None:
    module, data = classifier()
    [name] = [n for n in data if n != "label"]
    with pytest.raises(UserError, match="the loss has no gradient: "):
        LossGradient(module)({name: data[name]}, data["label"] + 7)


def test_a_saved_program_is_attacked_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module, data = classifier()
    prunec.save(module, "net.pt2")
    np.savez("data.npz", **data)
    Path("slices.toml").write_text(ATTACKS.replace("strength = 0.2", "strength = 0.2\nmin = 0.9"))
    assert run(["eval", "net.pt2", "--data", "data.npz", "--slices", "slices.toml"]) == 3
    shown = capsys.readouterr()
    assert shown.err.startswith("error: slices.toml: slice `fgsm` (80 samples): top1 is 0.")
    assert [line.split()[0] for line in shown.out.splitlines()[3:7]] == ["all", "fgsm", "pgd", "noise"]
