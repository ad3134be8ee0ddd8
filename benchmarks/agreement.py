"""Random graphs, and what it means that the files made of them compute the same: ONNX Runtime and numpy alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

TESTS = Path(__file__).resolve().parents[1] / "tests"
"""Where the generator of random graphs is."""

TOLERANCE = {"float": 1e-4, "float16": 3e-2}
NOISE = 1e-6
"""Relative change of the inputs that tells how much a graph makes of rounding."""
AMPLIFIED = 20
"""Differences up to so many times what that change makes are rounding."""
MOST = 0.05
"""Difference that is never rounding."""
ATTEMPTS = 3
"""Inputs on which two models may differ before they count as different: a value that lies on the border of
two integers goes either way on one input, a mistake shows on all."""
LEAST = 1e-3
"""Magnitude below which outputs are compared as if they had it."""


class MismatchError(Exception):
    """A check failed: a kind in one or two words, and what is wrong."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A generated model.

    Attributes:
        proto: the model.
        seed: that it was made from.
        dynamic: its batch is open.
    """

    proto: onnx.ModelProto
    seed: int
    dynamic: bool

    @classmethod
    def of(cls, seed: int) -> Graph:
        """The graph of a seed."""
        proto = _generators().random_model(seed)
        dims = (d for value in proto.graph.input for d in value.type.tensor_type.shape.dim)
        return cls(proto=proto, seed=seed, dynamic=any(d.dim_param for d in dims))

    def feeds(self, attempt: int = 0, batch: int = 2) -> dict[str, Array]:
        """Inputs; another attempt has others."""
        made: dict[str, Array] = _generators().random_inputs(self.proto, self.seed + attempt, batch=batch)
        return made


def left_out() -> Collection[str]:
    """Names of the ops that no graph has although ONNX Runtime runs them."""
    names: Collection[str] = _generators().LEFT_OUT
    return names


def _generators() -> Any:
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    return importlib.import_module("generators")


class Runs:
    """Sessions of the models of one graph.

    Args:
        graph: what its inputs are.
        models: models by what messages call them; the first is the graph itself.
    """

    def __init__(self, graph: Graph, models: Mapping[str, onnx.ModelProto]) -> None:
        self._graph = graph
        self._models, self._sessions = models, dict[str, Any]()
        half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.proto.graph.initializer)
        self.tolerance = TOLERANCE["float16" if half else "float"]

    def __call__(self, name: str, feeds: Arrays) -> dict[str, Array]:
        """Outputs of one of the models."""
        from prunec.ir.runtime import clean_message, runtime_errors

        try:
            if name not in self._sessions:
                self._sessions[name] = _session(self._models[name])
            session = self._sessions[name]
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except runtime_errors() as error:
            raise MismatchError(f"{name} does not run", clean_message(str(error))) from error

    def same(self, actual: str, expected: str, batch: int = 2) -> float:
        """The difference of two models on the first inputs on which they agree.

        Raises:
            MismatchError: they agree on none.
        """
        worst = 0.0
        for attempt in range(ATTEMPTS):
            feeds = self._graph.feeds(attempt, batch)
            reference = self(expected, feeds)
            found = difference(self(actual, feeds), reference)
            noise = difference(self(expected, _shake(feeds)), reference)
            if found <= max(self.tolerance, min(AMPLIFIED * noise, MOST)):
                return found
            worst = max(worst, found)
        raise MismatchError(
            "mismatch" if expected == "masked" else "changed",
            f"the {actual} model is off from the {expected} one by {worst:.1e} on {ATTEMPTS} inputs (batch {batch})",
        )


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def fit(feeds: Arrays, model: onnx.ModelProto) -> dict[str, Array]:
    """Inputs cut to the sizes that a model declares: caches of fewer heads."""
    fitted = dict(feeds)
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name in fitted and dim.dim_value:
                fitted[value.name] = fitted[value.name].take(range(dim.dim_value), axis)
    return fitted


def interface(model: onnx.ModelProto) -> list[str]:
    """Types of the inputs and outputs of a model."""
    constants = {tensor.name for tensor in model.graph.initializer}
    values = [*model.graph.input, *model.graph.output]
    return [str(value.type) for value in values if value.name not in constants]


def _shake(feeds: Arrays) -> dict[str, Array]:
    rng = np.random.default_rng(0)

    def shaken(array: Array) -> Array:
        noise = np.asarray(1 + NOISE * rng.standard_normal(array.shape), array.dtype)
        return array * noise if array.dtype.kind == "f" else array

    return {name: shaken(array) for name, array in feeds.items()}


def difference(actual: Arrays, expected: Arrays) -> float:
    """The largest relative difference of any output, as a share of its largest magnitude."""
    return max((_relative(actual[name], array) for name, array in expected.items()), default=0.0)


def _relative(actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    good = np.isfinite(b)
    if not np.array_equal(good, np.isfinite(a)):
        return float("inf")
    if not good.any():
        return 0.0
    return float(np.abs(a[good] - b[good]).max() / max(np.abs(b[good]).max(), LEAST))
