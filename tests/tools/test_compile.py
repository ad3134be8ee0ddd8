from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.passes.plan import Plan
from prunec.tools import prunec as command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``net.onnx``: two convolutions with a ReLU between them, 16 channels wide."""
    rng = np.random.default_rng(0)
    weights = {
        "c1.weight": rng.standard_normal((16, 3, 3, 3)).astype(np.float32),
        "c1.bias": rng.standard_normal(16).astype(np.float32),
        "c2.weight": rng.standard_normal((4, 16, 3, 3)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "c1.weight", "c1.bias"], ["a"], name="c1"),
            helper.make_node("Relu", ["a"], ["b"], name="relu"),
            helper.make_node("Conv", ["b", "c2.weight"], ["y"], name="c2"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_pruned_verified_written_and_replayed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = "prune-channels{ratio=50% round-to=4}"
    assert command.run(["net.onnx", "-p", pipeline, "--plan", "plan.json"]) == 0
    shown = capsys.readouterr().err
    assert "verified: prune-channels: " in shown and shown.endswith("wrote net.pruned.onnx, plan.json\n")
    pruned = onnx.load("net.pruned.onnx")
    shapes = {tensor.name: list(tensor.dims) for tensor in pruned.graph.initializer}
    assert shapes == {"c1.weight": [8, 3, 3, 3], "c1.bias": [8], "c2.weight": [4, 8, 3, 3]}
    [step] = Plan.load("plan.json").steps
    assert [len(group.removed) for group in step.groups] == [8]
    assert command.run(["net.onnx", "--replay", "plan.json", "-o", "again.onnx"]) == 0
    assert Path("again.onnx").read_bytes() == Path("net.pruned.onnx").read_bytes()


def test_a_plan_for_another_model_is_the_users_mistake(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(["net.onnx", "-p", "prune-channels{round-to=1}", "--plan", "plan.json"]) == 0
    text = Path("plan.json").read_text()
    Path("plan.json").write_text(text.replace("c1.weight", "other.weight"))
    capsys.readouterr()
    assert command.run(["net.onnx", "--replay", "plan.json", "-o", "again.onnx"]) == 2
    assert "error: plan.json: the plan names tensor 'other.weight'" in capsys.readouterr().err
    assert not Path("again.onnx").exists()


def test_external_weights_of_the_input_are_never_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load("net.onnx")
    onnx.save(model, "big.onnx", save_as_external_data=True, location="small.onnx.data", size_threshold=0)
    weights = Path("small.onnx.data").read_bytes()
    base = ["big.onnx", "-p", "prune-channels"]
    assert command.run([*base, "-o", "small.onnx"]) == 0
    assert Path("small.onnx.data").read_bytes() == weights
    onnx.checker.check_model("small.onnx", full_check=True)
    capsys.readouterr()
    for option in ("-o", "--plan"):
        assert command.run([*base, option, "small.onnx.data"]) == 2
        assert "small.onnx.data: this output would overwrite an input" in capsys.readouterr().err
    assert Path("small.onnx.data").read_bytes() == weights


def test_an_output_that_is_no_file_is_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    for arguments in (["net.onnx", "-p", "verify", "-o", "pipe"], ["inspect", "net.onnx", "--dot", "pipe"]):
        assert command.run(arguments) == 2
        assert "error: pipe: this is a device or a pipe, not a file\n" in capsys.readouterr().err
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_where_nothing_is_removed_the_summary_says_so_and_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(["net.onnx", "-p", "prune-channels{ignore=c1}", "-o", "same.onnx"]) == 0
    shown = capsys.readouterr().err
    why = "nothing can be pruned in this model (no group passes the filters `ignore` and `only`)"
    assert f"nothing was removed: {why}\n" in shown and shown.endswith("wrote same.onnx\n")
    assert command.run(["net.onnx", "-p", "prune-channels", "-o", "small.onnx"]) == 0
    assert command.run(["net.onnx", "-p", "sparsify{pattern=unstructured}", "-o", "zeros.onnx"]) == 0
    assert command.run(["net.onnx", "-p", "verify", "-o", "same.onnx"]) == 0
    assert command.run(["net.onnx", "-p", "sparsify{layers=all}", "-o", "zeros.onnx"]) == 0
    assert "nothing was removed" not in capsys.readouterr().err


def test_calibration_data_reach_the_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "calib.npz", x=rng.standard_normal((40, 3, 8, 8)).astype(np.float32), label=np.arange(40)
    )
    arguments = ["net.onnx", "-p", "sparsify{criterion=sparsegpt layers=all}"]
    assert command.run([*arguments, "--data", "calib.npz", "-R"]) == 0
    assert "remark[analysis]: sparsify: `c2`: outputs on held-out samples move by " in capsys.readouterr().err
    pruned = onnx.load("net.pruned.onnx")
    weight = next(numpy_helper.to_array(t) for t in pruned.graph.initializer if t.name == "c2.weight")
    assert ((weight != 0).reshape(4, 4, 4, 3, 3).sum(axis=2) == 2).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: `sparsify{criterion=wanda}` needs calibration data, and none are given\n"),
        (["--data", "calib.npz"], "error: calib.npz: no such file\n  = help: no .npz file is in .\n"),
        (["--data", "net.onnx"], "error: net.onnx: this is not an .npz archive\n"),
        (["--data", "other.npz"], "error: other.npz: no array is named as the graph input `x`\n"),
        (["--data", "other.npz", "-o", "other.npz"], "error: other.npz: this output would overwrite an input\n"),
    ],
)  # fmt: skip
def test_mistakes_with_calibration_data(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if "other.npz" in arguments:
        np.savez(folder / "other.npz", image=np.zeros((9, 3, 8, 8), np.float32))
    assert command.run(["net.onnx", "-p", "sparsify{criterion=wanda}", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not Path("net.pruned.onnx").exists() and not list(folder.glob("prunec-crash*"))


def test_calibration_data_that_nothing_looks_at_are_told_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "calib.npz", x=np.zeros((9, 3, 8, 8), np.float32))
    assert command.run(["net.onnx", "-p", "prune-channels", "--data", "calib.npz"]) == 0
    err = capsys.readouterr().err
    assert "remark[missed]: data: the calibration data (calib.npz) are not used\n" in err
    assert "options: compensate, gate, prune-channels, quantize, recalibrate-norm, sparsify\n" in err


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ([1, 7, 4, 4], ["graph output `y` is declared [1, 7, 4, 4] and computed as [1, 4, 4, 4]"]),
        (["N", 4, 4], ["graph output `y` is declared [?, 4, 4] and computed as [1, 4, 4, 4]"]),
        (["N", "C", 4, 4], []),
    ],
)
def test_outputs_that_are_declared_wrongly_are_told_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str], output: list[int | str], told: list[str]
) -> None:
    model = onnx.load("net.onnx")
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, output))
    onnx.save(model, "net.onnx")
    assert command.run(["net.onnx", "-p", "prune-channels"]) == 0
    shown = capsys.readouterr().err
    assert [line for line in shown.splitlines() if "load" in line] == [
        f"remark[analysis]: load: {message}" for message in told
    ]


def test_a_model_that_does_not_run_is_told_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load("net.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0
    onnx.save(model, "net.onnx")
    assert command.run(["net.onnx", "-p", "prune-channels"]) == 2
    shown = capsys.readouterr().err
    assert "  = note: graph input `x` is declared with shape [1, 3, 0, 8], which holds no elements\n" in shown
    assert "  = help: a model that does not run cannot be verified; --no-verify, " in shown


def test_a_pattern_that_matches_nothing_is_told_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(["net.onnx", "-p", "prune-channels{round-to=1 ignore=c3}"]) == 0
    assert (
        "remark[missed]: prune-channels: pattern 'c3' matches no node or tensor\n" in capsys.readouterr().err
    )


def test_only_files_of_models_and_reports_are_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("train.py").write_text("print()")
    for option in ("-o", "--remarks"):
        assert command.run(["net.onnx", "-p", "prune-channels{round-to=1}", option, "train.py"]) == 2
        assert capsys.readouterr().err == (
            "error: train.py: this file exists, and its name is that of no model or report\n"
            "  = help: give another name, or remove the file first\n"
        )
    assert Path("train.py").read_text() == "print()"
