"""Hand-made graphs that couple channels in every way that there is; see ``passes/coupling_groups.txt`` for the
groups that they must have.
"""

from __future__ import annotations

import numpy as np
from core_graphs import graph

from prunec.ir.module import Module

GRAPHS = {
    "plain": """
net (float[N,3,8,8] x) => (float[N,5] y)
<float[4,3,3,3] w1, float[4] b1, float[5,4,1,1] w2, int64[2] s = {0, -1}>
{ a = Conv(x, w1, b1) r = Relu(a) c = Conv(r, w2) p = GlobalAveragePool(c) y = Reshape(p, s) }""",
    "residual": """
net (float[N,3,8,8] x) => (float[N,5,8,8] y)
<float[4,3,1,1] w0, float[4,4,3,3] w1, float[4] b1, float[6,4,1,1] w2, float[4,6,1,1] w3, float[5,4,1,1] w4>
{
    a = Conv(x, w0)
    b = Conv<pads=[1,1,1,1]>(a, w1, b1)
    c = Add(a, b)
    d = Conv(c, w2)
    e = Conv(d, w3)
    f = Add(c, e)
    y = Conv(f, w4)
}""",
    "concat": """
net (float[N,3,8] x) => (float[N,5,8] y)
<float[4,3,1] w1, float[6,3,1] w2, float[10] g, float[10] h, float[10] m, float[10] var, float[5,10,1] w3>
{
    a = Conv(x, w1)
    b = Conv(x, w2)
    c = Concat<axis=1>(a, b)
    n = BatchNormalization(c, g, h, m, var)
    y = Conv(n, w3)
}""",
    "concat of a tensor with itself": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[5,8,1] w2>
{ a = Conv(x, w1) c = Concat<axis=1>(a, a) y = Conv(c, w2) }""",
    "split": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[10,3,1] w1, float[5,4,1] w2, float[5,6,1] w3>
{
    a = Conv(x, w1)
    b, c = Split<axis=1>(a, sizes)
    d = Conv(b, w2)
    e = Conv(c, w3)
    y = Add(d, e)
}""",
    "gated": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[8,3,1] w1, float[5,4,1] w2>
{
    a = Conv(x, w1)
    b, c = Split<axis=1>(a)
    s = Sigmoid(c)
    m = Mul(b, s)
    y = Conv(m, w2)
}""",
    "slice with steps": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[8,3,1] w1, float[5,4,1] w2>
{ a = Conv(x, w1) b = Slice(a, first, last, axis, step) y = Conv(b, w2) }""",
    "gather": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[6,3,1] w1, float[5,4,1] w2>
{ a = Conv(x, w1) b = Gather<axis=1>(a, picks) y = Conv(b, w2) }""",
    "grouped convolution": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[6,3,1] w1, float[4,3,1] w2, float[4] b2, float[5,4,1] w3>
{ a = Conv(x, w1) b = Conv<group=2>(a, w2, b2) y = Conv(b, w3) }""",
    "group counts that differ in one residual": """
net (float[N,3,8] x) => (float[N,5,8] y)
<float[12,3,1] w0, float[12,6,1] w1, float[12,4,1] w2, float[5,12,1] w3>
{
    a = Conv(x, w0)
    b = Conv<group=2>(a, w1)
    c = Conv<group=3>(a, w2)
    d = Add(b, c)
    e = Add(d, a)
    y = Conv(e, w3)
}""",
    "depthwise": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[4,1,3] w2, float[4] b2, float[5,4,1] w3>
{ a = Conv(x, w1) b = Conv<group=4>(a, w2, b2) y = Conv(b, w3) }""",
    "depthwise with multiplier": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[8,1,3] w2, float[8] b2, float[5,8,1] w3>
{ a = Conv(x, w1) b = Conv<group=4>(a, w2, b2) y = Conv(b, w3) }""",
    "one output channel is not depthwise": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[1,4,1] w2, float[1] b2, float[5,4,1] w3>
{ a = Conv(x, w1) g = Conv(a, w2, b2) s = Sigmoid(g) m = Mul(a, s) y = Conv(m, w3) }""",
    "channel shuffle": """
net (float[2,3,8] x) => (float[2,5,8] y)
<float[6,3,1] w1, float[5,6,1] w2, int64[4] s1 = {2, 2, 3, 8}, int64[3] s2 = {2, 6, 8}>
{
    a = Conv(x, w1)
    b = Reshape(a, s1)
    c = Transpose<perm=[0,2,1,3]>(b)
    d = Reshape(c, s2)
    y = Conv(d, w2)
}""",
    "flatten with space": """
net (float[N,3,2,2] x) => (float[N,5] y) <float[4,3,1,1] w1, float[5,16] w2>
{ a = Conv(x, w1) b = Flatten(a) y = Gemm<transB=1>(b, w2) }""",
    "squeeze and excite": """
net (float[N,3,8,8] x) => (float[N,5,8,8] y)
<float[6,3,1,1] w1, float[2,6,1,1] down, float[2] bdown, float[6,2,1,1] up, float[6] bup, float[5,6,1,1] w2>
{
    a = Conv(x, w1)
    p = GlobalAveragePool(a)
    d = Conv(p, down, bdown)
    r = Relu(d)
    u = Conv(r, up, bup)
    s = Sigmoid(u)
    m = Mul(a, s)
    y = Conv(m, w2)
}""",
    "class token": """
net (float[2,7,4] x) => (float[2,5] y)
<float[4,6] w1, float[6] b1, float[1,1,6] token, float[1,8,6] place, float[6,5] w2, int64[3] size = {2,
 1, 6}, int64 zero = {0}>
{
    a = MatMul(x, w1)
    b = Add(a, b1)
    t = Expand(token, size)
    c = Concat<axis=1>(t, b)
    p = Add(c, place)
    first = Gather<axis=1>(p, zero)
    y = MatMul(first, w2)
}""",
    "heads": """
net (float[2,7,4] x) => (float[2,7,4] y)
<float[4,6] wq, float[6] bq, float[4,6] wk, float[4,6] wv, float[6,4] wo, int64[4] s1 = {2, 7, 3, 2},
 int64[3] s2 = {2, 7, 6}>
{
    q0 = MatMul(x, wq)
    q1 = Add(q0, bq)
    q2 = Reshape(q1, s1)
    q = Transpose<perm=[0,2,1,3]>(q2)
    k0 = MatMul(x, wk)
    k1 = Reshape(k0, s1)
    k = Transpose<perm=[0,2,3,1]>(k1)
    v0 = MatMul(x, wv)
    v1 = Reshape(v0, s1)
    v = Transpose<perm=[0,2,1,3]>(v1)
    a = MatMul(q, k)
    p = Softmax(a)
    o0 = MatMul(p, v)
    o1 = Transpose<perm=[0,2,1,3]>(o0)
    o = Reshape(o1, s2)
    y = MatMul(o, wo)
}""",
    "fused heads": """
net (float[2,7,4] x) => (float[2,7,4] y)
<float[4,18] w, float[18] b, float[6,4] wo, int64[5] s1 = {2, 7, 3, 3, 2}, int64[3] s2 = {2, 7, 6},
 int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}>
{
    m = MatMul(x, w)
    f = Add(m, b)
    r = Reshape(f, s1)
    t = Transpose<perm=[2,0,3,1,4]>(r)
    q = Gather<axis=0>(t, i0)
    k0 = Gather<axis=0>(t, i1)
    v = Gather<axis=0>(t, i2)
    k = Transpose<perm=[0,1,3,2]>(k0)
    a = MatMul(q, k)
    p = Softmax(a)
    o0 = MatMul(p, v)
    o1 = Transpose<perm=[0,2,1,3]>(o0)
    o = Reshape(o1, s2)
    y = MatMul(o, wo)
}""",
    "grouped queries": """
