"""From a seed or a recipe to a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from generators import (
    attention,
    control,
    convolution,
    dense,
    elementwise,
    fragments,
    fused,
    movement,
    precision,
    quantised,
    recurrent,
    sequence,
    spectral,
    touches,
    weights,
)
from generators.builder import BATCH, OPSETS, VOCABULARY, Builder, Value
from generators.measure import make_model
from generators.registry import BLOCKS, STYLES, TOUCHES, WEIGHTS
from onnx import TensorProto, helper

MODULES = (
    *(convolution, dense, recurrent, elementwise, movement, attention, control, fused, quantised, precision),
    *(sequence, spectral, fragments, weights, touches),
)
"""What fills the registry; a new module of blocks is added here."""

MAX_NODES = 30
"""No block is added to a graph that has this many."""

OPTIONS = (*STYLES, "shared-zero-bias", "convert")
"""What may appear in any block: weight styles, shared biases, changes of layout."""

NAMES = tuple(dict.fromkeys((*BLOCKS, *OPTIONS, *TOUCHES)))
"""Everything that can be asked for by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that determines a model; its repr is the way to see the same model again.

    Attributes:
        steps: blocks in order, each with a seed of its own: leaving one out changes the others little.
        opset: version of the default domain.
        dynamic: the batch axis is declared as ``N``.
        options: those of ``OPTIONS`` that may appear anywhere.
        touches: touches that are applied, where they can be.
        seed: for the end of the graph and the touches.
    """

    steps: Sequence[tuple[str, int]]
    opset: int = 17
    dynamic: bool = False
    options: Sequence[str] = ()
    touches: Sequence[str] = ()
    seed: int = 0


def build(recipe: Recipe) -> onnx.ModelProto:
    """The model of a recipe: valid and runnable."""
    names = [name for name, _ in recipe.steps]
    b = Builder(opset=recipe.opset, dynamic=recipe.dynamic, allowed={*names, *recipe.options})
    for name, seed in recipe.steps:
        if len(b.nodes) < MAX_NODES:
            b.rng = np.random.default_rng(seed)
            BLOCKS[name](b)
            b.used.add(name)
    b.rng = np.random.default_rng(recipe.seed)
    touches.finish(b)
    b.used.update(name for name in recipe.touches if TOUCHES[name](b))
    return _model(b, recipe)


def _model(b: Builder, recipe: Recipe) -> onnx.ModelProto:
    outputs = [_info(b, value) for value in dict.fromkeys(b.outputs)]
    graph = helper.make_graph(b.nodes, "random", [_info(b, v) for v in b.inputs], outputs, b.initializers)
    model = make_model(graph, b.opset)
    if b.opset < 9 and recipe.seed % 2:  # as old exporters do
        model.ir_version = 3
        graph = model.graph
        graph.input.extend(
            helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer
        )
    helper.set_model_props(model, {"blocks": ",".join(sorted(b.used)), "recipe": repr(recipe)})
    return model


def _info(b: Builder, value: Value) -> onnx.ValueInfoProto:
    shape: list[int | str] = list(value.shape)
    if b.dynamic and shape:
        shape[0] = "N"
        for axis in b.symbols.get(value.name, ()):
            shape[axis] = f"S{shape[axis]}"
    return helper.make_tensor_value_info(value.name, value.dtype, shape)


def random_recipe(
    seed: int,
    *,
    blocks: Collection[str] | None = None,
    max_steps: int = 8,
    opset: int | None = None,
    dynamic: bool | None = None,
) -> Recipe:
    """A recipe drawn from a seed; ``random_model`` says what the arguments mean."""
    rng = np.random.default_rng([seed, 20])
    allowed = frozenset(NAMES if blocks is None else blocks)
    if unknown := sorted(allowed - set(NAMES)):
        raise ValueError(f"no block, weight style or touch is called {', '.join(unknown)}")
    names = [name for name in BLOCKS if name in allowed for _ in range(WEIGHTS.get(name, 1))]
    count = int(rng.integers(1, max_steps + 1))
    return Recipe(
        steps=tuple((names[int(i)], int(rng.integers(2**32))) for i in rng.integers(0, len(names), count)),
        opset=int(rng.integers(OPSETS.start, OPSETS.stop)) if opset is None else opset,
        dynamic=bool(rng.random() < 0.5) if dynamic is None else dynamic,
        options=tuple(n for n in OPTIONS if n in allowed and rng.random() < 0.6),
        touches=tuple(n for n in TOUCHES if n in allowed and rng.random() < 0.15),
        seed=int(rng.integers(2**32)),
    )


def random_model(
    seed: int,
    *,
    blocks: Collection[str] | None = None,
    max_steps: int = 8,
    opset: int | None = None,
    dynamic: bool | None = None,
) -> onnx.ModelProto:
    """A random network: passes the checker, runs in ONNX Runtime, values of order one.

    Args:
        seed: the same seed and arguments give the same bytes.
        blocks: names of the blocks, options and touches that may appear (default: all of ``NAMES``).
            Inputs and the plain layers around the blocks (conv, gemm or matmul) appear in any case.
        max_steps: largest number of blocks.
        opset: fixes the opset (default: any of ``OPSETS``).
        dynamic: fixes whether the batch axis is ``N`` (default: in half of the models).

    Raises:
        ValueError: a name in ``blocks`` is unknown.
    """
    return build(random_recipe(seed, blocks=blocks, max_steps=max_steps, opset=opset, dynamic=dynamic))


def blocks_of(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the blocks, weight styles and touches in a generated model."""
    found = {item.key: item.value for item in model.metadata_props}["blocks"]
    return frozenset(found.split(",")) - {""}


def random_inputs(model: onnx.ModelProto, seed: int, *, batch: int = 2) -> dict[str, np.ndarray]:
    """Inputs for a generated model: normal floats, indices below ``VOCABULARY``, flags; ``N`` = ``batch``.

    Other symbols are sizes too: ``S5`` is 5 at a batch of 2, and differs at others.
    """
    rng = np.random.default_rng(seed)
    draw: dict[int, Callable[[list[int]], np.ndarray]] = {
        TensorProto.FLOAT: lambda shape: rng.standard_normal(shape, dtype=np.float32),
        TensorProto.INT64: lambda shape: rng.integers(0, VOCABULARY, shape),
        TensorProto.BOOL: lambda shape: rng.integers(0, 2, shape).astype(bool),
    }
    feeds: dict[str, np.ndarray] = {}
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in (value for value in model.graph.input if value.name not in constants):
        shape = [_size(dim, batch) for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = np.asarray(draw[value.type.tensor_type.elem_type](shape))
    return feeds


def _size(dim: onnx.TensorShapeProto.Dimension, batch: int) -> int:
    symbol = dim.dim_param
    return batch if symbol == "N" else int(symbol[1:]) + batch - BATCH if symbol else int(dim.dim_value)
