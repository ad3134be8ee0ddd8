"""What prunec needs to know of ONNX Runtime itself; imports it on first use."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import onnx
from onnx import TensorProto, helper

PREFIX = r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
LOCATION = (
    r"(?:/\S*/)?\w+\.(?:cc|cpp|h|hpp):\d+ "
    r"(?:[^()]*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^]]*\])?|\w+) "
)
CONDITION = r"(?<=: )[^.:]* was false\. "


def session_options(*, optimize: bool, threads: int) -> Any:
    """Options of a session that runs the graph as it is written, or as ONNX Runtime would in production.

    Args:
        optimize: all graph optimisations and weight prepacking (which copies the weights).
        threads: threads for one op; 0 lets ONNX Runtime choose.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # failures come back as exceptions, with the same words
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


@lru_cache(maxsize=1)
def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its exceptions have no common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names: tuple[str, ...] = (
        "EPFail",
        "EngineError",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
    )
    names += ("ModelLoaded", "NoSuchFile", "NotImplemented", "RuntimeException", "NotFound")
    return (RuntimeError, *(getattr(state, name) for name in names if hasattr(state, name)))


def clean_message(text: str) -> str:
    """The first line of an error of ONNX Runtime, without its source locations and C++ signatures.

    >>> clean_message("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got: 2 Expected: 1 Please fix the model.")
    'Got: 2 Expected: 1 Please fix the model'
    """
    line = " ".join(text.strip().partition("\n")[0].split())
    for noise in (PREFIX, LOCATION, CONDITION):
        line = re.sub(noise, "", line)
    return line.strip().rstrip(".") or "no reason given"


@lru_cache(maxsize=1)
def newest_opset() -> int:
    """The newest default-domain opset that both the installed ONNX Runtime and ``onnx`` know."""
    import onnxruntime as ort

    newest = onnx.defs.onnx_opset_version()
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "probe", [value], [_named(value, "y")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", newest)], ir_version=8)
    try:
        ort.InferenceSession(
            model.SerializeToString(),
            session_options(optimize=False, threads=1),
            providers=["CPUExecutionProvider"],
        )
    except runtime_errors() as error:
        found = re.search(r"till opset (\d+)", str(error))
        return int(found[1]) if found else newest
    return newest


def _named(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
