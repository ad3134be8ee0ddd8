"""``prunec.bench`` on models of a few weights: what it reports, and what it refuses. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from bench_models import perceptron

import prunec
from prunec.exporters.bench import measure
from prunec.exporters.bench.candidates import Candidate
from prunec.exporters.bench.results import SCHEMA
from prunec.exporters.bench.sessions import Opened, Setting
from prunec.ir.diagnostics import UserError


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """``dense.onnx``, and ``half.onnx`` with half of its hidden units."""
    for name, hidden in (("dense", 64), ("half", 32)):
        onnx.save(perceptron(hidden), tmp_path / f"{name}.onnx")
    return [tmp_path / "dense.onnx", tmp_path / "half.onnx"]


def test_everything_is_in_the_report(models: list[Path]) -> None:
    report = prunec.bench(models, batches=[1, 8], runs=24, seconds=1)
    found = json.loads(json.dumps(report.to_json()))
    assert found["schema"] == SCHEMA
    assert report.batches == (1, 8)
    dense, half = report.models
    assert (dense.name, dense.macs, half.macs) == ("dense.onnx", 64 * 20, 32 * 20)
    assert dense.sha256 is not None and dense.load.p50 > 0
    assert dense.memory is not None and 0 < dense.memory.before <= dense.memory.peak < 1 << 31
    for timing in report.timings:
        assert timing.latency.best <= timing.latency.p50 <= timing.latency.p95 <= timing.latency.p99
        assert timing.throughput == pytest.approx(timing.batch / timing.latency.p50)
        assert (timing.ratio is None) == (timing.model == "dense.onnx")
        assert (timing.runs, timing.rounds) == (24, 6)
    ratio = report.timing("half.onnx", 8).ratio
    assert ratio is not None and ratio.low <= ratio.value <= ratio.high
    assert len(report.verdicts) == 2 and report.verdicts[0].startswith("at batch 1 half.onnx")
    assert found["timings"][1]["ratio"]["verdict"] in ("faster", "slower", "no difference")


def test_a_result_beside_its_original_is_no_file(models: list[Path]) -> None:
    module = prunec.load(models[0])
    result = prunec.run(module, "prune-channels{ratio=0.5}")
    report = prunec.bench([module, result.module], batches=[1], runs=4, seconds=0.1, memory=False)
    dense, pruned = report.models
    assert dense.sha256 == module.source.sha256 is not None
    assert pruned.sha256 is None and 0 < (pruned.size or 0) < (dense.size or 0)


def test_turns_of_rounds_that_time_cut_short_all_count(
    models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = iter([2, 9, 5, 7, 3, 4])
    monkeypatch.setattr(
        measure, "take_turns", lambda calls, *_, **__: np.full((len(calls), next(lengths)), 0.5)
    )
    report = prunec.bench(models, batches=[1], runs=60, seconds=10, memory=False)
    assert [timing.runs for timing in report.timings] == [30, 30]
    assert report.timing("half.onnx", 1).ratio == pytest.approx((1, 1, 1))


def test_each_model_is_opened_first_as_often_as_last(
    models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = measure.open_session

    def recorded(candidate: Candidate, setting: Setting) -> Opened:
        opened.append(candidate.name)
        return real(candidate, setting)

    monkeypatch.setattr(measure, "open_session", recorded)
    prunec.bench(models, batches=[1], runs=24, memory=False)
    rounds = opened[2:]  # behind the first runs
    assert rounds == ["dense.onnx", "half.onnx", "half.onnx", "dense.onnx"] * 3


def test_real_inputs_and_a_fixed_batch(tmp_path: Path) -> None:
    onnx.save(perceptron(batch=2), tmp_path / "fixed.onnx")
    data = {"x": np.ones((4, 16), np.float32), "label": np.arange(4)}
    report = prunec.bench([tmp_path / "fixed.onnx"], data=data, runs=4, seconds=1, memory=False)
    assert report.batches == (2,)
    assert report.models[0].macs == 20 * 32  # of one sample
    assert report.notes == ("fixed.onnx takes a batch of 2 only: 1, 8, 64 not measured",)
    assert (report.inputs, report.models[0].memory, report.verdicts) == ("<memory>", None, ())


def broken(path: Path, **shapes: str) -> Path:
    """A model that only runs at a batch of 1: it reshapes to that."""
    proto = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[N, 4] x) => (float[M, 4] y) <int64[2] shape = {1, 4}> {
        r = Reshape (x, shape)
        y = Relu (r)
    }""")
    onnx.save(proto, path)
    return path


def test_a_later_batch_that_fails_is_left_out_by_name(tmp_path: Path) -> None:
    report = prunec.bench([broken(tmp_path / "one.onnx")], batches=[1, 8], runs=4, memory=False)
    assert report.batches == (1,)
    assert report.notes[0].startswith("batch 8 left out: one.onnx: the model fails when it runs at batch 8: ")