net (float[2,7,4] x) => (float[2,7,4] y)
<float[4,8] wq, float[4,4] wk, float[4,4] wv, float[8,4] wo, int64[4] s1 = {2, 7, 4, 2},
 int64[4] s2 = {2, 7, 2, 2},
 int64[1] two = {2}, int64[5] wide = {2, 2, 2, 7, 2}, int64[4] s3 = {2, 4, 7, 2}, int64[3] s4 = {2, 7, 8}>
{
    q0 = MatMul(x, wq)
    q1 = Reshape(q0, s1)
    q = Transpose<perm=[0,2,1,3]>(q1)
    k0 = MatMul(x, wk)
    k1 = Reshape(k0, s2)
    k2 = Transpose<perm=[0,2,1,3]>(k1)
    k3 = Unsqueeze(k2, two)
    k4 = Expand(k3, wide)
    k5 = Reshape(k4, s3)
    k = Transpose<perm=[0,1,3,2]>(k5)
    v0 = MatMul(x, wv)
    v1 = Reshape(v0, s2)
    v2 = Transpose<perm=[0,2,1,3]>(v1)
    v3 = Unsqueeze(v2, two)
    v4 = Expand(v3, wide)
    v = Reshape(v4, s3)
    a = MatMul(q, k)
    p = Softmax(a)
    o0 = MatMul(p, v)
    o1 = Transpose<perm=[0,2,1,3]>(o0)
    o = Reshape(o1, s4)
    y = MatMul(o, wo)
}""",
    "shared zero bias": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[4] zero, float[4,4,1] w2, float[5,4,1] w3>
{ a = Conv(x, w1, zero) b = Conv(a, w2, zero) y = Conv(b, w3) }""",
    "tied weights": """
net (float[N,4] x) => (float[N,4] y) <float[4,6] w, float[6,6] u>
{ a = MatMul(x, w) b = MatMul(a, u) c = MatMul(b, u) t = Transpose<perm=[1,0]>(w) y = MatMul(c, t) }""",
    "initializer under a second name": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[4] b, float[4,4,1] w2, float[5,4,1] w3>
{ b2 = Identity(b) a = Conv(x, w1, b) c = Conv(a, w2, b2) y = Conv(c, w3) }""",
    "opaque op": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[6,4,1] w2, float[5,6,1] w3>
{ a = Conv(x, w1) b = ai.onnx.ml.Binarizer(a) c = Mul(a, b) d = Conv(c, w2) y = Conv(d, w3) }""",
    "computed shape": """
net (float[N,3,2,2] x) => (float[N,5] y)
<float[4,3,1,1] w1, float[16,5] w2, int64 zero = {0}, int64[1] ax = {0}, int64[1] rest = {-1}>
{
    a = Conv(x, w1)
    s = Shape(a)
    n = Gather(s, zero)
    u = Unsqueeze(n, ax)
    target = Concat<axis=0>(u, rest)
    f = Reshape(a, target)
    y = MatMul(f, w2)
}""",
    "computed windows": """
net (float[N,6,4] x) => (float[N,6,5] y)
<float[4,8] w1, float[8,5] w2, int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2},
 int64[1] k2 = {2}, int64[1] k4 = {4}>
{
    a = MatMul(x, w1)
    s = Shape(a)
    n = Gather(s, i0)
    t = Gather(s, i1)
    c = Gather(s, i2)
    split = Concat<axis=0>(n, t, k2, k4)
    b = Reshape(a, split)
    r = Relu(b)
    joined = Concat<axis=0>(n, t, c)
    d = Reshape(r, joined)
    y = MatMul(d, w2)
}""",
    "strided view": """
net (float[2,3,8] x) => (float[2,5] y) <float[12,3,8] w1, float[5,12] w2>
{
    a = Conv(x, w1)
    b = Gather<axis=1>(a, view)
    s = Transpose<perm=[0,2,1,3]>(b)
    f = Flatten(s)
    y = Gemm<transB=1>(f, w2)
}""",
    "normalised": """
net (float[N,7,4] x) => (float[N,7,5] y) <float[4,6] w1, float[6] s, float[6] b, float[6,5] w2>
{ a = MatMul(x, w1) n = LayerNormalization(a, s, b) y = MatMul(n, w2) }""",
    "transposed convolution": """
net (float[N,3,8] x) => (float[N,5,16] y) <float[3,4,2] w1, float[4] b1, float[4,3,1] w2, float[6,5,1] w3>
{ a = ConvTranspose<strides=[2]>(x, w1, b1) b = ConvTranspose<group=2>(a, w2) y = ConvTranspose(b, w3) }""",
    "pixel shuffle": """
net (float[N,3,4,4] x) => (float[N,5,8,8] y) <float[12,3,1,1] w1, float[5,3,1,1] w2>
{ a = Conv(x, w1) b = DepthToSpace<blocksize=2, mode="CRD">(a) y = Conv(b, w2) }""",
    "tile": """
net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[5,8,1] w2, int64[3] r = {1, 2, 1}>
{ a = Conv(x, w1) b = Tile(a, r) y = Conv(b, w2) }""",
    "weights made from a shape": """
net (float[N,3,8] x) => (float[N,5,8] y)
<float[4,3,1] w1, float[4] b1, int64[3] s = {6, 4, 1}, int64[1] c = {6}, float[5,6,1] w3, float[6] m, float[6] var>
{
    a = Conv(x, w1, b1)
    w2 = ConstantOfShape<value = float[1] {0.5}>(s)
    b = Conv(a, w2)
    g = ConstantOfShape<value = float[1] {2.0}>(c)
    n = BatchNormalization(b, g, g, m, var)
    y = Conv(n, w3)
}""",
    "weight in a Constant node": """
net (float[N,3] x) => (float[N,5] y) <float[4,5] w2>
{ w = Constant<value = float[3,4] {1,2,3,4, 5,6,7,8, 9,10,11,12}>() a = MatMul(x, w) y = MatMul(a, w2) }""",
}

EXTRA: dict[str, dict[str, object]] = {
    "split": {"sizes": [4, 6]},
    "opaque op": {"pads": [0, 0, 0, 0, 0, 0]},
    "slice with steps": {"first": [-1], "last": [-9], "axis": [-2], "step": [-2]},
    "gather": {"picks": [4, 1, 1, -1]},
    "strided view": {"view": [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]},
}
"""Constants that the text of a graph does not hold."""


def coupled(name: str, *, opset: int = 17) -> Module:
    """One of ``GRAPHS`` as a module."""
    constants = {key: np.array(value) for key, value in EXTRA.get(name, {}).items()}
    return graph(GRAPHS[name], opset=opset, **constants)
