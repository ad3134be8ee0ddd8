"""A small transformer encoder with random weights, written as ONNX text: tokens in, four scores out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

BLOCK = """
    [query{i}] q{i} = MatMul (x{i}, wq{i})
    [key{i}] k{i} = MatMul (x{i}, wk{i})
    [value{i}] v{i} = MatMul (x{i}, wv{i})
    qs{i} = Reshape (q{i}, heads)
    ks{i} = Reshape (k{i}, heads)
    vs{i} = Reshape (v{i}, heads)
    qh{i} = Transpose <perm = [0, 2, 1, 3]> (qs{i})
    kh{i} = Transpose <perm = [0, 2, 3, 1]> (ks{i})
    vh{i} = Transpose <perm = [0, 2, 1, 3]> (vs{i})
    [scores{i}] s{i} = MatMul (qh{i}, kh{i})
    scaled{i} = Mul (s{i}, scale)
    p{i} = Softmax <axis = -1> (scaled{i})
    [mixed{i}] m{i} = MatMul (p{i}, vh{i})
    mt{i} = Transpose <perm = [0, 2, 1, 3]> (m{i})
    mr{i} = Reshape (mt{i}, flat)
    [out{i}] o{i} = MatMul (mr{i}, wo{i})
    ra{i} = Add (x{i}, o{i})
    na{i} = LayerNormalization (ra{i}, ones, zeros)
    [up{i}] u{i} = MatMul (na{i}, wu{i})
    g{i} = Gelu (u{i})
    [down{i}] d{i} = MatMul (g{i}, wd{i})
    rb{i} = Add (na{i}, d{i})
    x{next} = LayerNormalization (rb{i}, ones, zeros)
"""


def transformer(
    *, layers: int, width: int, heads: int, hidden: int, tokens: int, vocabulary: int = 1000, seed: int = 0
) -> onnx.ModelProto:
    """A model from ``tokens [N, tokens]`` (int64) to ``y [N, 4]``.

    Args:
        layers: blocks of attention and a feed-forward network.
        width: channels between blocks.
        heads: of attention.
        hidden: channels inside the feed-forward networks.
        tokens: of one sequence.
        vocabulary: rows of the embedding.
        seed: of the weights.
    """
    blocks = "".join(BLOCK.format(i=i, next=i + 1) for i in range(layers))
    proto = onnx.parser.parse_model(f"""
    <ir_version: 9, opset_import: ["" : 20]>
    encoder (int64[N, {tokens}] tokens) => (float[N, 4] y)
        <int64[4] heads = {{0, 0, {heads}, {width // heads}}}, int64[3] flat = {{0, 0, {width}}},
         float scale = {{{(width // heads) ** -0.5}}}, int64[1] one = {{1}}> {{
        [embedding] e = Gather (table, tokens)
        pe = Add (e, positions)
        x0 = LayerNormalization (pe, ones, zeros)
        {blocks}
        pooled = ReduceMean <keepdims = 0> (x{layers}, one)
        [head] y = MatMul (pooled, wy)
    }}""")
    shapes = {"table": (vocabulary, width), "positions": (tokens, width), "wy": (width, 4)}
    for i in range(layers):
        shapes |= {f"w{part}{i}": (width, width) for part in "qkvo"}
        shapes |= {f"wu{i}": (width, hidden), f"wd{i}": (hidden, width)}
    generator = np.random.default_rng(seed)
    weights = {
        name: generator.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
        for name, shape in shapes.items()
    }
    weights |= {"ones": np.ones(width, np.float32), "zeros": np.zeros(width, np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return proto
