"""The random networks are valid, run, stay of order one, and reach everything they promise."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from conformance import CASES, Draw
from generators import (
    NAMES,
    OPSETS,
    Recipe,
    blocks_of,
    build,
    models,
    random_inputs,
    random_model,
    random_recipe,
)
from generators.measure import execute
from generators.registry import BLOCKS
from hypothesis import given, settings

from fuzz import WITHOUT_KERNEL
from graph_trial import UNCHECKED, op_names


def check(model: onnx.ModelProto, seed: int) -> None:
    if not any(node.op_type in UNCHECKED for node in model.graph.node):
        onnx.checker.check_model(model, full_check=True)
    for batch in (2, 3) if "dynamic=True" in recipe_text(model) else (2,):
        outputs = list(execute(model, random_inputs(model, seed, batch=batch)).values())
        assert all(np.isfinite(y).all() and np.abs(y).max() < 100 for y in outputs)
        declared = [[d.dim_value or batch for d in v.type.tensor_type.shape.dim] for v in model.graph.output]
        assert [list(y.shape) for y in outputs] == declared


def recipe_text(model: onnx.ModelProto) -> str:
    return {item.key: item.value for item in model.metadata_props}["recipe"]


@pytest.mark.parametrize("seed", range(150))
def test_random_model_passes_the_checker_and_runs(seed: int) -> None:
    check(random_model(seed), seed)


@settings(max_examples=25, deadline=None)
@given(models(max_steps=4))
def test_strategy_gives_valid_models(model: onnx.ModelProto) -> None:
    check(model, 0)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_block_runs_in_every_opset(opset: int) -> None:
    for name in BLOCKS:
        check(random_model(opset, blocks={name}, max_steps=1, opset=opset), opset)


def test_everything_is_reached() -> None:
    made = [random_model(seed) for seed in range(400)]
    assert set().union(*map(blocks_of, made)) == set(NAMES)
    assert {m.opset_import[0].version for m in made} == set(OPSETS)
    assert 120 < sum("dynamic=True" in recipe_text(m) for m in made) < 280
    assert any(len(m.graph.input) > 1 for m in made)
    assert any(len(m.graph.output) > 1 for m in made)
    assert max(len(m.graph.node) for m in made) < 100


def test_every_op_that_runs_on_a_cpu_is_made() -> None:
    """Those of the conformance networks are drawn by name; their own tests say that they run."""
    spliced = " ".join(CASES[name](Draw(seed, name)).text for name in CASES for seed in range(3))
    made = [random_model(seed) for seed in range(400)]
    made += [random_model(seed, blocks={"no-chance", "spectrum"}) for seed in range(60)]
    seen = {f"{node.domain}.{node.op_type}".lstrip(".") for model in made for node in model.graph.node}
    assert set(op_names()) - seen - set(re.findall(r"= ([\w.]+)[(<]", spliced)) == set(WITHOUT_KERNEL)


def test_same_seed_gives_same_bytes() -> None:
    assert random_model(5).SerializeToString() == random_model(5).SerializeToString()
    assert random_model(5).SerializeToString() != random_model(6).SerializeToString()


def test_recipe_in_the_metadata_builds_the_model_again() -> None:
    model = random_model(11)
    recipe = eval(recipe_text(model), {"Recipe": Recipe})
    assert recipe == random_recipe(11)
    assert build(recipe).SerializeToString() == model.SerializeToString()


def test_blocks_can_be_restricted() -> None:
    for seed in range(20):
        model = random_model(seed, blocks={"conv", "concat"})
        assert blocks_of(model) <= {"conv", "concat"}
        allowed = {"Conv", "Concat", "Relu", "Gemm", "MatMul", "Add", "Constant", "Identity"}
        assert {node.op_type for node in model.graph.node} <= allowed


def test_unknown_block_is_refused() -> None:
    with pytest.raises(ValueError, match="called convolutoin"):
        random_model(0, blocks={"convolutoin"})
