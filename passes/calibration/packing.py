"""Work in parts, so that what is held for a part fits into memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

Holding = Mapping[Any, int]
"""Bytes that an item needs, by what they hold (anything hashable); what several items need is held once."""


def packed(items: Iterable[tuple[T, Holding]], room: int) -> list[list[T]]:
    """Items in parts, in order, each of which holds ``room`` bytes at most or is one item alone.

    Args:
        items: each with what it needs.
        room: bytes.

    Example:
        >>> packed([("q", {"x": 5}), ("k", {"x": 5}), ("up", {"y": 4}), ("down", {"z": 20})], 8)
        [['q', 'k'], ['up'], ['down']]
    """
    parts: list[list[T]] = []
    held: dict[Any, int] = {}
    for item, needs in items:
        if not parts or sum((held | dict(needs)).values()) > room:
            parts.append([])
            held = {}
        parts[-1].append(item)
        held |= needs
    return parts
