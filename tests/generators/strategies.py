"""The generator as hypothesis strategies."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from generators.builder import OPSETS
from generators.recipe import NAMES, OPTIONS, Recipe, build
from generators.registry import BLOCKS, TOUCHES
from hypothesis import strategies as st

_SEEDS = st.integers(0, 2**16 - 1)


def recipes(*, blocks: Collection[str] | None = None, max_steps: int = 8) -> st.SearchStrategy[Recipe]:
    """Recipes; shrinking leaves blocks, options and touches out and makes seeds small."""
    allowed = frozenset(NAMES if blocks is None else blocks)
    steps = st.tuples(st.sampled_from([n for n in BLOCKS if n in allowed]), _SEEDS)
    return st.builds(
        Recipe,
        steps=st.lists(steps, min_size=1, max_size=max_steps).map(tuple),
        opset=st.sampled_from(OPSETS),
        dynamic=st.booleans(),
        options=_subsets([n for n in OPTIONS if n in allowed]),
        touches=_subsets([n for n in TOUCHES if n in allowed]),
        seed=_SEEDS,
    )


def models(
    *, blocks: Collection[str] | None = None, max_steps: int = 8
) -> st.SearchStrategy[onnx.ModelProto]:
    """Models as ``random_model`` makes them; a failure prints ``build(Recipe(...))``, ready to paste."""
    return st.builds(build, recipes(blocks=blocks, max_steps=max_steps))


def _subsets(names: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    choice = st.lists(st.sampled_from(names), unique=True, max_size=3) if names else st.just([])
    return choice.map(tuple)
