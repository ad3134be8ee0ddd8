"""What perturbations do to samples: the same for every model and batch, and each kind as it is described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph

from prunec.ir.diagnostics import UserError
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.outputs import sample_runs
from prunec.passes.judging.perturb import Perturbation

RNG = np.random.default_rng(0)
IMAGES = RNG.random((30, 1, 8, 8)).astype(np.float32)
IMAGE = "net (float[{n},1,8,8] x) => (float[{n},1,8,8] y) { y = Identity(x) }"
TOKENS = graph("net (int64[N,L] ids) => (int64[N,L] y) { y = Identity(ids) }")


def seen(kind: str, *, batch: str = "N", seed: int = 0, **options: float) -> np.ndarray:
    """What a model that copies its input sees."""
    module = graph(IMAGE.replace("{n}", batch))
    return outputs(module, {"x": IMAGES}, kind, seed=seed, **options)


def outputs(module: Any, arrays: dict[str, Any], kind: str, *, seed: int = 0, **options: float) -> np.ndarray:
    what = Perturbation.of("name", kind, options)
    runs = sample_runs(module, CalibrationData.of(arrays), perturbation=what, seed=seed)
    return np.concatenate([run.outputs["y"] for run in runs])


@pytest.mark.parametrize("kind", ["noise", "blur", "missing"])
def test_every_model_and_batch_gets_the_same(kind: str) -> None:
    once = seen(kind)
    assert not np.array_equal(once, IMAGES) and once.dtype == np.float32
    assert once.min() >= IMAGES.min() and once.max() <= IMAGES.max()
    np.testing.assert_allclose(seen(kind, batch="7"), once, rtol=1e-6)
    assert np.array_equal(seen(kind, seed=1), once) == (kind == "blur")
    np.testing.assert_allclose(seen(kind, strength=0), IMAGES, atol=1e-6)


def test_stacks_of_whole_inputs_are_perturbed_like_batches() -> None:
    net = graph("net (float[1,8,8] x) => (float[1,8,8] y) { y = Identity(x) }")
    for kind in ("noise", "blur", "missing"):
        stacked = outputs(net, {"x": IMAGES}, kind).reshape(IMAGES.shape)
        np.testing.assert_allclose(stacked, seen(kind), rtol=1e-6)


def test_noise_has_its_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = seen("noise", strength=0.1)
    monkeypatch.setattr("prunec.passes.judging.perturb._STEP", 2000)
    np.testing.assert_allclose(seen("noise", strength=0.1), whole, atol=1e-6)
    assert (seen("noise", strength=0.1) - IMAGES).std() == pytest.approx(0.1 * IMAGES.std(), rel=0.1)


def test_gaps_have_their_share() -> None:
    gaps = seen("missing", strength=0.3)
    lost = gaps != IMAGES
    assert lost.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(gaps[lost], IMAGES.mean(), rtol=1e-5)


def test_a_blur_keeps_the_mean_and_loses_the_contrast() -> None:
    blurred = seen("blur", strength=2)
    assert blurred.mean() == pytest.approx(IMAGES.mean(), rel=0.02) and blurred.std() < IMAGES.std() / 3


@pytest.mark.parametrize(("kind", "strength", "length"), [("shorter", 0.5, 5), ("longer", 2, 20)])
def test_lengths_change_with_the_labels(kind: str, strength: float, length: int) -> None:
    ids = RNG.integers(1, 9, (6, 10))
    what = Perturbation.of("name", kind, {"strength": strength})
    data = CalibrationData.of({"ids": ids, "label": ids, "weight": np.ones(6)})
    [run] = sample_runs(TOKENS, data, perturbation=what)
    assert np.array_equal(run.outputs["y"], np.tile(ids, (1, 2))[:, :length])
    assert np.array_equal(run.columns["label"], run.outputs["y"]) and run.columns["weight"].shape == (6,)


@pytest.mark.parametrize(
    ("module", "arrays", "kind", "message"),
    [
        (graph(IMAGE.replace("{n}", "N")), {"x": IMAGES}, "shorter", "`name`: no input has an axis 1 of open size, so that lengths cannot change"),
        (TOKENS, {"ids": np.ones((3, 4), int)}, "noise", "`name`: noise changes numbers, and no input takes any"),
        (graph(IMAGE.replace("{n}", "N")), {"x": IMAGES}, "fgsm", "`name`: fgsm raises the loss of the right answers, and no array is named `label`"),
        (graph(IMAGE.replace("{n}", "N")), {"x": IMAGES, "label": np.zeros(30, int)}, "pgd",
         "gradients are known for programs of torch, and this is an ONNX model\n  = help: capture the module with prunec.trace"),
    ],
)  # fmt: skip
def test_what_a_model_does_not_allow_is_told(module: Any, arrays: Any, kind: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        outputs(module, arrays, kind)
    assert message in str(caught.value) and "\n" not in caught.value.message
