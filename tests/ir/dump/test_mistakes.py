"""Mistakes in a dump are told with line, column and the word that was likely meant; nothing else is raised."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_model import rich

from prunec.ir.diagnostics import UserError
from prunec.ir.dump.constants import Constants
from prunec.ir.dump.file import dump_text
from prunec.ir.dump.model import parse_dump
from prunec.ir.load import load

GOOD = """\
model <ir_version=8, data="net.prunec.data">
graph @net {opset=17} (%x: f32[N, 4]) -> (%y: f32[N, 2]) {
  @w: f32[4, 2] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}
  %h = MatMul(%x, @w) : (f32[N, 4], f32[4, 2]) -> f32[N, 2]
  %y = Clip(%h, _, _)
}
"""

MISTAKES = {
    "op": (
        "MatMul(", "MatMull(",
        """\
error: net.prunec:4:8: ONNX has no op 'MatMull' (did you mean 'MatMul'?)
  4 |   %h = MatMull(%x, @w) : (f32[N, 4], f32[4, 2]) -> f32[N, 2]
    |        ^^^^^^^
  = help: an op of another domain is written DOMAIN::MatMull""",
    ),
    "keyword": (
        "graph @net", "grap @net",
        """\
error: net.prunec:2:1: expected 'function' or 'graph' in the dump, found 'grap' (did you mean 'graph'?)
  2 | grap @net {opset=17} (%x: f32[N, 4]) -> (%y: f32[N, 2]) {
    | ^^^^""",
    ),
    "name": (
        "Clip(%h,", "Clip(%hh,",
        """\
error: net.prunec:5:13: 'hh' is defined nowhere (did you mean 'h'?)
  5 |   %y = Clip(%hh, _, _)
    |             ^^^""",
    ),
    "element type": (
        "@w: f32[", "@w: f_32[",
        """\
error: net.prunec:3:7: unknown element type 'f_32' (did you mean 'f32'?)
  3 |   @w: f_32[4, 2] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}
    |       ^^^^""",
    ),
    "count": (
        "1.0, 2.0, 3.0", "1.0, 3.0",
        """\
error: net.prunec:3:19: 7 values for 8 elements of [4, 2]
  3 |   @w: f32[4, 2] = {1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}
    |                   ^""",
    ),
    "property": (
        "ir_version=8", "ir_versoin=8",
        """\
error: net.prunec:1:8: property 'ir_versoin' of the head is unknown (did you mean 'ir_version'?)
  1 | model <ir_versoin=8, data="net.prunec.data">
    |        ^^^^^^^^^^""",
    ),
    "no head": (
        'model <ir_version=8, data="net.prunec.data">\n', "",
        """\
