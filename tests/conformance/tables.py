"""Tables that rows are looked up in, and attention on integers."""

from __future__ import annotations

import numpy as np

from conformance.network import Draw, Network, case


@case
def embed_layer_normalization(d: Draw) -> Network:
    """Both the normalised and the plain sum are used; the ids are constants."""
    k, s = d.even(4, 8), d.size(3, 5)
    operands, more = d.one(("seg", ", float[2,{k}] t"), ("", ""))
    return Network(
        text=f"""(float[2,{s},5] x) => (float[2,{s},5] y) {{
            a, m, e = com.microsoft.EmbedLayerNormalization(ids, {operands}, w, p, {"t" if more else ""}, g, h)
            b = Add(a, e) c = MatMul(b, w2) y = Add(c, x) }}""",
        weights=f"float[9,{k}] w, float[8,{k}] p, float[{k}] g, float[{k}] h, float[{k},5] w2{more.format(k=k)}",
        arrays={
            "ids": np.arange(2 * s, dtype=np.int32).reshape(2, s) % 9,
            "seg": np.arange(2 * s, dtype=np.int32).reshape(2, s) % 2,
        },
        cut="w p g h w2" + " t" * bool(more),
    )


@case
def gather_of_rows(d: Draw) -> Network:
    k, s = d.even(4, 8), d.size(3, 5)
    return Network(
        text=f"(int64[2,{s}] ids) => (float[2,{s},5] y) {{ a = Gather(w, ids) y = MatMul(a, w2) }}",
        weights=f"float[9,{k}] w, float[{k},5] w2",
        cut="w w2",
    )


@case
def gather_of_packed_rows(d: Draw) -> Network:
    """Zero points of single bytes go with their blocks; packed ones hold them."""
    s, bits = d.size(3, 5), d.one(4, 8)
    points = d.one("", ", uint8[9,{z}] z")
    packed = bool(points) and bits == 4
    return Network(
        text=f"""(int64[2,{s}] ids) => (float[2,{s},5] y) {{
            a = com.microsoft.GatherBlockQuantized<
                gather_axis=0, quantize_axis=1, block_size=16, bits={bits}>(w, ids, scale{", z" if points else ""})
            y = MatMul(a, w2) }}""",
        weights=f"uint8[9,{64 * bits // 8}] w, float[9,4] scale, float[64,5] w2"
        + points.format(z=4 * bits // 8),
        cut="" if packed else "w scale w2" + " z" * bool(points),
        stay="w" if packed else "",
        reason="a packed axis of GatherBlockQuantized" if packed else "",
    )


@case
def quantised_attention(d: Draw) -> Network:
    h, size, s, k = d.even(2, 6), d.size(2, 4), d.size(3, 5), d.even(4, 8)
    wide = 3 * h * size
    columns = d.one(True, False)
    vectors = f"float[{wide}] scalew, int8[{wide}] zerow={{0}}" if columns else "float scalew, int8 zerow={0}"
    return Network(
        text=f"""(float[2,{s},3] x) => (float[2,{s},5] y) {{
            a = MatMul(x, w0) q = QuantizeLinear(a, scale, zero)
            c = com.microsoft.QAttention<num_heads={h}>(q, w1, b, scale, scalew, , zero, zerow)
            y = MatMul(c, w2) }}""",
        weights=f"float[3,{k}] w0, float scale, uint8 zero, int8[{k},{wide}] w1, float[{wide}] b, "
        f"float[{h * size},5] w2, {vectors}",
        cut="w0 w1 b w2" + " scalew zerow" * columns,
        attributes={"c": {"num_heads": h // 2}},
    )


@case
def embed_layer_normalization_on_integers(d: Draw) -> Network:
    """Every table has a scale and a zero point of its own."""
    k, s = d.even(4, 8), d.size(3, 5)
    tables = ("w", "p", "t", "g", "h")
    vectors = ", ".join(f"scale{t}" for t in tables) + ", " + ", ".join(f"zero{t}" for t in tables)
    return Network(
        text=f"""(float[2,{s},5] x) => (float[2,{s},5] y) {{
            a, m = com.microsoft.QEmbedLayerNormalization(ids, seg, w, p, t, g, h, , {vectors})
            c = MatMul(a, w2) y = Add(c, x) }}""",
        weights=f"uint8[9,{k}] w, uint8[8,{k}] p, uint8[2,{k}] t, uint8[{k}] g, uint8[{k}] h, float[{k},5] w2, "
        + ", ".join(f"float scale{t}, uint8 zero{t}" for t in tables),
        arrays={
            "ids": np.arange(2 * s, dtype=np.int32).reshape(2, s) % 9,
            "seg": np.arange(2 * s, dtype=np.int32).reshape(2, s) % 2,
        },
        cut="w p t g h w2",
    )
