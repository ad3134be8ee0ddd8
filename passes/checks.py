"""Checks for the values of pass options: small, composable, and able to say what they accept.

::

    count: int = option(1, help="how often", check=at_least(1))
    momentum: float = option(0.9, help="...", check=within(0, 1, closed="left"))
    width: int = option(64, help="...", check=at_least(1) & Check("that is a power of two", is_power_of_two))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Check:
    """A condition on a value, with the words for it.

    Attributes:
        text: continues "takes a number ...", for example ``of at least 1``.
        test: whether a value satisfies it.
    """

    text: str
    test: Callable[[Any], bool]

    def __call__(self, value: Any) -> str | None:
        """What is wrong with ``value``, or None."""
        return None if self.test(value) else f"must be a value {self.text}, got {value!r}"

    def __and__(self, other: Check) -> Check:
        """Both conditions at once."""
        return Check(f"{self.text} and {other.text}", lambda value: self.test(value) and other.test(value))


def at_least(low: float) -> Check:
    """A number that is ``low`` or more."""
    return Check(f"of at least {low:g}", lambda value: bool(value >= low))


def within(low: float, high: float, *, closed: Literal["both", "left", "right", "neither"] = "both") -> Check:
    """A number between two bounds; ``closed`` says which of them belong to the range."""
    left, right = closed in ("both", "left"), closed in ("both", "right")

    def test(value: float) -> bool:
        return (low <= value if left else low < value) and (value <= high if right else value < high)

    words = {True: "included", False: "excluded"}
    if closed == "both":
        return Check(f"from {low:g} to {high:g}", test)
    return Check(f"from {low:g} ({words[left]}) to {high:g} ({words[right]})", test)
