"""How a word stands in the text of a pipeline."""

from __future__ import annotations

import json
import re

_BARE_WORD = re.compile(r'[^\s{}()=,"#]+')


def quoted_if_needed(text: str) -> str:
    """A word as pipeline text: bare where its characters allow it, else quoted and escaped as in JSON."""
    if text.isprintable() and _BARE_WORD.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
