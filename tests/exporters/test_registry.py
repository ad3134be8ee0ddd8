"""Targets by name, their options in text and in Python, and mistakes in both."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from engine_models import model

import prunec
from prunec.exporters.export import export
from prunec.exporters.onnx_file import OnnxFile
from prunec.exporters.registry import TARGETS, load_target, make_target, parse_target, target_names
from prunec.exporters.tensorrt.target import TensorRT
from prunec.ir.diagnostics import UserError
from prunec.passes import registry
from prunec.passes.text.options import fields_of


def test_built_in_targets() -> None:
    assert target_names() == ("onnx", "ort", "trt")
    for name in target_names():
        target = load_target(name)
        assert target.name == name
        assert all(field.help and not field.help.endswith(".") for field in fields_of(target))


def test_options_are_typed() -> None:
    text = "trt{precision=bf16 sparse=false require-sparse=80% profile=x:1:2:3,y:1:2:3 level=5}"
    assert parse_target(text) == TensorRT(
        precision="bf16", sparse=False, require_sparse=0.8, profile=("x:1:2:3", "y:1:2:3"), level=5
    )


@pytest.mark.parametrize(
    ("text", "message", "carets"),
    [
        ("tr", "unknown target 'tr' (did you mean 'trt'?)", "^^"),
        ("trt{precison=fp16}", "unknown option 'precison' (did you mean 'precision'?)", "^^^^^^^^"),
        ("trt{precision=fp8}", "option 'precision' takes one of 'keep', 'fp16', 'bf16', got 'fp8'", "^^^"),
        ("trt{level=6}", "option 'level' takes a whole number from 0 to 5 or none, got '6'", "^"),
        ("ort{providers=cpu,gpu}", "option 'providers' takes a list, each item one of", "^^^^^^^"),
        ("trt(x)", "target 'trt' takes no body in parentheses", "^^^"),
        ("trt{", "this '{' is never closed", "^"),
    ],
)
def test_mistakes_have_a_place(text: str, message: str, carets: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_target(text)
    assert caught.value.message.startswith(message)
    assert str(caught.value.place).startswith("--emit:1:")
    assert str(caught.value.excerpt).endswith(f" {carets}")


@pytest.mark.parametrize("text", ["", "onnx, trt"])
def test_one_target_is_expected(text: str) -> None:
    with pytest.raises(UserError, match="expected one target, got ") as caught:
        parse_target(text)
    assert caught.value.help == ("targets: onnx, ort, trt",)


def test_python_options_are_held_to_the_same_rules() -> None:
    assert make_target("onnx{external-data}", {}) == make_target("onnx", {"external_data": True})
    with pytest.raises(UserError, match=r"unknown option 'precison' \(did you mean 'precision'\?\)"):
        make_target("trt", {"precison": "fp16"})
    with pytest.raises(
        UserError, match="target 'trt': option 'level' takes a whole number from 0 to 5 or none, got 7"
    ):
        make_target("trt", {"level": 7})
    with pytest.raises(UserError, match="got 7"):
        make_target(TensorRT(level=7), {})


def test_targets_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="mine", value="prunec.exporters.onnx_file:OnnxFile", group="prunec.exporters")
    registry._plugin_targets.cache_clear()
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [point] if group == TARGETS.group else []
    )
    try:
        assert target_names() == ("mine", "onnx", "ort", "trt")
        with pytest.raises(UserError, match=r"target 'mine' cannot be loaded: .* calls itself 'onnx'"):
            load_target("mine")
    finally:
        registry._plugin_targets.cache_clear()


def test_a_result_exports_itself_and_gets_the_remarks(tmp_path: Path) -> None:
    result = prunec.run(model("cnn"), "canonicalize")
    done = result.export("ort", tmp_path / "net.onnx", level="extended")
    assert done.target == "ort" and all(file.exists() for file in done.files)
    assert any(remark.origin == "ort" for remark in result.remarks)


def test_a_module_is_exported_as_it_is(tmp_path: Path) -> None:
    done = export(model("cnn"), OnnxFile(external_data=True), tmp_path / "net.onnx")
    assert [file.name for file in done.files] == ["net.onnx", "net.onnx.data"]
    assert done.size == sum(file.stat().st_size for file in done.files)
