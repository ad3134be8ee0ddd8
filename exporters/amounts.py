"""Counts, sizes, shares and changes in words, the same wherever they are shown."""

from __future__ import annotations

from math import floor, log10

NOTHING = 1e-9
"""A drop below that is what rounding makes of none."""


def number(count: int) -> str:
    """A count with a thousands separator up to a million, then in millions or billions."""
    for size, unit in ((10**9, "G"), (10**6, "M")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:,}"


def file_size(count: int) -> str:
    """Bytes in the largest binary unit that gives at least 1."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"


def change(before: float | None, after: float | None) -> str:
    """By how many per cent something changed; ``same`` where that rounds to nothing, empty where it is not known."""
    if not before or after is None:
        return ""
    text = f"{100 * (after - before) / before:+.1f} %"
    return "same" if text in ("+0.0 %", "-0.0 %") else text


def short_drop(drop: float) -> str:
    """A drop in three decimals, in more where it has fewer than two digits then, and in powers of ten below 1e-4.

    Example:
        >>> [short_drop(drop) for drop in (0.0, 0.038, 0.0044, -0.00012, 3.14e-6, 1234.5)]
        ['0', '0.038', '0.0044', '-0.00012', '3.1e-6', '1234']
    """
    size = abs(drop)
    if size < NOTHING:
        return "0"
    if size < 1e-4:
        return f"{drop:.1e}".replace("e-0", "e-")
    return f"{drop:.4g}" if size >= 10 else f"{drop:.{max(3, 1 - floor(log10(size)))}f}"


def percent(share: float, gap: str = " ") -> str:
    """A share in per cent, in up to three digits.

    Example:
        >>> [percent(share) for share in (0.25, 0.001, 1 / 3)]
        ['25 %', '0.1 %', '33.3 %']
    """
    return f"{100 * share:.3g}{gap}%"
