"""Attention as single ops."""

from __future__ import annotations

from functools import partial

import numpy as np

from conformance.network import Draw, Network, add, case


def _one(d: Draw, *, operands: str = "", more: str = "", unequal: bool = False) -> Network:
    """com.microsoft.Attention between two linear layers; ``operands`` stand behind weight and bias."""
    h, size, s, k = d.even(2, 6), d.size(2, 4), d.size(3, 5), d.even(4, 8)
    e = size + 1 if unequal else size
    sizes = f", qkv_hidden_sizes=[{h * size},{h * size},{h * e}]" if unequal else ""
    bias = d.one("b", "")
    attributes: dict[str, object] = {"num_heads": h // 2}
    if unequal:
        attributes["qkv_hidden_sizes"] = [h // 2 * size, h // 2 * size, h // 2 * e]
    return Network(
        text=f"""(float[2,{s},3] x) => (float[2,{s},5] y) {{
            a = MatMul(x, w0)
            c = com.microsoft.Attention<num_heads={h}{sizes}>(a, w1, {bias or "b"}{operands})
            y = MatMul(c, w2) }}""",
        weights=f"float[3,{k}] w0, float[{k},{h * (2 * size + e)}] w1, float[{h * (2 * size + e)}] b, "
        f"float[{h * e},5] w2{more.format(h=h, s=s)}",
        arrays={"length": np.array([s, s - 1], np.int32)} if "length" in operands else {},
        cut="w0 w1 b w2" + (" m" if " m" in operands else ""),
        attributes={"c": attributes},
    )


@case
def attention(d: Draw) -> Network:
    return _one(d)


@case
def attention_of_other_value_size(d: Draw) -> Network:
    return _one(d, unequal=True)


@case
def attention_with_lengths(d: Draw) -> Network:
    return _one(d, operands=", length")


@case
def attention_with_a_bias_per_head(d: Draw) -> Network:
    return _one(d, operands=", , , m", more=", float[1,{h},{s},{s}] m")


@case
def attention_with_past(d: Draw) -> Network:
    """The past is a graph input, so that no head can go."""
    h, size, s, k = d.even(2, 4), d.size(2, 4), d.size(3, 5), d.even(4, 8)
    return Network(
        text=f"""(float[2,{s},3] x, float[2,2,{h},4,{size}] past)
        => (float[2,{s},5] y, float[2,2,{h},{s + 4},{size}] present) {{
            a = MatMul(x, w0)
            c, present = com.microsoft.Attention<num_heads={h}, unidirectional=1>(a, w1, b, , past)
            y = MatMul(c, w2) }}""",
        weights=f"float[3,{k}] w0, float[{k},{h * 3 * size}] w1, float[{h * 3 * size}] b, "
        f"float[{h * size},5] w2",
        cut="w0 w1",
        stay="b w2",
        reason="`present`",
    )


def _multi(
    d: Draw, *, bias: bool = False, operands: str = "", more: str = "", split: bool = False
) -> Network:
    """com.microsoft.MultiHeadAttention over three projections."""
    h, size, e, s, t = d.even(2, 6), d.size(2, 4), d.size(2, 4), d.size(3, 5), d.size(3, 5)
    if bias or split:
        e = size
    if bias and split:
        bias = False
    names = ("k", "v")
    nodes = "".join(
        f"{n}r = Reshape({n}, parts) {n}t = Transpose<perm=[0,2,1,3]>({n}r) " for n in names if split
    )
    key, value = (f"{n}t" if split else n for n in names)
    vector = f", float[{h * (2 * size + e)}] b" if bias else ""
    return Network(
        text=f"""(float[2,{s},3] x, float[2,{t},4] z) => (float[2,{s},5] y) {{
            q = MatMul(x, wq) k = MatMul(z, wk) v = MatMul(z, wv) {nodes}
            c = com.microsoft.MultiHeadAttention<num_heads={h}>(q, {key}, {value}{", b" if bias else ", "}{operands})
            y = MatMul(c, w2) }}""",
        weights=f"float[3,{h * size}] wq, float[4,{h * size}] wk, float[4,{h * e}] wv, float[{h * e},5] w2"
        f"{vector}{more.format(h=h, s=s, t=t)}",
        arrays={"parts": np.array([0, 0, h, size])} if split else {},
        cut="wq wk wv w2" + (" b" if bias else "") + (" m" if "m" in operands else ""),
        attributes={"c": {"num_heads": h // 2}},
    )


@case
def multi_head_attention(d: Draw) -> Network:
    return _multi(d)


@case
def multi_head_attention_with_bias(d: Draw) -> Network:
    return _multi(d, bias=True)


@case
def multi_head_attention_on_split_keys(d: Draw) -> Network:
    return _multi(d, split=True)


@case
def multi_head_attention_with_a_bias_per_head(d: Draw) -> Network:
    return _multi(d, operands=", , m", more=", float[1,{h},{s},{t}] m")


def _grouped(d: Draw, *, packed: bool = False, past: bool = False, sink: bool = False) -> Network:
    """com.microsoft.GroupQueryAttention on separate or packed query, key and value."""
    h, g, size, s, n = d.even(2, 4), d.size(1, 3), d.one(16, 32), d.size(3, 5), 1 if past else 2
    q, kv = h * g * size, h * size
    rotary = d.one(0, 1)
    nodes = "q = MatMul(x, wq)" + ("" if packed else " k = MatMul(x, wk) v = MatMul(x, wv)")
    weights = f"float[3,{q + 2 * kv if packed else q}] wq, float[{q},5] w2"
    weights += "" if packed else f", float[3,{kv}] wk, float[3,{kv}] wv"
    weights += f", float[9,{size // 2}] cos, float[9,{size // 2}] sin" + (
        f", float[{h * g}] m" if sink else ""
    )
    given = f", float[1,{h},2,{size}] pk, float[1,{h},2,{size}] pv" if past else ""
    t = s + 2 if past else s
    names = "wq w2" if packed else "wq wk wv w2"
    operands = ", , " if packed else ", k, v"
    operands += ", pk, pv" if past else ", , "
    operands += ", length, total" + (", cos, sin" if rotary else ", , ") + (", , , m" if sink else "")
    return Network(
        text=f"""(float[{n},{s},3] x{given}) => (float[{n},{s},5] y) {{ {nodes}
            c, pk2, pv2 = com.microsoft.GroupQueryAttention<
                num_heads={h * g}, kv_num_heads={h}, do_rotary={rotary}>(q{operands})
            y = MatMul(c, w2) }}""",
        weights=weights,
        arrays={"length": np.array([t - 1] * n, np.int32), "total": np.array(t, np.int32)},
        cut="" if past else names + (" m" if sink else ""),
        stay=names if past else "",
        reason="graph input `pk`" if past else "",
        attributes={"c": {"num_heads": h * g // (1 if past else 2), "kv_num_heads": h // (1 if past else 2)}},
    )


@case
def grouped_query_attention(d: Draw) -> Network:
    return _grouped(d)


@case
def grouped_query_attention_with_sinks(d: Draw) -> Network:
    return _grouped(d, sink=True)


@case
def grouped_query_attention_packed(d: Draw) -> Network:
    return _grouped(d, packed=True)


@case
def grouped_query_attention_with_past(d: Draw) -> Network:
    return _grouped(d, past=True, packed=d.one(False, True))


@case
def linear_attention(d: Draw) -> Network:
    h, g, size, e, s = d.even(2, 4), d.size(1, 2), d.size(2, 4), d.size(2, 4), d.size(3, 5)
    return Network(
        text=f"""(float[2,{s},3] x) => (float[2,{s},5] y) {{
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
            t0 = MatMul(x, wt) t1 = Softplus(t0) t = Neg(t1)
            c, state = com.microsoft.LinearAttention<
                q_num_heads={h * g}, kv_num_heads={h}, update_rule="gated">(q, k, v, , t)
            y = MatMul(c, w2) }}""",
        weights=f"float[3,{h * g * size}] wq, float[3,{h * size}] wk, float[3,{h * e}] wv, float[3,{h}] wt, "
        f"float[{h * g * e},5] w2",
        cut="wq wk wv wt w2",
        attributes={"c": {"q_num_heads": h * g // 2, "kv_num_heads": h // 2}},
    )


@case
def attention_of_the_standard(d: Draw) -> Network:
    h, g, size, e, s, t = d.even(2, 4), d.size(1, 3), d.size(2, 4), d.size(2, 4), d.size(3, 5), d.size(3, 5)
    mask = d.one("", f", float[{s},{t}] m", f", float[{h * g},{s},{t}] m", f", float[1,{h * g},{s},{t}] m")
    return Network(
        text=f"""(float[2,{s},3] x, float[2,{t},4] z) => (float[2,{s},5] y) {{
            q = MatMul(x, wq) k = MatMul(z, wk) v = MatMul(z, wv)
            c = Attention<q_num_heads={h * g}, kv_num_heads={h}>(q, k, v{", m" if mask else ""})
            y = MatMul(c, w2) }}""",
        weights=f"float[3,{h * g * size}] wq, float[4,{h * size}] wk, float[4,{h * e}] wv, "
        f"float[{h * g * e},5] w2{mask}",
        opset=d.one(23, 24),
        cut="wq wk wv w2" + (" m" if mask.count(",") > 2 else ""),
        attributes={"c": {"q_num_heads": h * g // 2, "kv_num_heads": h // 2}},
    )


@case
def attention_of_the_standard_on_split_heads(d: Draw) -> Network:
    h, g, size, s = d.even(2, 4), d.size(1, 3), d.size(2, 4), d.size(3, 5)
    split = "".join(f"{n}r = Reshape({n}, parts{n}) {n}t = Transpose<perm=[0,2,1,3]>({n}r) " for n in "qkv")
    causal = d.one(0, 1)
    return Network(
        text=f"""(float[2,{s},3] x) => (float[2,{s},5] y) {{
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) {split}
            c = Attention<is_causal={causal}>(qt, kt, vt)
            o = Transpose<perm=[0,2,1,3]>(c) p = Reshape(o, join) y = MatMul(p, w2) }}""",
        weights=f"float[3,{h * g * size}] wq, float[3,{h * size}] wk, float[3,{h * size}] wv, "
        f"float[{h * g * size},5] w2",
        arrays={
            "partsq": np.array([0, 0, h * g, size]),
            "partsk": np.array([0, 0, h, size]),
            "partsv": np.array([0, 0, h, size]),
            "join": np.array([0, 0, -1]),
        },
        opset=d.one(23, 24),
        cut="wq wk wv w2",
    )


ROTATIONS = {
    "standard": "r = RotaryEmbedding<num_heads={h}>(q, cos, sin, i)",
    "contrib": "r = com.microsoft.RotaryEmbedding<num_heads={h}>(q, i, cos, sin)",
    "contrib without heads": "r = com.microsoft.RotaryEmbedding(q, i, cos, sin)",
    "split heads": "t = Reshape(q, parts) u = Transpose<perm=[0,2,1,3]>(t) v = RotaryEmbedding(u, cos, sin, i)"
    " w = Transpose<perm=[0,2,1,3]>(v) r = Reshape(w, join)",
}
"""RotaryEmbedding of both domains, on merged and on split heads."""


def _rotary(d: Draw, rotation: str) -> Network:
    h, size, s = d.even(2, 4), d.one(4, 8), d.size(3, 5)
    after = {"num_heads": h // 2}
    return Network(
        text=f"""(float[2,{s},3] x) => (float[2,{s},5] y) {{
            q = MatMul(x, wq) {rotation.format(h=h)}
            c = com.microsoft.MultiHeadAttention<num_heads={h}>(r, r, r) y = MatMul(c, w2) }}""",
        weights=f"float[3,{h * size}] wq, float[9,{size // 2}] cos, float[9,{size // 2}] sin, "
        f"float[{h * size},5] w2",
        arrays={
            "i": np.arange(s)[None].repeat(2, 0),
            "parts": np.array([0, 0, h, size]),
            "join": np.array([0, 0, -1]),
        },
        opset=23,
        cut="wq w2",
        attributes={"c": after} | ({"r": after} if "num_heads" in rotation else {}),
    )


for _name, _rotation in ROTATIONS.items():
    add(f"rotary embedding, {_name}", partial(_rotary, rotation=_rotation))
