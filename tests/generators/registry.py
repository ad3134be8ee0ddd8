"""The tables that a random network is drawn from: blocks, weight styles and touches, by name.

Adding a block is writing one decorated function in any of the block modules::

    @block("clip")
    def clip(b: Builder) -> None:
        b.keep(b.op("Clip", b.pick(), b.const(-1.0), b.const(1.0)))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from generators.builder import Builder, Value

    Block = Callable[[Builder], None]
    Style = Callable[[Builder, np.ndarray, int], Value | None]
    Touch = Callable[[Builder], bool]

F = TypeVar("F")

BLOCKS: dict[str, Block] = {}
"""Pieces of network: each picks values of the graph so far and keeps new ones."""

WEIGHTS: dict[str, int] = {}
"""How many times as often as others a block is drawn, for those that hold many ops."""

STYLES: dict[str, Style] = {}
"""Unusual ways in which a weight reaches its layer: (builder, array, output axis) -> value, or None."""

TOUCHES: dict[str, Touch] = {}
"""What is done to a whole graph before it is finished; False where it did not apply."""


def _register(table: dict[str, F], name: str) -> Callable[[F], F]:
    assert name not in BLOCKS.keys() | STYLES.keys() | TOUCHES.keys(), f"two things are called {name}"
    return lambda function: table.setdefault(name, function)


def block(name: str, *, weight: int = 1) -> Callable[[Block], Block]:
    """Register a block under ``name``, drawn ``weight`` times as often as others."""
    WEIGHTS[name] = weight
    return _register(BLOCKS, name)


def style(name: str) -> Callable[[Style], Style]:
    """Register a weight style under ``name``."""
    return _register(STYLES, name)


def touch(name: str) -> Callable[[Touch], Touch]:
    """Register a touch under ``name``."""
    return _register(TOUCHES, name)
