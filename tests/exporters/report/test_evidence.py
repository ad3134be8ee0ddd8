"""Evidence from objects, JSON and files; evidence of something else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT

import prunec
from prunec.exporters.report.evidence import Evidence, FileFacts, read_document
from prunec.exporters.report.figures import Box, Scale, polyline
from prunec.exporters.report.latencies import seconds
from prunec.ir.diagnostics import UserError
from prunec.passes.manager import Result

BENCH: dict[str, Any] = {
    "schema": "prunec.bench/1",
    "models": [{"name": "other.onnx", "sha256": "00"}],
    "timings": [],
}


@pytest.fixture(scope="module")
def result() -> Result:
    return prunec.run(prunec.load(ROOT / "examples" / "digits.onnx"), "verify")


def test_an_object_its_json_and_a_file_are_the_same_evidence(tmp_path: Path) -> None:
    class Given:
        def __init__(self, made: Any) -> None:
            self.made = made

        def to_json(self) -> Any:
            return self.made

    path = tmp_path / "bench.json"
    path.write_text(json.dumps(BENCH), encoding="utf-8")
    for given in (BENCH, path, str(path), Given(BENCH), Given(json.dumps(BENCH))):
        assert read_document("bench", given) == BENCH


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": "prunec.plan/1"}', "this is no bench: its schema is not prunec.bench/1"),
        ("[]", "this is no bench: its schema is not prunec.bench/1"),
        ("{", "this is no JSON: "),
    ],
)
def test_files_of_something_else(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_document("bench", path)
    assert str(caught.value).startswith(f"error: {path}: {message}")


def test_a_file_that_is_not_there(tmp_path: Path, result: Result) -> None:
    with pytest.raises(UserError, match="cannot read the file: no such file or directory"):
        read_document("bench", tmp_path / "no.json")
    with pytest.raises(UserError, match="cannot read the file: no such file or directory"):
        Evidence.of(result, output=tmp_path / "no.onnx")


def test_evidence_of_another_model_is_refused_by_name(result: Result) -> None:
    with pytest.raises(UserError) as caught:
        Evidence.of(result, bench=BENCH)
    digest = (result.module.source.sha256 or "")[:12]
    assert str(caught.value) == (
        "error: <memory>: this bench is of another model: other.onnx\n"
        f"  = note: the model here is '{result.module.source.name}', sha256 {digest}\n"
        "  = help: make it again: prunec bench A B --json FILE"
    )


def test_evidence_of_the_output_is_evidence_of_the_model(result: Result, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"abc")
    facts = FileFacts.of(tmp_path / "out")
    assert facts.size == 3
    bench = {**BENCH, "models": [{"name": "out", "sha256": facts.sha256}]}
    assert Evidence.of(result, output=facts, bench=bench).bench == bench


def test_latencies_that_share_only_the_model_before_are_refused(result: Result, tmp_path: Path) -> None:
    (tmp_path / "p2.onnx").write_bytes(b"abc")
    dense = {"name": "dense.onnx", "sha256": result.module.source.sha256}
    bench = {**BENCH, "models": [dense, {"name": "p1.onnx", "sha256": "00"}]}
    with pytest.raises(UserError, match=r"this bench is of another model: p1\.onnx") as caught:
        Evidence.of(result, output=tmp_path / "p2.onnx", bench=bench)
    assert caught.value.notes[1].startswith(f"it became '{tmp_path / 'p2.onnx'}', sha256 ba7816bf8f01")
    with pytest.raises(UserError, match=r"another model: p1\.onnx") as caught:
        Evidence.of(result, bench=bench)
    assert caught.value.help[1] == "or say which file the result was written to: `output`"
    assert Evidence.of(result, bench={**BENCH, "models": [dense]}).bench


def test_the_metric_of_the_model_before_is_none_of_the_result(result: Result, tmp_path: Path) -> None:
    module = prunec.load(ROOT / "examples" / "digits.onnx")
    pruned = prunec.run(module, "prune-channels{ratio=0.5}")
    evaluation = {
        "schema": "prunec.evaluation/1",
        "model": {"name": "digits.onnx", "sha256": module.source.sha256},
    }
    assert Evidence.of(result, evaluation=evaluation).evaluation  # nothing was changed
    with pytest.raises(UserError, match=r"this evaluation is of another model: digits\.onnx") as caught:
        Evidence.of(pruned, evaluation=evaluation)
    assert caught.value.notes[0].startswith("the model here was made from ")
    (tmp_path / "out.onnx").write_bytes(b"abc")
    with pytest.raises(UserError, match="this evaluation is of another model"):
        Evidence.of(pruned, output=tmp_path / "out.onnx", evaluation=evaluation)
    of_output = {**evaluation, "model": {"sha256": FileFacts.of(tmp_path / "out.onnx").sha256}}
    assert Evidence.of(pruned, output=tmp_path / "out.onnx", evaluation=of_output).evaluation


def test_an_axis_holds_all_values_and_round_ticks() -> None:
    scale = Scale.around([0.83, 1.0, float("nan")])
    assert (scale.low, scale.high) == (pytest.approx(0.8198), pytest.approx(1.0102))
    assert scale.ticks() == [0.85, 0.9, 0.95, 1.0]
    assert Scale.around([0, 100], zero=True, margin=0).percent(150) == 100
    assert Scale.around([5, 5]).percent(5) == 50
    assert Scale.around([]).ticks()


def test_points_point_up() -> None:
    box, unit = Box(width=100, height=50, pad=0), Scale(low=0, high=1)
    assert polyline(box.points(unit, unit, [(0, 0), (0.5, 1)])) == "0,50 50,0"


@pytest.mark.parametrize(("value", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (26e-6, "26 µs")])
def test_times_are_in_a_unit_that_fits(value: float, text: str) -> None:
    assert seconds(value) == text
