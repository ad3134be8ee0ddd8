"""Attention as exporters write it, out of single ops: what each form loses, by heads and within heads.

Factors of the small networks: hidden size 24, four heads of 6, two key/value heads where queries are grouped.
"""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import Array, graph, prune, reasons, weights

SHAPES: dict[str, Array] = {
    "heads": np.array([0, 0, 4, 6]), "pairs": np.array([0, 0, 2, 6]), "joined": np.array([0, 0, -1]),
    "five": np.array([0, 8, 3, 4, 6]), "wide": np.array([0, 8, 4, 18]), "thirds": np.array([24, 24, 24]),
    "sixes": np.array([6, 6, 6]), "i0": np.array(0), "i1": np.array(1), "i2": np.array(2), "two": np.array([2]),
    "repeat": np.array([1, 1, 2, 1, 1]), "flat": np.array([0, 4, 8, 6]), "flatkv": np.array([0, 2, 8, 6]),
    "n0": np.array([0]), "n1": np.array([1]), "n3": np.array([3]), "n6": np.array([6]), "last": np.array([-1]),
    "idx": np.arange(64).reshape(8, 8) % 16,
}  # fmt: skip
"""Constants that a network takes as far as it names them."""

PROJECTED = "float[24,24] wq, float[24,24] wk, float[24,24] wv, float[24,24] wo"
GROUPED = "float[24,24] wq, float[24,12] wk, float[24,12] wv, float[24,24] wo"
FUSED = "float[24,72] wqkv, float[72] bqkv, float[24,24] wo"
SPLIT_HEADS = """q0 = MatMul(x, wq) k0 = MatMul(m, wk) v0 = MatMul(m, wv)
    q1 = Reshape(q0, heads) k1 = Reshape(k0, KV) v1 = Reshape(v0, KV)
    q = Transpose<perm=[0,2,1,3]>(q1) kt = Transpose<perm=[0,2,1,3]>(k1) v = Transpose<perm=[0,2,1,3]>(v1)"""
ATTEND = """k = Transpose<perm=[0,1,3,2]>(kt) scores = MatMul(q, k) BIAS p = Softmax(biased) c0 = MatMul(p, v)
    c1 = Transpose<perm=[0,2,1,3]>(c0) c = Reshape(c1, joined) o = MatMul(c, wo)"""
PLAIN = SPLIT_HEADS.replace("KV", "heads") + ATTEND
REPEAT = "".join(
    f"{t}u = Unsqueeze({t}, two) {t}e = Expand({t}u, repeat) {t}f = Reshape({t}e, flat) " for t in ("kr", "v")
)
GROUPS = (
    SPLIT_HEADS.replace("KV", "pairs")
    + "ROTARY"
    + REPEAT
    + ATTEND.replace("(kt)", "(krf)")
    .replace("MatMul(q, k)", "MatMul(qr, k)")
    .replace("MatMul(p, v)", "MatMul(p, vf)")
)
HALVES = "".join(
    f"{t}a = Slice({t}, n0, n3, n3) {t}b = Slice({t}, n3, n6, n3) {t}n = Neg({t}b) "
    f"{t}h = Concat<axis=-1>({t}n, {t}a) {t}c = Mul({t}, cos) {t}s = Mul({t}h, sin) {t[0]}r = Add({t}c, {t}s) "
    for t in ("q", "kt")
)
TURNS = "".join(
    f"{t}a = Slice({t}, n0, n6, n3, two) {t}b = Slice({t}, n1, n6, n3, two) {t}n = Neg({t}b) "
    f"{t}x = Unsqueeze({t}n, last) {t}y = Unsqueeze({t}a, last) {t}z = Concat<axis=-1>({t}x, {t}y) "
    f"{t}h = Reshape({t}z, {shape}) {t}c = Mul({t}, cos) {t}s = Mul({t}h, sin) {t[0]}r = Add({t}c, {t}s) "
    for t, shape in (("q", "flat"), ("kt", "flatkv"))
)
FUSED_TEXT = "fused = MatMul(x, wqkv) a = Add(fused, bqkv) "
TABLE = "looked = Gather(table, idx) turned = Transpose<perm=[2,0,1]>(looked) bias = Unsqueeze(turned, n0) "
ANGLES = "float[1,1,8,6] cos, float[1,1,8,6] sin"

FORMS: dict[str, tuple[str, str, str]] = {
    "separate": (PROJECTED, PLAIN, "wq wk wv wo"),
    "slopes times distances (ALiBi)": (
        f"{PROJECTED}, float[1,4,1,1] slopes, float[1,1,8,8] far",
        PLAIN.replace("BIAS", "al = Mul(slopes, far) biased = Add(scores, al)"), "wq wo slopes"),
    "a table of relative positions (T5)": (
        f"{PROJECTED}, float[16,4] table",
        PLAIN.replace("BIAS", f"{TABLE} biased = Add(scores, bias)"), "wq wo table"),
    "fused, split": (
        FUSED, FUSED_TEXT + "q0, k0, v0 = Split<axis=-1>(a, thirds)" + PLAIN[PLAIN.index("\n"):], "wqkv bqkv wo"),
    "fused, thirds outermost": (
        FUSED, FUSED_TEXT + "f = Reshape(a, five) t = Transpose<perm=[2,0,3,1,4]>(f) q = Gather(t, i0) "
        "kt = Gather(t, i1) v = Gather(t, i2) " + ATTEND, "wqkv bqkv wo"),
    "fused, heads outermost": (
        FUSED, FUSED_TEXT + "f = Reshape(a, wide) t = Transpose<perm=[0,2,1,3]>(f) "
        "q, kt, v = Split<axis=-1>(t, sixes) " + ATTEND, "wqkv bqkv wo"),
    "grouped queries": (GROUPED, GROUPS.replace("ROTARY", " qr = Identity(q) kr = Identity(kt) "), "wq wk wv wo"),
    "rotary halves": (f"{GROUPED}, {ANGLES}", GROUPS.replace("ROTARY", f" {HALVES}"), "wq wk wv wo"),
    "rotary pairs": (f"{GROUPED}, {ANGLES}", GROUPS.replace("ROTARY", f" {TURNS}"), "wq wk wv wo"),
}  # fmt: skip
"""By name: more weights, the nodes from ``x`` (and ``m``) to ``o``, and what must lose slots by heads."""


