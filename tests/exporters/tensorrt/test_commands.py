"""The commands that build an engine again."""

from __future__ import annotations

import shlex
from pathlib import Path

from fake_gpu import FakeTensorRT

from prunec.exporters.tensorrt.api import Api
from prunec.exporters.tensorrt.commands import reproduce
from prunec.exporters.tensorrt.profiles import parse_profile

PROFILES = (parse_profile("x:1x3:8x3:64x3"), parse_profile("y:1:2:3"))


def commands(api: Api, *, sparse: bool = True) -> list[list[str]]:
    text = reproduce(
        api,
        model=Path("a net.onnx"),
        engine=Path("net.engine"),
        profiles=PROFILES,
        sparse=sparse,
        timing_cache=Path("c"),
    )
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_tensorrt() -> None:
    trtexec, convert, run, inspect = commands(FakeTensorRT().api)
    assert trtexec[:5] == [
        "trtexec",
        "--onnx=a net.onnx",
        "--saveEngine=net.engine.rebuilt",
        "--stronglyTyped",
        "--sparsity=enable",
    ]
    assert {
        "--minShapes=x:1x3,y:1",
        "--optShapes=x:8x3,y:2",
        "--maxShapes=x:64x3,y:3",
        "--timingCacheFile=c",
    } <= set(trtexec)
    assert convert[:3] == ["polygraphy", "convert", "a net.onnx"]
    assert "--trt-opt-shapes x:[8,3] y:[2] " in " ".join(convert)
    assert run[-2:] == ["--trt", "--onnxrt"]
    assert inspect[3] == "net.engine"


def test_tensorrt_rtx_has_a_tool_of_its_own() -> None:
    api = Api(module=None, package="tensorrt_rtx", version="1.7")
    trtexec, *polygraphy = commands(api)
    assert trtexec[0] == "tensorrt_rtx" and not any("timingCache" in word for word in trtexec)
    assert {words[0] for words in polygraphy} == {"POLYGRAPHY_USE_TENSORRT_RTX=1"}


def test_a_dense_engine_is_built_dense() -> None:
    assert "--sparsity=enable" not in commands(FakeTensorRT().api, sparse=False)[0]
