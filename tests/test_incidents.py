"""The incidents of examples/incidents: what the tool concludes, whatever the times are."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from prunec.exporters.bench.ceiling import ceiling
from prunec.exporters.bench.results import Machine

INCIDENTS = Path(__file__).parents[1] / "examples" / "incidents"
MACHINE = Machine(operations=220e9, bandwidth=33e9, node=0.2e-6)
"""One core of a server."""


@pytest.fixture
def incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """A script, in an empty folder; it finds its neighbours as it does when it is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(INCIDENTS)
    for name in ("transformer", "inspection", request.param):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module(request.param)


@pytest.mark.parametrize("incident", ["transformer_batch1"], indirect=True)
def test_zeros_promise_what_no_dense_kernel_keeps(
    incident: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    report = incident.main(0.2, (1,))
    dense, zeros, channels = report.models
    assert zeros.macs == dense.macs and dense.nonzero_macs > 6 * zeros.nonzero_macs
    assert channels.macs < dense.macs / 2
    (why,) = [e for e in report.explanations if e.model == "zeros.onnx"]
    assert (why.batch, round(why.promise)) == (1, 6)
    said = {reason.kind: reason.message for reason in why.reasons}
    assert "85% zeros, which a dense kernel multiplies like other numbers" in said["zeros"]
    out = capsys.readouterr().out
    assert "fewer multiplications promise 6.3" in out and "no sparse kernel ran" in out


@pytest.mark.parametrize("incident", ["two_four_ceiling"], indirect=True)
def test_the_ceiling_is_known_before_anybody_prunes(
    incident: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, estimated = incident.main()
    for found in (measured, estimated):
        assert found.speedup < found.kernel == 1.9
        never = {layer.op for layer in found.layers if not layer.eligible}
        assert {"Softmax", "Gather"} <= never
        able = {layer.name for layer in found.layers if layer.eligible}
        assert {"up0", "down0", "query1", "out1"} <= able and not {"scores0", "mixed0", "head"} & able
    assert "2:4 can make encoder.onnx at most 1." in capsys.readouterr().out
    known = ceiling("encoder.onnx", kernel=1.9, estimate=True, machine=MACHINE)
    assert (round(known.share, 2), round(known.speedup, 2)) == (0.77, 1.57)


@pytest.mark.parametrize("incident", ["rare_class"], indirect=True)
def test_slices_stop_what_a_mean_hides_and_a_budget_needs_nothing_of_it(
    incident: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped, kept = incident.main()
    assert "slice `rare` (200 samples): top1 drops by 0.1" in stopped
    assert "the whole set" not in stopped
    out = capsys.readouterr().out
    assert "(exit 3)" in out
    rows = {line[:18].strip(): line for line in out.splitlines() if " rare " in line and "error" not in line}
    values = {
        name: [float(word[:-1]) for word in row.split() if word.endswith("%")] for name, row in rows.items()
    }
    for before, cut, lost in zip(values["dense"], values["early layers cut"], (1, 12), strict=True):
        assert before - cut == pytest.approx(lost, abs=0.7)
    assert min(values["budget"]) > 99
    assert kept.cost_after.parameters <= 1.01 * 27_936 < kept.cost_before.parameters


@pytest.mark.parametrize("incident", ["stale_skip"], indirect=True)
def test_a_stale_skip_is_named_where_checkers_see_nothing(
    incident: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert incident.main() == (
        "error[V011]: the graph has `projection` of shape [8, 3, 1, 1] after `narrow-trunk`, expected is [1, 3, 1, 1]"
    )
    out = capsys.readouterr().out
    assert "onnx.checker, with full shape inference: accepted" in out
    assert "ONNX Runtime: runs, scores [2, 5], as they should be" in out


@pytest.mark.parametrize("incident", ["compounding"], indirect=True)
def test_errors_compound_without_calibration_and_not_with_it(
    incident: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    noise, samples = incident.main()
    assert noise.interaction > 0.1 > 5 * samples.interaction
    assert noise.warning is not None and samples.warning is None
    assert noise.drop(noise.quantised) < 0.15 < noise.drop(noise.both)
    assert "warning: pruning and quantising together lose" in capsys.readouterr().out
