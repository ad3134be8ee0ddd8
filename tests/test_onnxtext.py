"""The plugin for textual tests: what it runs, what it fills in, and that a wrong CHECK fails."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxtext
import pytest
from onnxtext import TextTestError

from prunec.ir.diagnostics import UserError
from prunec.passes.registry import BUILT_IN

RELU = "net (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
DENSE = "net (float[N,4] x) => (float[N,2] y) <float[4,2] w, float[2] b> { m = MatMul(x, w) y = Add(m, b) }"


def echo(model: onnx.ModelProto, argument: str) -> str:
    return f"{argument}|{' '.join(node.op_type for node in model.graph.node)}"


def refuse(model: onnx.ModelProto, argument: str) -> str:
    raise UserError(f"no pass is called `{argument}`", help=["did you mean `fold-norm`?"])


@pytest.fixture(autouse=True)
def runners(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, runner in {"echo": echo, "refuse": refuse}.items():
        monkeypatch.setitem(onnxtext.RUNNERS, name, runner)


def test_runner_gets_the_model_and_the_rest_of_the_line() -> None:
    assert onnxtext.run(f"# RUN: echo --groups all\n{RELU}") == "--groups all|Relu"


def test_anything_else_is_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnxtext.RUNNERS, "pipeline", echo)
    text = f"# RUN: fold-norm\n# RUN: prune-channels{{ratio=0.5 scope=global}}\n{RELU}"
    assert onnxtext.run(text) == "fold-norm\nprune-channels{ratio=0.5 scope=global}|Relu"


def test_unknown_runner_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(onnxtext.RUNNERS, "pipeline", raising=False)
    with pytest.raises(TextTestError, match="no runner is called `fold-norm`; there are print-onnx"):
        onnxtext.run(f"# RUN: fold-norm\n{RELU}")


def test_file_without_a_run_line_is_an_error() -> None:
    with pytest.raises(TextTestError, match="no RUN line"):
        onnxtext.run(RELU)


def test_expected_error_gives_its_rendered_text() -> None:
    output = onnxtext.run(f"# RUN-ERROR: refuse fold-nrom\n{RELU}")
    assert output == "error: no pass is called `fold-nrom`\n  = help: did you mean `fold-norm`?"


def test_error_that_does_not_come_is_an_error() -> None:
    with pytest.raises(TextTestError, match="expects an error, but this was printed"):
        onnxtext.run(f"# RUN-ERROR: echo\n{RELU}")


def test_error_that_nobody_expects_is_an_error() -> None:
    with pytest.raises(TextTestError, match="RUN failed:\nerror: no pass is called"):
        onnxtext.run(f"# RUN: refuse fold-nrom\n{RELU}")


def test_syntax_error_in_the_model_names_its_line() -> None:
    with pytest.raises(TextTestError, match="line: 2 "):
        onnxtext.parse_model("# RUN: echo\nnet (float[N,4] x) => float")


def test_invalid_model_is_refused() -> None:
    with pytest.raises(onnx.checker.ValidationError):
        onnxtext.parse_model("net (float[N,4] x) => (float[N,4] y) { y = Relu(z) }")


@pytest.mark.parametrize("words", ["random", "w b", "[wb]", "w\n# WEIGHTS: b"])
def test_weights_become_initializers(words: str) -> None:
    graph = onnxtext.parse_model(f"# WEIGHTS: {words}\n{DENSE}").graph
    assert [v.name for v in graph.input] == ["x"]
    assert {t.name: tuple(t.dims) for t in graph.initializer} == {"w": (4, 2), "b": (2,)}
    assert not graph.value_info
    arrays = [onnx.numpy_helper.to_array(t) for t in graph.initializer]
    assert all(array.std() > 0 for array in arrays)


def test_weights_depend_on_their_names_alone() -> None:
    together = onnxtext.parse_model(f"# WEIGHTS: random\n{DENSE}").graph.initializer
    apart = onnxtext.parse_model(f"# WEIGHTS: b w\n{DENSE}").graph.initializer
    assert {t.name: t.raw_data for t in together} == {t.name: t.raw_data for t in apart}


def test_inputs_can_become_weights_and_variances_are_positive() -> None:
    names = [f"bn{i}" for i in range(4)]
    inputs = ", ".join(["float[N,64] x", *(f"float[64] {name}" for name in names)])
    body = f"y = BatchNormalization(x, {', '.join(names)})"
    graph = onnxtext.parse_model(f"# WEIGHTS: bn*\nnet ({inputs}) => (float[N,64] y) {{ {body} }}").graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    assert values["bn3"].min() > 0 > np.min(values["bn0"])


@pytest.mark.parametrize(
    ("words", "message"), [("q", "`q` matches no input"), ("y", "`y` matches no input"), ("x", "`x` must be")]
)
def test_wrong_weights_are_errors(words: str, message: str) -> None:
    with pytest.raises(TextTestError, match=message):
        onnxtext.parse_model(f"# WEIGHTS: {words}\n{DENSE}")


def test_failing_check_reports_line_and_output() -> None:
    section = "# RUN: echo\n# CHECK: Relu\n# CHECK-NEXT: Gelu\n"
    with pytest.raises(TextTestError) as caught:
        onnxtext.check(section, "Relu\nSelu\n", "net.onnxtxt")
    report = str(caught.value)
    assert report.startswith("net.onnxtxt:3")
    assert "the line: # CHECK-NEXT: Gelu" in report
    assert report.endswith("the output:\nRelu\nSelu\n")


@pytest.mark.parametrize("checks", ["", "# CHECK-NOT: Relu", "# CHECK: {{unclosed"])
def test_wrong_or_missing_checks_fail(checks: str) -> None:
    with pytest.raises(TextTestError):
        onnxtext.check(f"# RUN: echo\n{checks}\n", "Relu\n")


def test_files_are_collected_and_fail_for_the_right_reason(pytester: pytest.Pytester) -> None:
    good = f"# RUN: print-onnx\n# CHECK: y = Relu (x)\n{RELU}\n"
    bad = good.replace("# CHECK: y = Relu", "# CHECK: y = Gelu")
    (pytester.path / "mixed.onnxtxt").write_text(f"{good}# -----\n{bad}")
    (pytester.path / "one.onnxtxt").write_text(good)
    result = pytester.runpytest_inprocess("-p", "onnxtext", "-v")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*::mixed:1 PASSED*", "*::mixed:5 FAILED*", "*::one PASSED*"])
    result.stdout.fnmatch_lines(["*mixed.onnxtxt:6*", "the line: # CHECK: y = Gelu (x)", "*y = Relu (x)*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_every_pass_has_a_textual_test() -> None:
    """Each pass is named by a RUN line of some file under ``tests/textual``."""
    files = (
        path for path in (Path(__file__).parent / "textual").rglob("*") if path.suffix in onnxtext.SUFFIXES
    )
    texts = [path.read_text(encoding="utf-8") for path in files]
    lines = [
        line for text in texts for name in ("RUN", "RUN-ERROR") for line in onnxtext.directive(text, name)
    ]
    words = {word for line in lines for word in re.findall(r"[\w-]+", line)}
    assert set(BUILT_IN) - words == set()