def network(weights: str, nodes: str) -> str:
    """Text of a network of which ``x`` is the residual stream."""
    attention = nodes.replace("BIAS", "biased = Identity(scores)").replace("MatMul(m,", "MatMul(x,")
    return f"""net (float[N,8,5] inputs) => (float[N,8,7] y) <float[5,24] wi, {weights}, float[24,7] wy>
        {{ x = MatMul(inputs, wi) {attention} r = Add(x, o) y = MatMul(r, wy) }}"""


@pytest.mark.parametrize("unit", ["head", "head-dim"])
@pytest.mark.parametrize("form", FORMS)
def test_half_of_the_heads_or_of_every_head_goes(form: str, unit: str) -> None:
    more, nodes, cut = FORMS[form]
    text = network(more, nodes)
    module = graph(text, **{name: array for name, array in SHAPES.items() if name in text})
    before, after = weights(module), weights(prune(module, unit=unit).module)
    rotary = form.startswith("rotary") and unit == "head-dim"
    for name in cut.split():
        if rotary and name in ("wq", "wk"):  # of three pairs of positions one goes, with its angles
            assert after[name].shape == (12, before[name].shape[1] * 2 // 3)
        elif unit == "head" or name not in ("slopes", "table"):
            assert after[name].size < before[name].size, name
    if rotary:
        assert after["cos"].shape == (1, 1, 8, 4)


def test_the_hidden_size_goes_through_embeddings_positions_and_norms() -> None:
    norms = "".join(f", float[24] g{i}, float[24] h{i}" for i in range(2))
    text = f"""net (int64[N,8] ids) => (float[N,8,7] y) <float[10,24] emb, float[8,24] pos, {PROJECTED}{norms}, float[24,7] wy>
        {{ e = Gather(emb, ids) stream = Add(e, pos) x = LayerNormalization(stream, g0, h0)
        {PLAIN.replace("BIAS", "biased = Identity(scores)").replace("MatMul(m,", "MatMul(x,")}
        r = Add(stream, o) t = LayerNormalization(r, g1, h1) y = MatMul(t, wy) }}"""
    module = graph(text, **{name: array for name, array in SHAPES.items() if name in text})
    after = weights(prune(module).module)
    shapes = {name: after[name].shape for name in ("emb", "pos", "wq", "wo", "g0", "h1", "wy")}
    assert shapes == {
        "emb": (10, 12),
        "pos": (8, 12),
        "wq": (12, 12),
        "wo": (12, 12),
        "g0": (12,),
        "h1": (12,),
        "wy": (12, 7),
    }


def test_cross_attention_reads_a_memory_of_its_own_size() -> None:
    text = f"""net (float[N,8,5] inputs, float[N,7,9] memory) => (float[N,8,7] y)
        <float[5,24] wi, float[9,20] wm, float[24,24] wq, float[20,24] wk, float[20,24] wv, float[24,24] wo, float[24,7] wy>
        {{ x = MatMul(inputs, wi) m = MatMul(memory, wm) {PLAIN.replace("BIAS", "biased = Identity(scores)")}
        r = Add(x, o) y = MatMul(r, wy) }}"""
    module = graph(text, **{name: array for name, array in SHAPES.items() if name in text})
    after = weights(prune(module).module)
    assert (after["wm"].shape, after["wk"].shape, after["wo"].shape) == ((9, 10), (10, 12), (12, 12))


@pytest.mark.parametrize(("allow", "heads"), [("false", 4), ("true", 2)])
def test_a_cache_of_keys_and_values_keeps_its_heads_unless_it_may_shrink(allow: str, heads: int) -> None:
    cached = PLAIN.replace("BIAS", "biased = Identity(scores)").replace("MatMul(m,", "MatMul(x,")
    cached = cached.replace("(kt)", "(keys)").replace("MatMul(p, v)", "MatMul(p, values)").replace(
        "k = Transpose", "keys = Concat<axis=2>(pk, kt) values = Concat<axis=2>(pv, v) k = Transpose")  # fmt: skip
    text = f"""net (float[N,1,5] inputs, float[N,4,P,6] pk, float[N,4,P,6] pv)
        => (float[N,1,7] y, float[N,4,Q,6] keys, float[N,4,Q,6] values) <float[5,24] wi, {PROJECTED}, float[24,7] wy>
        {{ x = MatMul(inputs, wi) {cached} r = Add(x, o) y = MatMul(r, wy) }}"""
    module = graph(text, **{name: array for name, array in SHAPES.items() if name in text})
    result = prune(module, allow_io=allow)
    assert weights(result.module)["wk"].shape == (12, 6 * heads)
    assert str(result.module.graph.inputs[1].shape) == f"[N,{heads},P,6]"
    assert any("graph output `keys`" in text for text in reasons(module))


def test_a_table_of_positions_that_inputs_look_up_loses_heads_as_well() -> None:
    more, nodes, _ = FORMS["a table of relative positions (T5)"]
    text = network(more, nodes).replace("inputs) =>", "inputs, int64[8,8] idx) =>")
    module = graph(text, **{n: a for n, a in SHAPES.items() if n in text and n != "idx"})
    assert weights(prune(module).module)["table"].shape == (16, 2)