error: net.prunec:1:1: this dump is made to be read: it has no constants
  1 | graph @net {opset=17} (%x: f32[N, 4]) -> (%y: f32[N, 2]) {
    | ^^^^^
  = help: write one that loads with: prunec inspect MODEL --dump-to net.prunec""",
    ),
    "unclosed": (
        "\n}\n", "\n",
        """\
error: net.prunec:2:58: this '{' is never closed
  2 | graph @net {opset=17} (%x: f32[N, 4]) -> (%y: f32[N, 2]) {
    |                                                          ^""",
    ),
    "sigil": (
        "%h = Mat", "h = Mat",
        """\
error: net.prunec:4:3: expected an output (%x) in a node, found 'h'
  4 |   h = MatMul(%x, @w) : (f32[N, 4], f32[4, 2]) -> f32[N, 2]
    |   ^""",
    ),
    "quote": (
        "%h = Mat", '%"h = Mat',
        """\
error: net.prunec:4:3: this double quote is not closed on its line
  4 |   %"h = MatMul(%x, @w) : (f32[N, 4], f32[4, 2]) -> f32[N, 2]
    |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_show_their_place(mistake: str) -> None:
    """The whole rendered message."""
    old, new, message = MISTAKES[mistake]
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        parse_dump(GOOD.replace(old, new).encode(), "net.prunec")
    assert caught.value.render() == message


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}", "0x00", "2 hexadecimal digits for 32 bytes of [4, 2]"),
        ("f32[4, 2] = {", "f32[99999999999, 99999999999] = {", "8 values for 9,999,999,999,800,000,000,001 elements"),
        ("f32[4, 2] = {", "f32[4, -2] = {", "a constant cannot have -2 elements along an axis"),
        ("f32[4, 2] = {", "i8[4, 2] = {", "this is no i8 number"),
        ("{1.0,", "{true,", "this is no f32 number"),
        ("Clip(%h, _, _)", "Clip(%h, _, _) {a=1, a=2}", "attribute 'a' is given twice"),
        ("Clip(%h, _, _)", "Clip(%h, _, _) {a=[]}", "an empty list must say its kind"),
        ("Clip(%h, _, _)", "Clip(%h, _, _) {a=word}", "'word' is no value of an attribute"),
        ("Clip(%h, _, _)", "Clip(%h, _, _) {a=99999999999999999999999}", "must be a whole number of 64 bits"),
        ("opset=17", "opset=1.5", "must be a whole number of 64 bits, not '1.5'"),
        ("-> f32[N, 2]\n", "-> (f32[N, 2], none)\n", "2 types for 1 outputs"),
        ('"net.prunec.data"', '"\\ud800"', "unknown property"),
        ("ir_version=8", 'ir_version="8"', "has a value of the wrong kind"),
        ("ir_version=8", 'doc="\\ud800"', "is not Unicode text"),
        ("%x: f32[N", "%x: " + "seq(" * 80 + "f32[N", "types are nested too deep"),
        ("ir_version=8", "metadata=" + "{\"a\":" * 8, "nested too deep"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(old: str, new: str, problem: str) -> None:
    """Sizes are checked before memory is taken, and nesting before the stack is full."""
    if problem == "unknown property":
        text = GOOD.replace(old, new).replace("= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}", "= data[0]")
        problem = "is not Unicode text"
    else:
        text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(UserError, match="error") as caught:
        parse_dump(text.encode(), "net.prunec")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("../secret", "points outside of the model's folder"),
        ("/etc/passwd", "points outside of the model's folder"),
        ("missing.data", "which does not exist"),
        ("short.data", "has only 3 bytes"),
        ("link.data", "through a symbolic link"),
    ],
)
def test_the_data_file_stays_in_its_folder(tmp_path: Path, location: str, problem: str) -> None:
    """The same rules as for ONNX's external data."""
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"x" * 100)
    (folder / "short.data").write_bytes(b"abc")
    (folder / "link.data").symlink_to(tmp_path / "secret")
    text = GOOD.replace("net.prunec.data", location)
    (folder / "net.prunec").write_text(text.replace("{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}", "data[0]"))
    with pytest.raises(UserError) as caught:
        load(folder / "net.prunec")
    assert problem in caught.value.message


def test_no_data_file_is_named() -> None:
    """A constant in a data file that the head does not name."""
    text = "model <ir_version=8>\ngraph @n {opset=17} () -> (%y) {\n  @w: f32[1] = data[0]\n}\n"
    with pytest.raises(UserError, match="the head of the dump names none"):
        parse_dump(text.encode(), "net.prunec")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8."""
    (tmp_path / "net.prunec").write_bytes(b"model \xff")
    with pytest.raises(UserError, match="byte 6 is not UTF-8 text"):
        load(tmp_path / "net.prunec")


RICH = dump_text(load(rich()), Constants(inline=8), data="net.prunec.data")


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, len(RICH) - 1),
    st.integers(0, 12),
    st.text(st.sampled_from('%@$"{}[]()<>=,:.~?*+-#/\\ \n09afxgN_é'), max_size=4),
)
def test_damage_is_a_users_mistake(start: int, length: int, put: str) -> None:
    """Whatever is cut out or put in, the dump loads or is refused in words."""
    text = RICH[:start] + put + RICH[start + length :]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.prunec.data").write_bytes(bytes(2048))
        path = Path(folder) / "net.prunec"
        path.write_text(text, encoding="utf-8")
        try:
            load(path)
        except UserError as error:
            assert str(error)
