"""Why a model is not faster, from profiles that nobody measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prunec.exporters.bench.reasons import Case, explain
from prunec.exporters.bench.results import Explanation, LayerTime, Machine, ModelProfile

MACHINE = Machine(operations=100e9, bandwidth=10e9, node=1e-6)
CONV = LayerTime(
    name="conv",
    op="Conv",
    layout="blocked",
    seconds=1e-3,
    macs=40_000_000,
    bytes=500_000,
    zeros=0.0,
    channels=(64, 64),
)
ADD = LayerTime(name="add", op="Add", layout="", seconds=2e-5, macs=0, bytes=1000, zeros=None, channels=None)


def profile(name: str, *layers: LayerTime, between: float = 0.0) -> ModelProfile:
    run = sum(layer.seconds for layer in layers) + between
    return ModelProfile(model=name, batch=1, layers=layers, run=run)


def explained(
    first: list[LayerTime], other: list[LayerTime], *, between: float = 0.0, promise: float = 2.0
) -> Explanation:
    one, two = profile("a", *first), profile("b", *other, between=between)
    return explain(Case(first=one, other=two, machine=MACHINE, promise=promise))


def test_zeros_that_a_dense_kernel_multiplies() -> None:
    found = explained([CONV, ADD], [replace(CONV, zeros=0.85), ADD], promise=1 / 0.15)
    (reason,) = found.reasons
    assert reason.kind == "zeros"
    assert reason.message == (
        "no sparse kernel ran: `conv` has 85% zeros, which a dense kernel multiplies like other numbers; "
        "1 ms of 1.02 ms, 1 ms in a; that costs 0.85 ms of the 0.867 ms that are missing"
    )
    assert reason.seconds == pytest.approx(0.85e-3)
    assert "prune-channels" in reason.help


def test_zeros_that_the_first_model_has_too_explain_nothing() -> None:
    sparse = replace(CONV, zeros=0.85)
    assert explained([sparse], [sparse]).reasons == ()


def test_odd_channels_that_leave_the_blocked_layout() -> None:
    odd = replace(CONV, macs=20_000_000, seconds=1.2e-3, channels=(45, 45), layout="")
    (reason,) = explained([CONV], [odd]).reasons
    assert reason.kind == "channels"
    assert reason.message == (
        "channel counts that are no multiples of 8: `conv`; `conv` with 45 inputs and 45 outputs does "
        "16.7 GMAC/s, 40.0 GMAC/s in a; 1 of them no longer runs on blocks of channels; "
        "that costs 0.7 ms of the 0.7 ms that are missing"
    )
    assert reason.seconds == pytest.approx(0.7e-3)


def test_channels_that_were_odd_before_are_not_to_blame() -> None:
    was, now = (replace(CONV, channels=(count, 10)) for count in (64, 32))
    (reason,) = explained([was], [replace(now, macs=20_000_000, seconds=0.9e-3)]).reasons
    assert reason.kind == "small products" and reason.message.startswith("smaller products keep")


def test_layers_that_wait_for_memory() -> None:
    matrix = replace(CONV, name="fc", op="Gemm", layout="", macs=1_000_000, bytes=4_000_000, seconds=0.5e-3)
    kinds = {reason.kind: reason for reason in explained([replace(matrix, seconds=0.8e-3)], [matrix]).reasons}
    assert kinds["memory"].message == (
        "memory is the limit: `fc` does 0.5 operations for each byte moved, and this machine could do 10.0; "
        "8 of 10 GB/s, 0.5 ms of 0.5 ms; that costs 100 µs of the 100 µs that are missing"
    )


def test_a_machine_can_do_what_a_layer_did() -> None:
    quick = replace(CONV, name="fc", macs=1_000_000, bytes=4_000_000, seconds=0.1e-3)  # 40 GB/s
    slow = replace(quick, name="slow", seconds=1e-3)  # 4 GB/s: a tenth, and not starved
    kinds = {reason.kind: reason for reason in explained([CONV], [quick, slow]).reasons}
    assert "40 of 40 GB/s" in kinds["memory"].message
    assert kinds["memory"].layers == ("fc",)


def test_ops_that_multiply_nothing() -> None:
    softmax = replace(ADD, name="softmax", op="Softmax", seconds=6e-4)
    transpose = replace(ADD, name="t", op="Transpose", seconds=2e-4)
    small = replace(CONV, seconds=2e-4, macs=8_000_000)
    (reason,) = explained([CONV, softmax, transpose], [small, softmax, transpose]).reasons
    assert reason.kind == "other ops"
    assert reason.message == (
        "80% of the time in kernels (0.8 ms) goes to ops that multiply nothing: Softmax 60%, Transpose 20%; "
        "in a these took 0.8 ms; that costs 0.1 ms of the 0.1 ms that are missing"
    )


@pytest.mark.parametrize(
    ("op", "advice"),
    [
        ("ReorderInput", "round channels to 8 or 16"),
        ("Transpose", "one layout"),
        ("Softmax", "removing channels"),
        ("DequantizeLinear", "floats become integers and back"),
    ],
)
def test_advice_follows_the_ops(op: str, advice: str) -> None:
    slow = replace(ADD, op=op, seconds=1e-3)
    assert advice in explained([CONV, slow], [CONV, slow]).reasons[0].help


def test_kernels_that_are_too_small_to_matter() -> None:
    tiny = [replace(CONV, name=f"c{i}", seconds=2e-6, macs=100, bytes=10) for i in range(10)]
    (reason,) = explained([replace(x, seconds=3e-6) for x in tiny], tiny, between=2e-5).reasons
    assert reason.kind == "overhead"
    assert reason.message == (
        "overhead: 10 of 10 kernels are too small to matter (less than 8 µs, where an op that does nothing takes 1 µs); "
        "with the time between kernels that is 40 µs of 40 µs; that costs 25 µs of the 25 µs that are missing"
    )


def test_time_between_kernels_needs_no_small_ones() -> None:
    (reason,) = explained([CONV], [replace(CONV, seconds=5e-4)], between=5e-4).reasons
    assert reason.message == (
        "overhead: the time between kernels is 0.5 ms of 1 ms; that costs 0.5 ms of the 0.5 ms that are missing"
    )


def test_reasons_are_told_by_weight_and_small_ones_not_at_all() -> None:
    softmax = replace(ADD, name="softmax", op="Softmax", seconds=3e-3)
    found = explained([CONV, softmax], [replace(CONV, zeros=0.9), softmax])
    assert [reason.kind for reason in found.reasons] == ["other ops", "zeros"]
    assert explained([CONV, ADD], [CONV, ADD]).reasons == ()


def test_a_model_that_nothing_explains_says_so() -> None:
    assert (
        explained([CONV], [CONV]).title
        == "why b is not 2.00x faster at batch 1: nothing in its profile says so"
    )


def test_no_reason_costs_more_than_is_missing() -> None:
    slow = replace(CONV, macs=4_000_000, seconds=0.6e-3, channels=(8, 8))
    (reason,) = explained([CONV], [slow], promise=2.5).reasons
    assert reason.kind == "small products" and reason.seconds == pytest.approx(0.2e-3)
    assert reason.message.endswith("; that costs 0.2 ms of the 0.2 ms that are missing")


def test_what_the_first_model_spends_as_well_is_no_reason() -> None:
    softmax = replace(ADD, name="softmax", op="Softmax", seconds=6e-4)
    slow = replace(CONV, seconds=2e-3, zeros=0.9)
    assert [r.kind for r in explained([CONV, softmax], [slow, softmax], promise=1.0).reasons] == ["zeros"]
    assert [r.kind for r in explained([CONV, softmax], [slow, softmax]).reasons] == ["zeros", "other ops"]
