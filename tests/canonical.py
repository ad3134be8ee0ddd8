"""A model before and after ``canonicalize``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

import prunec
from prunec.ir.load import load
from prunec.ir.proto import to_proto

Array = NDArray[Any]


def weights(**shapes: tuple[int, ...]) -> dict[str, Array]:
    """Normal deviates of these shapes."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def model(text: str, *, opset: int = 18, imports: str = "", **arrays: Array) -> onnx.ModelProto:
    """The graph ``text`` over the weights ``arrays``."""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}{imports}]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in arrays.items())
    return proto


class Canonical:
    """A model after the pass; the outputs were compared with those before it."""

    def __init__(self, proto: onnx.ModelProto, options: str = "", *, verify: bool = True) -> None:
        self.result = prunec.run(load(proto), f"canonicalize{options}", verify=verify)
        self.proto = to_proto(self.result.module)
        onnx.checker.check_model(self.proto, full_check=True)
        assert [v.name for v in self.proto.graph.output] == [v.name for v in proto.graph.output]

    @property
    def ops(self) -> Counter[str]:
        """How often each op is left."""
        return Counter(node.op_type for node in self.proto.graph.node)

    @property
    def constants(self) -> dict[str, Array]:
        """The initializers by name."""
        return {t.name: onnx.numpy_helper.to_array(t) for t in self.proto.graph.initializer}

    def messages(self, kind: str = "passed") -> list[str]:
        """The remarks of one kind."""
        return [remark.message for remark in self.result.remarks if remark.kind == kind]
