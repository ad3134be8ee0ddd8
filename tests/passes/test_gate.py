"""The pass ``gate``: a pipeline whose model is not good enough stops, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import GateError, UserError
from prunec.tools import prunec as command

DIGITS = "examples/digits.onnx"
RARE = "[sets]\nrare = [3, 7]\n[slices.rare]\nwhere = 'label in rare'\nmax-drop = 0.05\n"


@pytest.fixture
def data() -> dict[str, Any]:
    with np.load("examples/digits.npz") as file:
        return dict(file)


def written(folder: Path, text: str) -> str:
    path = folder / "slices.toml"
    path.write_text(text)
    return str(path)


def gated(folder: Path, data: Any, ratio: str, text: str) -> prunec.Result:
    pipeline = f"prune-channels{{ratio={ratio}}}, gate{{slices={written(folder, text)}}}"
    return prunec.run(prunec.load(DIGITS), pipeline, data=data)


def test_a_cut_that_costs_a_slice_too_much_is_stopped(tmp_path: Path, data: Any) -> None:
    result = gated(tmp_path, data, "50%", RARE)
    assert [r.message for r in result.remarks if r.origin == "gate"] == [
        "`all` (450 samples): top1 0.9956, the dense model 0.9978",
        "`rare` (91 samples): top1 1, the dense model 1",
        "top1 is measured: `label` holds whole numbers",
        f"1 of 1 thresholds of {tmp_path / 'slices.toml'} hold",
    ]
    with pytest.raises(GateError) as caught:
        gated(tmp_path, data, "60%", RARE)
    path = tmp_path / "slices.toml"
    assert str(caught.value).startswith(f"error: {path}: slice `rare` (91 samples): top1 drops by 0.4725 [")
    assert caught.value.exit_code == 3
    made, judged = caught.value.result, caught.value.evaluation
    assert [step.pass_name for step in made.plan.steps] == ["prune-channels"]
    assert made.cost_after.parameters < result.cost_after.parameters < made.cost_before.parameters
    assert judged.value == prunec.evaluate(made.module, data, "top1").value


def test_drops_are_measured_against_the_model_that_the_pipeline_began_with(tmp_path: Path, data: Any) -> None:
    """The second cut, of a model that is small already, is judged against the one before both."""
    gate = f"gate{{slices={written(tmp_path, '[all]' + chr(10) + 'max-drop = 0.1')}}}"
    module = prunec.load(DIGITS)
    before = {name: value.const_value for name, value in module.graph.initializers.items()}
    with pytest.raises(GateError, match="the whole set"):
        prunec.run(
            module, f"prune-channels{{ratio=50%}}, {gate}, prune-channels{{ratio=50%}}, {gate}", data=data
        )
    assert before == {name: value.const_value for name, value in module.graph.initializers.items()}
    with pytest.raises(GateError, match="the whole set"):
        prunec.run(module, f"prune-channels{{ratio=60%}}, {gate}", data=data, in_place=True)


def test_what_is_undecided_is_told_and_fails_on_request(tmp_path: Path, data: Any) -> None:
    text = "[all]\nmin = 0.998\n[slices.seven]\nwhere = 'label = 7'\nmin = 0.9\n"
    result = gated(tmp_path, data, "50%", text)
    [remark] = [r for r in result.remarks if r.origin == "gate" and r.kind == "missed"]
    assert result.remarks.remarks[-1].message.endswith("slices.toml hold, 1 undecided")
    assert remark.urgent and remark.reason == "too few samples to decide" and "`all`" in remark.message
    with pytest.raises(GateError, match=r"the whole set .* at least 0.998 is demanded"):
        gated(tmp_path, data, "50%", "undecided = 'fail'\n" + text)


@pytest.mark.parametrize(
    ("text", "arrays", "message"),
    [
        ("[slices.a]\nwhere = 'lable = 3'\nmin = 1", None, "2:10: unknown column 'lable' (did you mean 'label'?)"),
        ("[slices.a]\nwhere = 'label = 3'", None, "no threshold is in this file\n  = help: give slices a min"),
        ("[slices.a]\nwhere = 'label = 33'\nmin = 1", None, "slice 'a' is empty: its predicate holds for none of 450"),
        ("[all]\nmin = 90", None, "'all' has min = 90, but top1 is between 0 and 1\n  = help: write min = 0.9"),
        ("[all]\nmin = 1\n[slices.a]\nwhere = 'label = 3'\nmax = 1", None, "'a' limits top1 by 'max', but higher is"),
        (None, None, "cannot read the slices: no such file or directory"),
        ("[all]\nmin = 1", (), "needs calibration data, and none are given"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(
    tmp_path: Path, data: Any, text: str | None, arrays: Any, message: str
) -> None:
    path = str(tmp_path / "no.toml") if text is None else written(tmp_path, text)
    begun: list[str] = []
    with pytest.raises(UserError) as caught:
        prunec.run(
            prunec.load(DIGITS),
            f"prune-channels, gate{{slices={path}}}",
            data=data if arrays is None else None,
            progress=begun.append,
        )
    assert message in str(caught.value) and not begun


def test_the_command_line_stops_with_3_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices, output = written(tmp_path, RARE), tmp_path / "out.onnx"
    arguments = ["--data", "examples/digits.npz", "-o", str(output)]
    assert (
        command.run([DIGITS, "-p", f"prune-channels{{ratio=60%}}, gate{{slices={slices}}}", *arguments]) == 3
    )
    assert capsys.readouterr().err.startswith(
        f"error: {slices}: slice `rare` (91 samples): top1 drops by 0.4725 ["
    )
    assert not output.exists() and not list(Path.cwd().glob("prunec-crash*"))
    assert (
        command.run([DIGITS, "-p", f"prune-channels{{ratio=50%}}, gate{{slices={slices}}}", *arguments]) == 0
    )
    assert output.exists() and f"gate: 1 of 1 thresholds of {slices} hold\n" in capsys.readouterr().err


@pytest.mark.parametrize(("pipeline", "judged"), [("", None), ("quantize{mode=dynamic ops=Gemm}, ", 3)])
def test_where_nothing_is_fitted_every_sample_judges_and_one_is_enough(
    tmp_path: Path, pipeline: str, judged: int | None
) -> None:
    net = graph(
        "net (float[4,5] x) => (float[4,3] y) <float[5,3] w, float[3] b> { y = Gemm(x, w, b) }", opset=21
    )
    gate = f"gate{{slices={written(tmp_path, '[all]' + chr(10) + 'min = 0.0')}}}"
    data = {"x": np.eye(3, 5, dtype=np.float32), "label": np.arange(3)}  # fewer than the model runs at a time
    result = prunec.run(net, f"{pipeline}{gate}", data=data)
    told = next(r.message for r in result.remarks if r.origin == "gate")
    assert told.startswith("`all` (3 samples): top1")
    assert [verdict.batch for verdict in result.verdicts] == ([] if judged is None else [judged])
