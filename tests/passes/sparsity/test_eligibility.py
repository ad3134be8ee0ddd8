"""Which layers sparse tensor cores can run, and the reasons for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph
from sparse_graphs import CASES

import prunec
from prunec.ir.module import Module
from prunec.passes.analyses import Analyses
from prunec.passes.sparsity.eligibility import Eligibility

Q8 = {"s": np.float32(0.1), "z": np.int8(0)}


def rows_of(module: Module) -> tuple[Eligibility, ...]:
    return Analyses(module).eligibility()


def only_row(text: str, **arrays: Any) -> Eligibility:
    (row,) = rows_of(graph(text, opset=21, **arrays))
    return row


def gemm(inputs: int, outputs: int) -> str:
    return f"net (float[N,{inputs}] x) => (float[N,{outputs}] y) <float[{inputs},{outputs}] w> {{ y = MatMul(x, w) }}"


@pytest.mark.parametrize(
    ("text", "reasons", "small"),
    [
        (gemm(256, 256), (), None),
        (gemm(256, 248), (), "too small to profit: 248 outputs, below 256"),
        (gemm(64, 128), (), "too small to profit: 64 summed inputs and 128 outputs, below 256"),
        (gemm(258, 256), ("258 input channels are no multiple of 4",), None),
        (gemm(264, 256), ("264 input channels are no multiple of 16",), None),
        (
            gemm(264, 258),
            ("264 input channels are no multiple of 16", "258 output channels are no multiple of 8"),
            None,
        ),
        (
            "net (float[N,32,5,5] x) => (float[N,256,3,3] y) <float[256,32,3,3] w> { y = Conv(x, w) }",
            (),
            None,
        ),
        (
            "net (float[N,32,5,5] x) => (float[N,32,3,3] y) <float[32,16,3,3] w> { y = Conv<group = 2>(x, w) }",
            ("2 groups: each group has weights of its own",),
            None,
        ),
        (
            "net (double[N,16] x) => (double[N,8] y) <double[16,8] w> { y = MatMul(x, w) }",
            ("f64 weights: sparse kernels take f16, bf16 and i8",),
            None,
        ),
        (
            "net (float[N,16,5] x) => (float[N,8,7] y) <float[16,8,3] w> { y = ConvTranspose(x, w) }",
            ("no sparse kernel for `ConvTranspose`",),
            None,
        ),
        (
            "net (float[N,16] x) => (float[N,8] y) <float[8,16] w> "
            "{ y = com.microsoft.FusedMatMul<transB = 1>(x, w) }",
            ("no sparse kernel for `com.microsoft::FusedMatMul`",),
            None,
        ),
        (
            "net (float[N,16] x, float[16,8] w) => (float[N,8] y) { y = MatMul(x, w) }",
            ("its weight is computed at run time",),
            None,
        ),
        (
            "net (float[N,16] x) => (float[N,16] y) <float[16,16] w> { v = Relu(w) y = MatMul(x, v) }",
            ("it is computed by `Relu`, not stored",),
            None,
        ),
    ],
)
def test_floats(text: str, reasons: tuple[str, ...], small: str | None) -> None:
    row = only_row(text)
    assert (row.reasons, row.small) == (reasons, small)
    assert row.eligible == (not reasons)
    assert row.profitable == (not reasons and small is None)
    assert row.why_not == ("; ".join(reasons) or small)


def test_depthwise_is_called_so() -> None:
    (row,) = rows_of(CASES["conv-depthwise"].module)
    assert row.reasons == ("depthwise: each group has weights of its own",)


def test_one_channel_is_no_multiple() -> None:
    (row,) = rows_of(CASES["conv-one-channel"].module)
    assert row.reasons == ("1 input channel is no multiple of 4",)


INPUT = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear(w, s, z)"
OUTPUT = "b = Relu(a) p = QuantizeLinear(b, s, z) y = DequantizeLinear(p, s, z)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{INPUT} a = MatMul(d, v) {OUTPUT}", None),
        (
            f"v = DequantizeLinear(w, s, z) a = MatMul(x, v) {OUTPUT}",
            "INT8 weights with data that are not quantised",
        ),
        (f"{INPUT} y = MatMul(d, v)", "INT8 weights with an output that is not quantised"),
        (
            f"{INPUT} a = MatMul(d, v) y = Softmax(a)",
            "INT8 weights with an output that is not quantised",
        ),
        (
            f"{INPUT.replace('(w, s, z)', '(w, s, odd)')} a = MatMul(d, v) {OUTPUT}",
            "its zero point is not 0",
        ),
    ],
)
def test_int8_goes_in_and_comes_out(body: str, reason: str | None) -> None:
    weight = np.random.default_rng(0).integers(-9, 9, (256, 256)).astype(np.int8)
    text = f"net (float[N,256] x) => (float[N,256] y) {{ {body} }}"
    row = only_row(text, w=weight, odd=np.int8(3), **Q8)
    assert row.reasons == (() if reason is None else (reason,))
    assert row.profitable == (reason is None)


CHAIN = (
    "net (float[N,256] x) => (float[N,256] y) <float[256,528] first, float[528,256] second> "
    "{ a = MatMul(x, first) b = Relu(a) y = MatMul(b, second) }"
)


def test_a_cut_that_costs_eligibility_is_remarked() -> None:
    result = prunec.run(graph(CHAIN), "prune-channels{ratio=50% round-to=8}", verify=False)
    (remark,) = [r for r in result.remarks if r.kind == "analysis"]
    assert remark.message == (
        "1 of the layers that would gain from 2:4 sparsity cannot run on sparse tensor cores any more: "
        "`y` (264 input channels are no multiple of 16) (`round-to=16` keeps them)"
    )


def test_round_to_16_keeps_layers_eligible() -> None:
    result = prunec.run(graph(CHAIN), "prune-channels{ratio=50% round-to=16}", verify=False)
    assert not [r for r in result.remarks if r.kind == "analysis"]
    assert all(row.eligible for row in rows_of(result.module))
    assert rows_of(result.module)[1].layer.shape[3] % 16 == 0  # type: ignore[union-attr]
