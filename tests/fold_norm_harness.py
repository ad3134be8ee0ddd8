"""Small models for fold-norm: made from ONNX text and arrays, folded, and compared by running them.

ONNX Runtime folds BatchNormalization by itself, so sessions run with every optimisation off: what is compared
is what the file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from prunec.ir.diagnostics import Remark, RemarkLog
from prunec.ir.module import Module
from prunec.passes.base import Context, Outcome
from prunec.passes.fold_norm import FoldNorm

Array = NDArray[Any]
Feeds = dict[str, Array]


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    """Normal deviates, different for each shape and seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def batch_norm(channels: int, *, seed: int = 0, dtype: str = "float32") -> Feeds:
    """``gamma`` (of both signs), ``beta``, ``mean`` and ``var``, each ``[channels]``."""
    gamma, beta, mean, spread = random(4, channels, seed=seed)
    parameters = {"gamma": gamma, "beta": beta, "mean": mean, "var": spread**2 + 0.1}
    return {name: array.astype(dtype) for name, array in parameters.items()}


def model(text: str, *, opset: int = 17, ir_version: int = 8, **weights: Array) -> onnx.ModelProto:
    """A model of the graph ``text`` whose initializers are ``weights``.

    ``w__x`` stands for the name ``w.x`` in both: ONNX text has no names with dots.
    """
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{header} {text}")
    for node in proto.graph.node:
        node.name = node.name.replace("__", ".")
        node.input[:] = [name.replace("__", ".") for name in node.input]
    for name, array in weights.items():
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name.replace("__", "."))
        proto.graph.initializer.append(tensor)
        if ir_version < 4:
            kind = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.input.append(kind)
    return proto


@dataclass(frozen=True)
class Folded:
    """What folding made of a model."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    outcome: Outcome
    remarks: list[Remark]

    def ops(self) -> list[str]:
        """The op types left in the main graph, in order."""
        return [node.op_type for node in self.after.graph.node]

    def weights(self) -> dict[str, Array]:
        """The initializers of the main graph by name."""
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.after.graph.initializer}

    def reason(self) -> str:
        """The reason of the only ``missed`` remark."""
        (remark,) = [remark for remark in self.remarks if remark.kind == "missed"]
        return cast(str, remark.reason)

    def must_be_unchanged(self, reason: str) -> None:
        """Nothing was folded, one remark says ``reason``, and the model is what it was."""
        assert not self.outcome.changed
        assert reason in self.reason()
        assert self.after == onnx_ir.to_proto(onnx_ir.from_proto(self.before))

    def must_compute_the_same(
        self, tolerance: float = 1e-5, *, reference: bool = False, standard: bool = True, **feeds: Array
    ) -> None:
        """The model is valid, was changed, and no output differs by more than ``tolerance`` of its range."""
        assert self.outcome.changed
        if standard:  # ops of ONNX Runtime in the default domain are unknown to the checker
            onnx.checker.check_model(self.after)
            onnx.shape_inference.infer_shapes(self.after, strict_mode=True, check_type=True, data_prop=True)
        run = run_reference if reference else run_unoptimised
        old, new = run(self.before, feeds), run(self.after, feeds)
        assert old.keys() == new.keys()
        for name, expected in old.items():
            assert new[name].shape == expected.shape
            assert new[name].dtype == expected.dtype
            wide = expected.astype(np.float64)
            span = np.abs(wide).max()
            assert span > 0, "an output of zeros proves nothing"
            assert np.abs(new[name].astype(np.float64) - wide).max() <= tolerance * span


def fold(proto: onnx.ModelProto, **options: Any) -> Folded:
    """Run fold-norm on a copy of ``proto``."""
    module, log = Module(onnx_ir.from_proto(proto)), RemarkLog()
    outcome = FoldNorm(**options).run(module, Context(analyses=cast(Any, None), remarks=log))
    return Folded(proto, onnx_ir.to_proto(module.model), outcome, list(log))


def run_unoptimised(proto: onnx.ModelProto, feeds: Feeds) -> Feeds:
    """Outputs by name in ONNX Runtime with all optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def run_reference(proto: onnx.ModelProto, feeds: Feeds) -> Feeds:
    """Outputs by name in ONNX's reference evaluator, for types that ONNX Runtime's CPU kernels lack."""
    names = [output.name for output in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(names, feeds), strict=True))
