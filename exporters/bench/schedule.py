"""How many sessions and runs fit into the time that there is."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.timing import WARM_UP

ROUNDS = 6
"""Sessions of each model, made anew: two sessions of one model differ by a few percent."""
FEWEST = 4
"""Rounds of models that are so slow that there is time for little else: an interval needs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The runs of one batch size.

    Attributes:
        rounds: sessions of each model.
        warm_up: turns of a round that are not timed.
        turns: timed turns of a round.
    """

    rounds: int
    warm_up: int
    turns: int


def plan_runs(turn: float, *, runs: int, seconds: float) -> Schedule:
    """Spread runs over rounds so that all of them end in about the time that is given.

    Args:
        turn: seconds of one run of each model together.
        runs: timed runs of each model, at most.
        seconds: for all rounds of this batch size together.

    Returns:
        At least four rounds of one timed turn, however long these take; two where fewer runs are wanted.
    """
    affordable = int(seconds / max(turn, 1e-9))
    rounds = min(runs, max(FEWEST, min(ROUNDS, runs // FEWEST, affordable // (2 * FEWEST))))
    rounds -= rounds % 2  # so that each model is opened first as often as last
    warm_up = max(1, min(WARM_UP, affordable // rounds // 4))
    turns = max(1, min(runs // rounds, affordable // rounds - warm_up))
    return Schedule(rounds=rounds, warm_up=warm_up, turns=turns)
