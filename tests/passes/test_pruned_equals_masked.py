"""Random networks pruned in random ways: the verifier proves each one, and plan and shapes agree exactly.

The suite runs a fixed set of examples. Many more, with other seeds::

    PRUNEC_EXAMPLES=5000 PRUNEC_SEED=1 pytest tests/passes/test_pruned_equals_masked.py
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import onnx
from core_graphs import weights
from generators import random_inputs
from generators.recipe import Recipe, build
from generators.strategies import recipes
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import prunec
from prunec.ir.execute import run_model
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.manager import Result

EXAMPLES = int(os.environ.get("PRUNEC_EXAMPLES", "80"))
SEED = os.environ.get("PRUNEC_SEED")


@dataclass(frozen=True)
class Options:
    """How to prune; its text is what a failure shows."""

    ratio: float
    scope: str
    criterion: str
    unit: str
    round_to: int

    def __str__(self) -> str:
        return (
            f"prune-channels{{ratio={self.ratio} scope={self.scope} criterion={self.criterion} "
            f"unit={self.unit} round-to={self.round_to}}}"
        )


OPTIONS = st.builds(
    Options,
    ratio=st.sampled_from([0.2, 0.35, 0.5, 0.75, 0.9]),
    scope=st.sampled_from(["local", "global"]),
    criterion=st.sampled_from(["l1", "l2", "bn-scale", "fpgm", "random"]),
    unit=st.sampled_from(["head", "head-dim"]),
    round_to=st.sampled_from([1, 1, 2, 4]),
)


def check(recipe: Recipe, options: Options) -> None:
    """Prune with the verifier, then compare what it cannot know: plan, weights and output shapes."""
    proto = build(recipe)
    module = prunec.load(proto)
    before = weights(module)
    result = prunec.run(module, str(options), seed=recipe.seed)
    assert len(result.verdicts) == len(result.plan.steps) <= 1
    check_weights(before, result)
    check_outputs(proto, result.module, recipe.seed)
    check_sizes(result.module)
    np.testing.assert_equal(weights(module), before)


def check_weights(before: dict[str, np.ndarray], result: Result) -> None:
    """Every tensor that the plan names, and no other, lost exactly the rows that the plan says."""
    removed: dict[str, dict[int, set[int]]] = {}
    shared = {t.name for s in result.plan.steps for g in s.groups for t in g.tensors if t.uses}
    for tensor in (t for s in result.plan.steps for g in s.groups for t in g.tensors):
        removed.setdefault(tensor.name, {}).setdefault(tensor.axis, set()).update(tensor.removed)
    after = weights(result.module)
    for name, array in before.items():
        if name not in after or name in shared:
            continue
        for axis, gone in removed.get(name, {}).items():
            array = np.delete(array, sorted(gone), axis)
        if removed.get(name) or array.dtype.kind == "f":
            np.testing.assert_array_equal(after[name], array, err_msg=name)


def check_outputs(proto: onnx.ModelProto, module: Module, number: int) -> None:
    """The pruned model runs at batch sizes that the analysis did not see; outputs keep their declared shape."""
    batches = (
        (1, 3) if any(d.dim_param for v in proto.graph.input for d in v.type.tensor_type.shape.dim) else (2,)
    )
    for batch in batches:
        outputs = run_model(module, random_inputs(proto, number, batch=batch))
        for value in proto.graph.output:
            declared = tuple(d.dim_value or batch for d in value.type.tensor_type.shape.dim)
            assert outputs[value.name].shape == declared
            assert np.isfinite(outputs[value.name]).all()


def check_sizes(module: Module) -> None:
    """No value is empty, and no name stands for two things."""
    facts = infer_facts(module.model)
    computed = [
        o for n in module.graph if n.op_type != "Constant" and not facts.is_folded(n) for o in n.outputs
    ]
    assert all(0 not in facts.shapes[value] for value in computed)
    names = [o.name for n in module.graph for o in n.outputs if o.name] + list(module.graph.initializers)
    assert len(names) == len(set(names))


if SEED is None:
    fixed = settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
else:
    fixed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck),
                     database=None, phases=[Phase.generate, Phase.shrink])  # fmt: skip


@fixed
@given(recipes(max_steps=6), OPTIONS)
def test_pruned_equals_masked(recipe: Recipe, options: Options) -> None:
    check(recipe, options)


if SEED is not None:
    test_pruned_equals_masked = seed(int(SEED))(test_pruned_equals_masked)
