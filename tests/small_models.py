"""A small model to load, damage and run, and the error that loading it gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from prunec.ir.diagnostics import UserError
from prunec.ir.load import load

LINEAR = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 32] x) => (float[N, 16] y) <float[2] unused = {1, 2}> {
    [mm] h = MatMul (x, w)
    [act] y = Relu (h)
}
"""


def linear() -> onnx.ModelProto:
    """x [N, 32] times w [32, 16]: 2,048 bytes of weights."""
    proto = onnx.parser.parse_model(LINEAR.replace("h = MatMul (x, w)", "h = MatMul (x, x)"))
    proto.graph.node[0].input[1] = "w"
    weight = np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return proto


def error_of(source: object) -> str:
    """The rendered error of loading ``source``, whose first line is the message."""
    with pytest.raises(UserError) as caught:
        load(source)  # type: ignore[arg-type]
    assert "\n" not in caught.value.message
    assert "Traceback" not in str(caught.value)
    return str(caught.value)
