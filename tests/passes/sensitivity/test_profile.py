"""Profiles as files, the rows of them that cuts find, and ratios as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from profiles import profile

from prunec.ir.diagnostics import UserError
from prunec.passes.sensitivity.matching import Rows
from prunec.passes.sensitivity.profile import Point, Profile
from prunec.passes.sensitivity.ratios import parse_ratios


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    profile().save(path)
    assert Profile.load(path) == profile()
    assert len([line for line in path.read_text().splitlines() if '"curve"' in line]) == 3


def test_a_drop_is_how_much_worse_a_point_is() -> None:
    point = Point(ratio=0.2, removed=2, value=0.9)
    assert profile().drop(point) == pytest.approx(0.09)
    assert profile(higher_is_better=False).drop(point) == pytest.approx(-0.09)
    assert profile().drop(Point(ratio=0.2, removed=2, value=None)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "p.json: this is no JSON"),
        ("[]", "p.json: this is no sensitivity profile: its schema is not prunec.sensitivity/1"),
        (profile().to_json().replace('"dense"', '"dance"'), "damaged: key 'dense' is missing"),
        (profile().to_json().replace('"units":10', '"units":"ten"'), "damaged: invalid literal"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        Profile.load(path)
    assert message in str(caught.value)
    assert caught.value.message.count("\n") == 0


def test_a_file_that_is_no_text_is_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\xff\xfe")
    with pytest.raises(UserError) as caught:
        Profile.load(path)
    assert caught.value.message == "cannot read the profile: not UTF-8 text: byte 1 is 0xff"


@pytest.mark.parametrize(
    ("axes", "row"),
    [
        ({"narrow.weight:0", "classifier.weight:1"}, 0),
        ({"wide.weight:0", "classifier.weight:1"}, 1),
        ({"classifier.weight:1"}, None),
        ({"classifier.weight:1", "new.weight:0"}, None),
        ({"tied:0", "tied:1"}, 2),
        (set(), None),
    ],
)
def test_a_weight_that_several_rows_share_tells_none_of_them(axes: set[str], row: int | None) -> None:
    rows = Rows([
        {"narrow.weight:0", "narrow.bias:0", "classifier.weight:1"},
        {"wide.weight:0", "wide.bias:0", "classifier.weight:1"},
        {"tied:0", "tied:1"},
        {"tied:1", "classifier.weight:1"},
    ])  # fmt: skip
    assert rows.find(axes) == row


@pytest.mark.parametrize(
    ("text", "ratios"),
    [
        ("0.2", (0.2,)),
        ("20%", (0.2,)),
        ("0.5,0.1,0.5", (0.1, 0.5)),
        ("0.1..0.4", (0.1, 0.2, 0.3, 0.4)),
        ("0.15..0.3", (0.15, 0.25)),
    ],
)
def test_ratios(text: str, ratios: tuple[float, ...]) -> None:
    assert parse_ratios(text) == ratios


@pytest.mark.parametrize(
    "text",
    ["", "two", "0", "1.0", "0.7..0.1", "0.5..1.2", "0.1..inf", "nan..0.5", "0.1..", "nan", "0.1,,0.2"],
)
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no list of ratios between 0 and 1"):
        parse_ratios(text)
