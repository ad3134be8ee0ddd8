"""The part of the GPU benchmark that needs no GPU: what it plans, what its rows say, and that it skips cleanly."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_models import model
from fake_gpu import FakeTensorRT, gpu

from prunec.exporters.latency import Comparison, Latency
from prunec.ir.save import save
from prunec.passes.pipeline import parse_pipeline

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu")


def comparison() -> Comparison:
    one, other = (
        Latency(p50=0.002, p95=0.003, p99=0.004, best=0.001),
        Latency(p50=0.001, p95=0.002, p99=0.004, best=0.001),
    )
    return Comparison(a=one, b=other, speedup=2.0, low=1.8, high=2.2, runs=9, threads=0, batch=8)


def test_the_plan_has_every_model_backend_and_batch(bench: Any) -> None:
    trials = bench.plan([Path("a.onnx"), Path("b.onnx")], [8, 1, 8], ["tensorrt", "torch"])
    assert len(trials) == 8
    assert [(t.model.stem, t.backend, t.batch) for t in trials[:3]] == [
        ("a", "tensorrt", 1),
        ("a", "tensorrt", 8),
        ("a", "torch", 1),
    ]
    assert list(bench.FORMS) == ["dense", "2:4", "structured", "structured + 2:4"]
    assert [len(parse_pipeline(text)) for text in bench.FORMS.values()] == [0, 1, 1, 2]


def test_only_other_forms_are_compared_with_the_dense_one(bench: Any) -> None:
    (trial,) = bench.plan([Path("a.onnx")], [8], ["tensorrt"])
    dense, sparse = (bench.row(trial, form, comparison(), "3 of 4") for form in ("dense", "2:4"))
    assert dense["p50_ms"] == pytest.approx(1.0) and "speedup" not in dense
    assert (sparse["speedup"], sparse["interval"], sparse["verdict"]) == (2.0, "1.80 to 2.20", "faster")
    shown = [column.show(sparse) for column in bench.COLUMNS]
    assert shown == [
        "a",
        "tensorrt",
        "8",
        "2:4",
        "1.000",
        "2.000",
        "2.00",
        "1.80 to 2.20",
        "faster",
        "3 of 4",
    ]


def test_layers_become_products_with_their_positions(bench: Any) -> None:
    found = bench.products(model("cnn"))
    assert [(p.rows, p.inputs, p.outputs) for p in found] == [(128, 576, 64), (128, 64, 64), (2, 64, 64)]
    assert all(product.is_sparse for product in found)


def test_a_whole_trial(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = FakeTensorRT(layers=[{"Name": "conv1", "TacticName": "x_sparse"}])
    monkeypatch.setattr("prunec.exporters.tensorrt.api.load_api", lambda: trt.api)
    monkeypatch.setattr(bench, "FORMS", {"dense": "", "2:4": "canonicalize"})
    save(model("cnn"), tmp_path / "cnn.onnx")
    (trial,) = bench.plan([tmp_path / "cnn.onnx"], [1], ["tensorrt"])
    dense, sparse = bench.measure_trial(trial, gpu(), runs=2)
    assert (dense["form"], sparse["form"], sparse["picked"]) == ("dense", "2:4", "1 of 3, 2 unknown")
    assert sparse["low"] <= sparse["speedup"] <= sparse["high"]


def test_it_skips_without_a_gpu(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "prunec.exporters.tensorrt.cuda.find_gpu", lambda: (None, "no NVIDIA driver is installed")
    )
    monkeypatch.setattr(sys, "argv", ["gpu.py", "net.onnx", "--json", str(tmp_path / "gpu.json")])
    bench.main()
    assert capsys.readouterr().out == "skipped: no NVIDIA driver is installed\n"
    assert not list(tmp_path.iterdir())


def test_a_trial_that_fails_is_a_note(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prunec.exporters.tensorrt.cuda.find_gpu", lambda: (gpu(), ""))
    monkeypatch.setattr(bench, "installed", lambda: (["tensorrt"], ["torch is not installed: left out"]))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "missing.onnx", "--batch", "1"])
    bench.main()
    out = capsys.readouterr().out
    assert "missing, tensorrt, batch 1: error: missing.onnx: no such file" in " ".join(out.split())
    assert "torch is not installed: left out" in out
