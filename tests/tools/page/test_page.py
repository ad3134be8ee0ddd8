"""The page as a file: complete, closed to the network, and with nothing of the model read as HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import onnx
import pytest

from prunec.tools import prunec as command
from prunec.tools.page import SCRIPTS, render_page, script_json

ROOT = Path(__file__).parents[3]
EVIL = "</script><img src=x onerror=\"alert('1')\"><!-- $data & \u2028 ]]> \\u003c \u202e"
NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w = {0, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7},
    float[4, 4] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
{ [first] h = MatMul (x, w) [act] r = Relu (h) [second] y = MatMul (r, v) }
"""


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text inside the element ``data``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        key = attributes.get("id") or tag
        self.texts[key] = self.texts.get(key, "") + data


def evil_model(folder: Path) -> Path:
    """A model whose nodes, tensors, dimensions, ops and attributes are all called by a piece of HTML."""
    proto = onnx.parser.parse_model(NET)
    graph = proto.graph
    names = {"x": f"x{EVIL}", "h": f"h{EVIL}", "r": f"r{EVIL}", "w": f"w{EVIL}"}
    for node in graph.node:
        node.name += EVIL
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for thing in (*graph.input, *graph.initializer):
        thing.name = names.get(thing.name, thing.name)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = f"N{EVIL}"
    graph.node[1].domain, graph.node[1].op_type = f"d{EVIL}", f"Relu{EVIL}"
    graph.node[1].attribute.append(onnx.helper.make_attribute(f"a{EVIL}", EVIL))
    proto.opset_import.append(onnx.helper.make_opsetid(f"d{EVIL}", 1))
    path = folder / "evil.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def evil_page(tmp_path: Path) -> str:
    page = tmp_path / "page.html"
    assert command.run(["inspect", str(evil_model(tmp_path)), "--html", str(page)]) == 0
    return page.read_text(encoding="utf-8")


def test_the_command_writes_the_page_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(onnx.parser.parse_model(NET), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert command.run(["inspect", "net.onnx", "--html", "page.html"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "wrote page.html: nodes: 3, channel groups: 3\n")
    assert json.loads(Tags((tmp_path / "page.html").read_text()).texts["data"])["model"][0] == [
        "model",
        "net.onnx",
    ]


@pytest.mark.parametrize(
    ("target", "message"),
    [("net.onnx", "would overwrite an input"), ("no/page.html", "folder 'no' does not exist")],
)
def test_a_page_that_cannot_be_written_is_refused_at_once(
    target: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onnx.save(onnx.parser.parse_model(NET), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert command.run(["inspect", "net.onnx", "--html", target]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_names_are_never_markup(evil_page: str) -> None:
    found, plain = Tags(evil_page), Tags(render_page({}))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert found.tags == plain.tags
    data = json.loads(found.texts["data"])
    assert f"first{EVIL}" in [node[1] for node in data["nodes"]]
    assert f"x{EVIL}" in [value[0] for value in data["values"]]
    assert evil_page.replace("</script>\n", "").count("</script") == 0


def test_json_in_a_page_is_ascii_without_markup() -> None:
    text = script_json({"a": EVIL, "b": "\ud800"})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text)["a"] == EVIL
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_the_page_needs_nothing_else(evil_page: str) -> None:
    found = Tags(evil_page)
    outside = {"src", "href", "srcset", "data", "action", "style"}
    assert [tag for tag, attributes in found.tags if outside & attributes.keys()] == []
    assert [a for _, attributes in found.tags for a in attributes if a.startswith("on")] == []
    own = render_page({})
    assert (
        re.findall(r"https?:|//[a-z]|url\(|@import|\bimport\b|\bfetch\b|XMLHttp|WebSocket|sendBeacon", own)
        == []
    )
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|\bFunction\(", own) == []


def test_the_policy_allows_the_style_and_the_script_alone(evil_page: str) -> None:
    [policy] = [a["content"] or "" for _, a in Tags(evil_page).tags if "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    for tag, key in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", evil_page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{key} 'sha256-{digest}'" in policy


def test_every_file_of_the_template_is_used_and_short() -> None:
    folder = files("prunec.tools.page")
    present = {
        item.name: item.read_text()
        for item in folder.iterdir()
        if item.name.endswith((".js", ".css", ".html"))
    }
    assert set(present) == {*SCRIPTS, "page.css", "page.html"}
    assert {name for name, text in present.items() if len(text.splitlines()) > 300} == set()


def test_labels_and_panels_name_elements_that_exist() -> None:
    found = Tags(render_page({}))
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    named = [
        a[key]
        for _, a in found.tags
        for key in ("for", "aria-controls", "aria-labelledby", "aria-describedby")
        if key in a
    ]
    asked = re.findall(r"getElementById\(\"(\w+)\"\)|\bon\(\"(\w+)\"", "".join(found.texts.values()))
    assert {*named, *(one or other for one, other in asked)} <= set(ids)


def _check_in_browser(folder: Path) -> list[dict[str, Any]]:
    script, out = ROOT / "benchmarks" / "page.py", folder / "out.json"
    models = [str(evil_model(folder)), str(ROOT / "examples" / "digits.onnx")]
    done = subprocess.run(
        [sys.executable, str(script), *models, "--seconds", "0.2", "--json", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.is_file(), done.stderr
    found: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    return found


def test_the_scripts_run(tmp_path: Path) -> None:
    """In Chromium where there is one, all controls; else the syntax of the scripts, where there is Node."""
    browser = subprocess.run(
        [sys.executable, "-c", "import browser, sys; sys.exit(browser.find_browser() is None)"],
        cwd=ROOT / "benchmarks", check=False,
    )  # fmt: skip
    if browser.returncode == 0:
        rows = _check_in_browser(tmp_path)
        assert [(row["model"], row["nodes"], row["outcome"]) for row in rows] == [
            ("evil", 5, "ok"),
            ("digits", 38, "ok"),
        ]
    elif node := shutil.which("node"):
        script = tmp_path / "page.js"
        script.write_text("".join(files("prunec.tools.page").joinpath(name).read_text() for name in SCRIPTS))
        subprocess.run([node, "--check", str(script)], check=True)
