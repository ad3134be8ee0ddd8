"""Recurrent layers in all their forms."""

from __future__ import annotations

import numpy as np

from conformance.network import Draw, Network, case

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _layer(
    d: Draw, op: str, *, attributes: str = "", activation: str = "", state: bool | None = None
) -> Network:
    """A layer over a projected sequence; the states that it begins with are constants other than zero."""
    gates = GATES[op]
    s, b, i, h = d.size(3, 5), d.size(2, 3), d.even(4, 6), d.even(4, 8)
    direction = d.one("forward", "reverse", "bidirectional")
    n = 2 if direction == "bidirectional" else 1
    bias, begin = d.one(True, False), d.one(True, False) if state is None else state
    cell = begin and op == "LSTM"
    acts = f", activations=[{', '.join([activation] * n)}]" if activation else ""
    peep = cell and d.one(True, False)
    operands = (
        f"{'b' if bias else ''}, {', h' if begin else ''}{', c' if cell else ''}{', p' if peep else ''}"
    )
    weights = (
        f"float[3,{i}] w0, float[{n},{gates * h},{i}] w, float[{n},{gates * h},{h}] r, float[{n * h},5] w2"
    )
    weights += f", float[{n},{2 * gates * h}] b" if bias else ""
    weights += "".join(f", float[{n},{b},{h}] {name}" for name, there in (("h", begin), ("c", cell)) if there)
    weights += f", float[{n},{3 * h}] p" if peep else ""
    return Network(
        text=f"""(float[{s},{b},3] x) => (float[{s},{b},5] y) {{
            a = MatMul(x, w0)
            o = {op}<hidden_size={h}, direction="{direction}"{attributes}{acts}>(a, w, r, {operands})
            t = Transpose<perm=[0,2,1,3]>(o) f = Reshape(t, join) y = MatMul(f, w2) }}""",
        weights=weights,
        arrays={"join": np.array([0, 0, -1])},
        opset=14,
        cut="w0 w r w2" + " b" * bias + " h" * begin + " c" * cell + " p" * peep,
        attributes={"o": {"hidden_size": h // 2}},
    )


@case
def lstm(d: Draw) -> Network:
    return _layer(d, "LSTM")


@case
def lstm_from_a_state(d: Draw) -> Network:
    return _layer(d, "LSTM", state=True)


@case
def gru(d: Draw) -> Network:
    return _layer(d, "GRU", attributes=f", linear_before_reset={d.one(0, 1)}")


@case
def gru_that_resets_late(d: Draw) -> Network:
    return _layer(d, "GRU", attributes=", linear_before_reset=1", state=True)


@case
def rnn(d: Draw) -> Network:
    return _layer(d, "RNN")


@case
def rnn_whose_activation_makes_something_of_nothing(d: Draw) -> Network:
    """The state of a unit without weights is 0.5, and yet nothing of it may reach the others."""
    return _layer(d, "RNN", activation='"Sigmoid"', attributes=", clip=1.5", state=True)


@case
def lstm_whose_activations_make_something_of_nothing(d: Draw) -> Network:
    return _layer(d, "LSTM", activation='"HardSigmoid", "Sigmoid", "Sigmoid"')


@case
def lstm_on_integers(d: Draw) -> Network:
    """Transposed integer weights with a scale for all of a direction, or for every column."""
    s, b, i, h = d.size(3, 5), d.size(2, 3), d.even(4, 6), d.even(4, 8)
    n = d.one(1, 2)
    vector = f"{n},{4 * h}" if d.one(True, False) else f"{n}"
    columns = "," in vector
    return Network(
        text=f"""(float[{s},{b},3] x) => (float[{s},{b},5] y) {{
            a = MatMul(x, w0)
            o = com.microsoft.DynamicQuantizeLSTM<
                hidden_size={h}, direction="{("forward", "bidirectional")[n - 1]}">(a, w, r, b, , , , , scalew, zerow, scaler, zeror)
            t = Transpose<perm=[0,2,1,3]>(o) f = Reshape(t, join) y = MatMul(f, w2) }}""",
        weights=f"float[3,{i}] w0, int8[{n},{i},{4 * h}] w, int8[{n},{h},{4 * h}] r, float[{n},{8 * h}] b, "
        f"float[{n * h},5] w2, float[{vector}] scalew, int8[{vector}] zerow={{0}}, float[{vector}] scaler, int8[{vector}] zeror={{0}}",
        arrays={"join": np.array([0, 0, -1])},
        opset=14,
        cut="w0 w r b w2" + " scalew scaler zerow zeror" * columns,
        attributes={"o": {"hidden_size": h // 2}},
    )


@case
def last_states(d: Draw) -> Network:
    """The states that a layer ends with, of both directions."""
    s, b, i, h = d.size(3, 5), d.size(2, 3), d.even(4, 6), d.even(4, 8)
    return Network(
        text=f"""(float[{s},{b},3] x) => (float[{b},5] y) {{
            a = MatMul(x, w0) o, p, q = LSTM<hidden_size={h}, direction="bidirectional">(a, w, r, b)
            t = Add(p, q) u = Transpose<perm=[1,0,2]>(t) v = Reshape(u, join) y = MatMul(v, w2) }}""",
        weights=f"float[3,{i}] w0, float[2,{4 * h},{i}] w, float[2,{4 * h},{h}] r, float[2,{8 * h}] b, "
        f"float[{2 * h},5] w2",
        arrays={"join": np.array([0, -1])},
        opset=14,
        cut="w0 w r b w2",
        attributes={"p": {"hidden_size": h // 2}},
    )
