"""The rows of a layer's matrix product: against a loop, and against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import prunec
from prunec.ir.execute import run_model
from prunec.passes.calibration.unfold import Array, Window, unfold


@dataclass(frozen=True, kw_only=True)
class Case:
    """A convolution: op, spatial sizes of its input, channels, and its attributes."""

    op: str
    sizes: tuple[int, ...]
    channels: int
    outputs: int
    kernel: tuple[int, ...]
    attributes: dict[str, Any]

    def node(self) -> onnx.NodeProto:
        return helper.make_node(self.op, ["x", "w"], ["y"], **self.attributes)

    def arrays(self) -> tuple[Array, Array]:
        """Inputs [2, channels, *sizes] and the weight as the op stores it."""
        rng, groups = np.random.default_rng(0), self.attributes["group"]
        first, second = self.outputs, self.channels // groups
        if self.op == "ConvTranspose":
            first, second = self.channels, self.outputs // groups
        weight = rng.standard_normal((first, second, *self.kernel)).astype(np.float32)
        return rng.standard_normal((2, self.channels, *self.sizes)).astype(np.float32), weight

    def module(self) -> prunec.Module:
        inputs, weight = self.arrays()
        graph = helper.make_graph(
            [self.node()],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weight, "w")],
        )
        return prunec.load(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    axes = range(rank)
    op = draw(st.sampled_from(["Conv", "ConvTranspose"]))
    kernel = tuple(draw(st.integers(1, 3)) for _ in axes)
    mode = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    dilations = [
        1 if mode.startswith("SAME") else draw(st.integers(1, 2)) for _ in axes
    ]  # as ONNX Runtime has it
    strides = [draw(st.integers(1, 3)) for _ in axes]
    sizes = tuple((k - 1) * d + 1 + draw(st.integers(0, 3)) for k, d in zip(kernel, dilations, strict=True))
    attributes: dict[str, Any] = {"group": groups, "dilations": dilations, "strides": strides}
    if mode == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    else:
        attributes["auto_pad"] = mode
    if op == "ConvTranspose" and not mode.startswith("SAME"):
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    channels, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 2))
    return Case(op=op, sizes=sizes, channels=channels, outputs=outputs, kernel=kernel, attributes=attributes)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_rows_times_weight_is_what_onnx_runtime_computes(case: Case) -> None:
    module, (inputs, weight) = case.module(), case.arrays()
    expected = run_model(module, {"x": inputs})["y"]
    rows = unfold(inputs, Window.of(next(iter(module.graph)), case.kernel))
    groups = case.attributes["group"]
    if case.op == "Conv":
        split = weight.reshape(groups, -1, *weight.shape[1:])  # [groups, outputs, channels, *kernel]
    else:
        split = np.swapaxes(weight.reshape(groups, -1, *weight.shape[1:]), 1, 2)
    matrix = np.moveaxis(split, 2, -1).reshape(groups, split.shape[1], -1)
    products = rows @ np.swapaxes(matrix, 1, 2)  # [groups, samples * positions, outputs]
    positions = products.reshape(groups, 2, -1, products.shape[2]).transpose(1, 0, 3, 2)
    np.testing.assert_allclose(positions.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


def test_rows_equal_a_loop_over_patches() -> None:
    inputs = np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype(np.float32)
    window = Window(kernel=(3, 2), strides=(2, 1), dilations=(1, 2), pads=((1, 0), (0, 1)), groups=2)
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 0), (0, 1)))
    rows: list[list[list[float]]] = [[], []]
    for sample, top, left in product(range(2), range(0, padded.shape[2] - 2, 2), range(padded.shape[3] - 2)):
        for group in range(2):
            places = product(
                (0, 1, 2), (0, 2), range(2)
            )  # kernel rows, kernel columns, channels of the group
            rows[group].append([padded[sample, 2 * group + c, top + i, left + j] for i, j, c in places])
    assert np.array_equal(unfold(inputs, window), np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("mode", "size", "stride", "expected"),
    [("SAME_UPPER", 4, 1, (1, 2)), ("SAME_LOWER", 4, 1, (2, 1)), ("SAME_UPPER", 5, 2, (1, 2)), ("VALID", 5, 2, (0, 0))],
)  # fmt: skip
def test_automatic_padding(mode: str, size: int, stride: int, expected: tuple[int, int]) -> None:
    window = Window(kernel=(4,), strides=(stride,), dilations=(1,), pads=((0, 0),), auto_pad=mode)
    assert window.padding([size]) == (expected,)
