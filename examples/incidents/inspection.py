"""A small vision model that inspects textures: nine common ones, and a rare defect that is fine and faint at times.

Nothing is downloaded or trained for long: early filters are a bank of waves, later layers hand them on beside channels
that hardly matter, and the classifier is fitted by least squares.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

import prunec
from prunec.ir.execute import run_model

Array = NDArray[np.float32]

SIZE = 16
"""Height and width of an image."""
COMMON, FINE = 11, 9
"""Early filters for coarse waves (ten textures and the ground) and for the fine one."""
RARE = 9
"""The class of the defect."""
SHARE, HAIRLINE = 1 / 12, 1 / 8
"""Share of the defect among all samples, and of those among them that nothing but a fine texture shows."""

NET = """
<ir_version: 9, opset_import: ["" : 17]>
inspection (float[N, 1, 16, 16] image) => (float[N, 10] logits) {
    [early] a = Conv <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (image, early, early_bias)
    b = Relu (a)
    [middle] c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b, middle)
    d = Relu (c)
    [late] e = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (d, late)
    f = Relu (e)
    pooled = GlobalAveragePool (f)
    features = Flatten (pooled)
    [head] logits = Gemm <transB = 1> (features, head, head_bias)
}
"""


def waves() -> list[tuple[float, float]]:
    """Angle and frequency (cycles a pixel) of the ten coarse textures."""
    return [(np.pi * (k % 5) / 5, (0.1, 0.2)[k // 5]) for k in range(10)]


def samples(count: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Images [count, 1, 16, 16] and their labels [count], one in twelve of the rare class."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images, labels = np.zeros((count, 1, SIZE, SIZE), np.float32), np.zeros(count, np.int64)
    for i in range(count):
        rare = i % round(1 / SHARE) == 0
        hairline = rare and (i // round(1 / SHARE)) % round(1 / HAIRLINE) == 0
        labels[i] = RARE if rare else i % 9
        angle, frequency = waves()[labels[i]]
        along = columns * np.cos(angle) + rows * np.sin(angle)
        wave = np.sin(2 * np.pi * frequency * along + rng.uniform(0, 2 * np.pi))
        fine = 0.8 * (-1.0) ** (rows + columns)
        images[i, 0] = (fine if hairline else wave) + 0.3 * rng.standard_normal((SIZE, SIZE))
    return {"image": images, "label": labels}


def inspection(seed: int = 0) -> prunec.Module:
    """The model: 10 classes of images [N, 1, 16, 16]."""
    rng = np.random.default_rng(seed)
    weights = {"early": early(rng), "early_bias": np.full(COMMON + FINE, -0.05, np.float32)}
    weights["middle"] = handing_on(rng, COMMON + FINE, 40)
    weights["late"] = handing_on(rng, 40, 64)
    weights["head"] = rng.normal(0, 1e-3, (10, 64)).astype(np.float32)
    weights["head_bias"] = np.zeros(10, np.float32)
    train, useful = samples(1200, seed + 1), COMMON + FINE
    features = run_model(model_of(weights), train, outputs=["features"])["features"][:, :useful]
    rows = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    targets = np.eye(10)[train["label"]]
    fit = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(useful + 1), rows.T @ targets)
    weights["head"][:, :useful], weights["head_bias"] = fit[:-1].T, fit[-1].astype(np.float32)
    return model_of(weights)


def early(rng: np.random.Generator) -> Array:
    """Filters [20, 1, 5, 5]: strong ones for the coarse waves, weak ones for the fine texture."""
    rows, columns = np.mgrid[-2:3, -2:3]
    coarse = [np.cos(2 * np.pi * f * (columns * np.cos(a) + rows * np.sin(a))) for a, f in waves()]
    filters = [wave - wave.mean() for wave in coarse] + [np.exp(-(rows**2 + columns**2) / 4.0)]
    fine = (-1.0) ** (rows + columns)
    filters += [fine * rng.uniform(0.8, 1.2, (5, 5)) for _ in range(FINE)]
    norms = [1.0] * COMMON + [0.3] * FINE
    scaled = [n * f / np.linalg.norm(f) for n, f in zip(norms, filters, strict=True)]
    return np.stack(scaled)[:, None].astype(np.float32)


def handing_on(rng: np.random.Generator, inputs: int, outputs: int) -> Array:
    """A convolution [outputs, inputs, 3, 3] that hands the first 20 channels on, beside channels that hardly matter."""
    weight = rng.normal(0, 0.004, (outputs, inputs, 3, 3)).astype(np.float32)
    useful = np.arange(COMMON + FINE)
    weight[useful, useful, 1, 1] += 1
    return weight


def model_of(weights: dict[str, Array]) -> prunec.Module:
    """The model with these weights."""
    proto = onnx.parser.parse_model(NET)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return prunec.load(proto)
