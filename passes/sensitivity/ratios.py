"""Ratios as they are written on a command line: a list, or a ladder."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from prunec.ir.diagnostics import UserError

STEP = Decimal("0.1")
"""From one rung of a ladder to the next."""


def parse_ratios(text: str) -> tuple[float, ...]:
    """Shares from ``0.2``, ``0.1,0.3,0.5``, ``10%,30%`` or the ladder ``0.1..0.7`` (in steps of 0.1).

    Raises:
        UserError: the text is none of these, or a share does not lie between 0 and 1.

    Example:
        >>> parse_ratios("0.1..0.4")
        (0.1, 0.2, 0.3, 0.4)
    """
    low, dots, high = text.partition("..")
    try:
        if dots:
            found = _ladder(_share(low), _share(high))
        else:
            found = [_share(word) for word in text.split(",")]
    except (InvalidOperation, ValueError) as error:
        raise UserError(
            f"'{text}' is no list of ratios between 0 and 1",
            help=["write 0.2, a list 0.1,0.3,0.5, or a ladder 0.1..0.7 in steps of 0.1"],
        ) from error
    return tuple(sorted({float(share) for share in found}))


def _ladder(first: Decimal, last: Decimal) -> list[Decimal]:
    if first > last:
        raise ValueError("it goes down")
    return [first + STEP * n for n in range(int((last - first) / STEP) + 1)]


def _share(word: str) -> Decimal:
    word = word.strip()
    share = Decimal(word.removesuffix("%")) / 100 if word.endswith("%") else Decimal(word)
    if not (share.is_finite() and 0 < float(share) < 1):
        raise ValueError(f"{word} does not lie between 0 and 1")
    return share
