"""Random networks that stress the dependency analysis of channels.

random_model(7)                                   # by seed, for long runs
random_model(7, blocks={"conv", "concat"})        # only these
build(Recipe(steps=(("conv", 1), ("slice", 5))))  # exactly these: what a failure prints

@given(models())                                  # for hypothesis: shrinks by leaving blocks out
"""

from __future__ import annotations

from generators.builder import OPSETS
from generators.fragments import LEFT_OUT
from generators.recipe import (
    NAMES,
    Recipe,
    blocks_of,
    build,
    random_inputs,
    random_model,
    random_recipe,
)
from generators.strategies import models, recipes

__all__ = [
    "LEFT_OUT",
    "NAMES",
    "OPSETS",
    "Recipe",
    "blocks_of",
    "build",
    "models",
    "random_inputs",
    "random_model",
    "random_recipe",
    "recipes",
]
