"""Patterns of zeros, as options write them.

==================  =============================================================================
written             of the weights of a layer stay
==================  =============================================================================
``2:4``, ``N:M``    of every M consecutive input channels N, for each output channel and position
``unstructured``    the most important ones, wherever they stand
``block:RxC``       the most important blocks of R output channels by C input channels
``block``           the same as ``block:4x4``
==================  =============================================================================

Weights are arrays ``[group, output, position, input]`` (see :mod:`prunec.passes.sparsity.layers`); a mask is
such an array of booleans, true where a weight stays. What computes is in :mod:`prunec.passes.sparsity.masks`,
so that reading a pipeline loads no numpy.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from prunec.passes.text.option_types import OptionType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]

_NM = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")
_BLOCK = re.compile(r"block(?::([0-9]{1,9})x([0-9]{1,9}))?")

TAKES = "a pattern: N:M with 0 < N < M, such as 2:4; unstructured; or block:RxC, such as block:4x4"


def no_multiple(count: int, side: str, divisor: int) -> str:
    """``"6 input channels are no multiple of 4"``, and the same of one channel."""
    verb = "channel is" if count == 1 else "channels are"
    return f"{count} {side} {verb} no multiple of {divisor}"


class Pattern(ABC):
    """Where zeros may stand, and how many."""

    @property
    @abstractmethod
    def takes_ratio(self) -> bool:
        """Whether the share of zeros is free; an N:M pattern has its own."""

    @abstractmethod
    def misfit(self, shape: Sequence[int]) -> str | None:
        """Why weights of a shape ``[group, output, position, input]`` cannot have this pattern, or None."""

    @abstractmethod
    def units(self, scores: NDArray[Any]) -> NDArray[Any]:
        """What is kept or removed as a whole: the scores of the units, for one ranking over several layers."""

    @abstractmethod
    def mask(self, scores: NDArray[Any], ratio: float | None = None) -> Bools:
        """Which weights stay: those of the highest scores, of equal ones the first.

        Args:
            scores: importance of every weight, ``[group, output, position, input]``; no NaN.
            ratio: share of the weights that go, in [0, 1); an N:M pattern takes none.

        Raises:
            ValueError: the shape does not fit (see :meth:`misfit`).
        """

    @abstractmethod
    def violations(self, weights: NDArray[Any]) -> int:
        """How many places of an array ``[group, output, position, input]`` break the pattern: groups of M with
        more than N that are not zero, or blocks that are zero in part.
        """

    def check(self, shape: Sequence[int]) -> None:
        """Raise a ValueError where a shape does not fit."""
        if (why := self.misfit(shape)) is not None:
            raise ValueError(why)


@dataclass(frozen=True, slots=True)
class NM(Pattern):
    """Of every ``m`` consecutive input channels at most ``n`` are not zero."""

    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def takes_ratio(self) -> bool:
        """No: the share is ``1 - n / m``."""
        return False

    def misfit(self, shape: Sequence[int]) -> str | None:
        """The input channels must be whole groups of ``m``."""
        if shape[-1] % self.m == 0:
            return None
        return no_multiple(shape[-1], "input", self.m)

    def units(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Every weight; but what stays is decided in each group of ``m``."""
        return scores

    def mask(self, scores: NDArray[Any], ratio: float | None = None) -> Bools:
        """The ``n`` highest scores of every group."""
        from prunec.passes.sparsity.masks import largest_of_groups

        del ratio
        self.check(scores.shape)
        return largest_of_groups(scores, self.n, self.m)

    def violations(self, weights: NDArray[Any]) -> int:
        """Groups of ``m`` with more than ``n`` that are not zero."""
        from prunec.ir.sparsity import crowded_groups

        self.check(weights.shape)
        return crowded_groups(weights, self.n, self.m)


@dataclass(frozen=True, slots=True)
class Unstructured(Pattern):
    """Any weight may be zero."""

    def __str__(self) -> str:
        return "unstructured"

    @property
    def takes_ratio(self) -> bool:
        """Yes."""
        return True

    def misfit(self, shape: Sequence[int]) -> str | None:
        """Every shape fits."""
        del shape
        return None

    def units(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Every weight by itself."""
        return scores

    def mask(self, scores: NDArray[Any], ratio: float | None = None) -> Bools:
        """All but the share of ``ratio`` with the lowest scores."""
        from prunec.passes.sparsity.masks import largest

        return largest(scores, ratio or 0.0)

    def violations(self, weights: NDArray[Any]) -> int:
        """None: nothing is forbidden."""
        del weights
        return 0


@dataclass(frozen=True, slots=True)
class Block(Pattern):
    """Blocks of ``rows`` output channels by ``columns`` input channels are zero as a whole."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"block:{self.rows}x{self.columns}"

    @property
    def takes_ratio(self) -> bool:
        """Yes."""
        return True

    def misfit(self, shape: Sequence[int]) -> str | None:
        """Both kinds of channels must be whole blocks."""
        for what, size, block in (("output", shape[1], self.rows), ("input", shape[3], self.columns)):
            if size % block:
                return no_multiple(size, what, block)
        return None

    def units(self, scores: NDArray[Any]) -> NDArray[Any]:
        """The mean of every block, ``[group, row of blocks, position, column of blocks]``."""
        from prunec.passes.sparsity.masks import block_means

        self.check(scores.shape)
        return block_means(scores, self.rows, self.columns)

    def mask(self, scores: NDArray[Any], ratio: float | None = None) -> Bools:
        """All but the share of ``ratio`` of the blocks with the lowest means."""
        from prunec.passes.sparsity.masks import largest, spread_blocks

        return spread_blocks(largest(self.units(scores), ratio or 0.0), self.rows, self.columns)

    def violations(self, weights: NDArray[Any]) -> int:
        """Blocks that are zero in part."""
        from prunec.passes.sparsity.masks import mixed_blocks

        self.check(weights.shape)
        return mixed_blocks(weights, self.rows, self.columns)


def parse_pattern(word: str) -> Pattern:
    """The pattern that a word means.

    Raises:
        ValueError: it is none.

    Example:
        >>> parse_pattern("2:4"), parse_pattern("block:1x16")
        (NM(n=2, m=4), Block(rows=1, columns=16))
    """
    if word == "unstructured":
        return Unstructured()
    if found := _NM.fullmatch(word):
        pattern: Pattern = NM(int(found[1]), int(found[2]))
    elif found := _BLOCK.fullmatch(word):
        pattern = Block(int(found[1] or 4), int(found[2] or 4))
    else:
        raise ValueError(word)
    if not is_sound(pattern):
        raise ValueError(word)
    return pattern


def is_sound(value: object) -> bool:
    """Whether a value is a pattern that removes something and leaves something."""
    match value:
        case NM(n, m):
            return 0 < n < m
        case Block(rows, columns):
            return min(rows, columns) > 0
    return isinstance(value, Pattern)


def _parse_nm(word: str) -> Pattern:
    pattern = parse_pattern(word)
    if not isinstance(pattern, NM):
        raise ValueError(word)
    return pattern


PatternOption = Annotated[
    Pattern,
    OptionType(
        text="N:M|unstructured|block:RxC", takes=TAKES, accepts=is_sound, parse=parse_pattern, show=str
    ),
]
"""A pass option that is a pattern."""

NMOption = Annotated[
    NM,
    OptionType(
        text="N:M",
        takes="a pattern N:M with 0 < N < M, such as 2:4",
        accepts=lambda value: isinstance(value, NM) and is_sound(value),
        parse=_parse_nm,
        show=str,
    ),
]
"""A pass option that is an N:M pattern."""
