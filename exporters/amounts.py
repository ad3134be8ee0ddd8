"""Counts, sizes and changes in words, the same wherever they are shown."""

from __future__ import annotations


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
