"""Models for tests of the exporters: small, and in every form that an engine has to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from core_graphs import graph

from prunec.exporters.target import ExportContext
from prunec.exporters.tensorrt.candidates import PATTERN
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.sparsity.layers import find_layers

CNN = """net (float[2,64,8,8] x) => (float[2,64] y)
<float[64,64,3,3] w1, float[64] b1, float[64,64,1,1] w2, float[64,64] w3> {
    [conv1] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1, b1)
    [relu1] b = Relu (a)
    [conv2] c = Conv <kernel_shape = [1, 1]> (b, w2)
    [sum] d = Add (b, c)
    [pool] e = GlobalAveragePool (d)
    [flat] f = Flatten (e)
    [fc] y = Gemm <transB = 1> (f, w3)
}"""

BLOCK = """net (float[2,16,64] x) => (float[2,16,64] y)
<float[64] g, float[64] b, float[64,64] wq, float[64,64] wk, float[64,64] wv, float[64,64] wo, float[64,128] w1,
 float[128,64] w2, int64[4] split = {2, 16, 4, 16}, int64[3] join = {2, 16, 64}, float scale = {0.25}> {
    [norm] n = LayerNormalization <axis = -1> (x, g, b)
    [query] q = MatMul (n, wq)  [key] k = MatMul (n, wk)  [value] v = MatMul (n, wv)
    q4 = Reshape (q, split)  k4 = Reshape (k, split)  v4 = Reshape (v, split)
    qh = Transpose <perm = [0, 2, 1, 3]> (q4)
    kh = Transpose <perm = [0, 2, 3, 1]> (k4)
    vh = Transpose <perm = [0, 2, 1, 3]> (v4)
    [scores] s = MatMul (qh, kh)  t = Mul (s, scale)
    [attention] p = Softmax <axis = -1> (t)
    [mixed] m = MatMul (p, vh)
    mh = Transpose <perm = [0, 2, 1, 3]> (m)  mj = Reshape (mh, join)
    [output] o = MatMul (mj, wo)  r = Add (x, o)
    [up] u = MatMul (r, w1)  act = Relu (u)
    [down] z = MatMul (act, w2)  y = Add (r, z)
}"""

DYNAMIC = """net (float[N,16,H,W] x, float[N,8] extra) => (float[N,24] y)
<float[16,16,3,3] w1, float[8,8] w2> {
    [conv] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1)
    [pool] b = GlobalAveragePool (a)  c = Flatten (b)
    [linear] d = MatMul (extra, w2)
    y = Concat <axis = 1> (c, d)
}"""

MODELS: Mapping[str, str] = {"cnn": CNN, "block": BLOCK, "dynamic": DYNAMIC}


def sparse(module: Module) -> Module:
    """A module with 2:4 weights wherever they fit, by magnitude."""
    copy = module.clone()
    for layer in find_layers(copy.model, infer_facts(copy.model)).layers:
        if PATTERN.misfit(layer.shape) is None:
            layer.mask(PATTERN.mask(np.abs(layer.weights())))
    return copy


def model(name: str, *, dense: bool = False) -> Module:
    """One of ``MODELS``, with 2:4 weights unless it is to be dense."""
    made = graph(MODELS[name])
    return made if dense else sparse(made)


@dataclass(slots=True)
class Steps:
    """A context that keeps what it is told."""

    told: list[str] = field(default_factory=list)

    def context(self, **options: Any) -> ExportContext:
        """A context with other options; what begins is kept in ``told``."""
        return ExportContext(progress=self.told.append, **options)


def reasons(context: ExportContext) -> Callable[[str], str]:
    """Gives the reason of the remark whose message begins so."""
    return lambda start: next(str(r.reason) for r in context.remarks if r.message.startswith(start))
