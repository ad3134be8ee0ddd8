"""Recurrent layers over tokens, signals and the rows of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from generators.builder import ABSENT, BATCH, Builder, Value
from generators.forms import reshape, squeeze, transpose
from generators.registry import block
from generators.sources import convert, linear

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@block("recurrent")
def recurrent(b: Builder) -> None:
    """One layer or two, in one or both directions; all states, or the last one alone."""
    y = layer(b, b.pick("tokens"))
    y = layer(b, y) if b.chance(0.3) else y
    b.keep(linear(b, y, b.width()) if b.chance(0.3) else y)


@block("recurrent-rows")
def recurrent_rows(b: Builder) -> None:
    """The positions of a convolution as a sequence, and back (as in text recognition)."""
    x = b.pick("image", "signal")
    tokens = convert(b, x, "tokens")
    y = layer(b, tokens, last=0)
    back = transpose(b, y, (0, 2, 1), "signal")
    b.keep(back if x.kind == "signal" else reshape(b, back, (BATCH, y.channels, *x.shape[2:]), "image"))


def layer(b: Builder, x: Value, *, last: float = 0.3) -> Value:
    """[N, T, C] to [N, T, directions * hidden], or with probability ``last`` the last state: [N, 1, hidden]."""
    op_type = b.choose(list(GATES))
    gates, h, t = GATES[op_type], b.size(2, 5), x.shape[1]
    direction = b.choose(["forward", "reverse", "bidirectional"])
    d = 2 if direction == "bidirectional" else 1
    weights = [b.weight(d, gates * h, k, fan_in=k, out_axis=1) for k in (x.channels, h)]
    states = ["h", "c"] if op_type == "LSTM" else ["h"]
    begin = [] if b.dynamic or b.chance(0.6) else [b.const(b.normal(d, BATCH, h, std=0.5)) for _ in states]
    bias = b.const(b.normal(d, 2 * gates * h, std=0.3)) if b.chance(0.6) else ABSENT
    more: dict[str, Any] = {"linear_before_reset": b.size(0, 1)} if op_type == "GRU" else {}
    outputs = b.split_op(
        op_type,
        transpose(b, x, (1, 0, 2)),
        *weights,
        *([bias, ABSENT, *begin] if begin else [bias] if bias.name else []),
        count=2,
        hidden_size=h,
        direction=direction,
        **more,
    )
    if d == 1 and b.chance(last):
        return transpose(b, outputs[1], (1, 0, 2), "tokens")
    y = outputs[0]
    if d == 1 and b.chance(0.5):
        return transpose(b, squeeze(b, y, [1]), (1, 0, 2), "tokens")
    return reshape(b, transpose(b, y, (2, 0, 1, 3)), (BATCH, t, d * h), "tokens")


@block("state-gate")
def state_gate(b: Builder) -> None:
    """A recurrent layer that runs in constant time: weights that are computed from others at run time."""
    x = b.pick("tokens")
    h = b.size(2, 4)
    mixed = [b.const(b.normal(1, h, k, std=k**-0.5) * np.float32(0.5)) for k in (x.channels, h)]
    doubled = [b.op("Add", w, w) for w in mixed]
    y = b.split_op("RNN", transpose(b, x, (1, 0, 2)), *doubled, count=2, hidden_size=h)[0]
    b.keep(transpose(b, squeeze(b, y, [1]), (1, 0, 2), "tokens"))
