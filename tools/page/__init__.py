"""``prunec inspect --html``: a model as one page that opens from disk, with its graph drawn on a canvas.

The page holds a template (``page.html``), its style and its scripts, and the data as JSON. Nothing from the
model is ever read as HTML: names and texts are in the JSON alone, which the scripts show as text. A content
security policy names the scripts by their hashes and forbids the page any access to the network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from prunec.exporters.report.theme import theme
from prunec.ir.files import write_text

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.survey import Survey

SCRIPTS = ("data.js", "layout.js", "colours.js", "scene.js", "pointer.js", "panel.js", "search.js", "page.js")
"""In the order in which they run, as one script."""


def write_page(module: Module, survey: Survey, path: Path) -> None:
    """Write the page of a model.

    Args:
        module: the model.
        survey: what is known about it.
        path: the file.

    Raises:
        UserError: the file cannot be written.
    """
    from prunec.tools.page.content import page_data

    write_text(path, render_page(page_data(module, survey)))


def render_page(data: dict[str, Any]) -> str:
    """The page of what :func:`prunec.tools.page.content.page_data` returns."""
    folder = files(__name__)
    style = theme() + folder.joinpath("page.css").read_text(encoding="utf-8")
    script = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    template = Template(folder.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        style=style, script=script, style_hash=_hash(style), script_hash=_hash(script), data=script_json(data)
    )


def script_json(data: object) -> str:
    """JSON in ASCII that no HTML parser can read anything but text from."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