def test_a_first_batch_that_fails_is_an_error_with_the_name(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prunec.bench([broken(tmp_path / "one.onnx")], batches=[8], runs=4)
    assert caught.value.render().startswith("error: one.onnx: the model fails when it runs at batch 8: ")


def test_a_run_that_takes_too_long_is_an_error_with_the_name(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[1, 4] x) => (float[1, 4] y) <int64 trips = {1000000000}, bool go = {1}, float[1] one = {1.0}> {
        y = Loop (trips, go, x) <body = step (int64 i, bool c, float[1, 4] s) => (bool d, float[1, 4] t)
            { d = Identity (c) t = Add (s, one) }>
    }""")
    onnx.save(proto, tmp_path / "slow.onnx")
    with pytest.raises(UserError) as caught:
        prunec.bench([tmp_path / "slow.onnx"], timeout=0.2)
    assert caught.value.render() == (
        "error: slow.onnx: one run at batch 1 did not end within 0.2 s\n"
        "  = help: allow more with --timeout, or leave this batch out with --batch"
    )


def test_a_run_that_ended_too_late_is_an_error_however_short(models: list[Path]) -> None:
    with pytest.raises(UserError, match=r"one run at batch 1 did not end within 1e-09 s"):
        prunec.bench(models, timeout=1e-9)


def test_a_later_batch_that_memory_does_not_hold_is_left_out(models: list[Path]) -> None:
    report = prunec.bench(models, batches=[1, 2**50], runs=2, memory=False)
    assert report.batches == (1,) and report.timings[0].runs == 2
    assert report.notes[0].startswith("batch 1125899906842624 left out: dense.onnx: a batch of 1,125,")


def test_no_memory_for_a_run_is_an_error_with_the_name() -> None:
    class Session:
        def run(self, *_: object) -> None:
            raise MemoryError("std::bad_alloc")

    with pytest.raises(UserError, match="one run at batch 8 needs more memory than there is"):
        Opened(name="net.onnx", session=Session(), seconds=0.0).first_run({}, 8, 10.0)


def test_other_shapes_are_refused(models: list[Path], tmp_path: Path) -> None:
    onnx.save(perceptron(inputs=8), tmp_path / "small.onnx")
    with pytest.raises(UserError, match=r"`x` is \[1, 16\] in dense.onnx and \[1, 8\] in small.onnx"):
        prunec.bench([models[0], tmp_path / "small.onnx"], runs=2)


def test_a_missing_provider_is_refused(models: list[Path]) -> None:
    with pytest.raises(UserError) as caught:
        prunec.bench(models, providers=["cpuu"])
    assert "has no provider 'cpuu'" in caught.value.message
    assert caught.value.help == ("did you mean 'CPUExecutionProvider'?",)
    assert measure.check_providers(["CPU"]) == ("CPUExecutionProvider",)


def test_one_run_is_refused(models: list[Path]) -> None:
    with pytest.raises(UserError, match="a bench needs at least 2 runs, got 1"):
        prunec.bench(models, runs=1)


def test_memory_that_cannot_be_measured_is_a_note(
    models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> tuple[int, int]:
        raise OSError("no process")

    monkeypatch.setattr(measure, "measure_peak", fails)
    report = prunec.bench(models[:1], batches=[1], runs=4)
    assert report.models[0].memory is None
    assert report.notes == ("dense.onnx: peak memory not measured: OSError",)


def sequence() -> onnx.ModelProto:
    """``x [N, seq, 4]`` to ``y [N, seq, 4]``."""
    return onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[N, seq, 4] x) => (float[N, seq, 4] y) <float one = {1.0}> { y = Add (x, one) }""")


def test_a_size_that_was_assumed_is_said(tmp_path: Path) -> None:
    onnx.save(sequence(), tmp_path / "net.onnx")
    model = [tmp_path / "net.onnx", tmp_path / "net.onnx"]
    (note,) = prunec.bench(model, batches=[1], runs=4, memory=False).notes
    assert note.startswith("sizes that the model leaves open: seq=1; give those of production with --size")
    report = prunec.bench(model, batches=[1], runs=4, memory=False, sizes={"seq": 128}, profile=True)
    assert report.notes == ()
    (layer,) = report.profiles[0].layers
    assert layer.bytes >= 2 * 4 * 4 * 128
    assert report.verdicts[0].count(";") <= 1 and "promise" not in report.verdicts[0]  # nothing is multiplied


def test_a_size_of_nothing_is_refused(tmp_path: Path) -> None:
    onnx.save(sequence(), tmp_path / "net.onnx")
    with pytest.raises(UserError, match="no input has a free size `length`") as caught:
        prunec.bench([tmp_path / "net.onnx"], sizes={"length": 128})
    assert caught.value.help == ("free sizes beside the batch: seq",)
