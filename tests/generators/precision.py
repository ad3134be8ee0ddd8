"""Islands of other float types, reached through Cast."""

from __future__ import annotations

import numpy as np
from generators.builder import Builder, Value
from generators.registry import block
from onnx import TensorProto, helper


@block("island")
def island(b: Builder) -> None:
    """A layer or two in half or double precision."""
    x = b.pick("tokens", "image", "vector")
    kind = b.choose([TensorProto.FLOAT16, TensorProto.DOUBLE]) if x.kind != "image" else TensorProto.FLOAT16
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    y = b.op("Cast", x, to=kind, kind=x.kind)
    for _ in range(b.size(1, 2)):
        y = _layer(b, y, b.width(), dtype)
        y = b.op(b.choose(["Relu", "Tanh", "Sigmoid"]), y) if b.chance(0.6) else y
    b.keep(b.op("Cast", y, to=TensorProto.FLOAT, kind=x.kind))


def _layer(b: Builder, x: Value, channels: int, dtype: np.dtype) -> Value:
    c = x.channels
    bias = b.normal(channels, std=0.3).astype(dtype)
    if x.kind == "image":
        weight = b.normal(channels, c, 1, 1, std=c**-0.5).astype(dtype)
        return b.op(
            "Conv", x, b.initializer(weight, "weight"), b.initializer(bias, "bias"), kernel_shape=[1, 1]
        )
    weight = b.normal(c, channels, std=c**-0.5).astype(dtype)
    return b.op("Add", b.op("MatMul", x, b.initializer(weight, "weight")), b.initializer(bias, "bias"))
