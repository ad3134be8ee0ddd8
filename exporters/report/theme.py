"""The look that all pages share: colours in light and dark."""

from __future__ import annotations

from importlib.resources import files


def theme() -> str:
    """The style sheet of the colours, for the beginning of a page's own."""
    return files(__package__).joinpath("templates", "theme.css").read_text(encoding="utf-8")
