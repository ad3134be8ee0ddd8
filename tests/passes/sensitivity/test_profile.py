"""Profiles as files and as figures, and ratios as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunec.ir.diagnostics import UserError
from prunec.passes.sensitivity.matching import Rows
from prunec.passes.sensitivity.plot import render_plot
from prunec.passes.sensitivity.profile import GroupCurve, Point, Profile
from prunec.passes.sensitivity.ratios import parse_ratios

CURVES = {
    "stem/Conv": (0.99, 0.9, 0.5),
    "a/very/long/name/of/a/layer/in/the/middle/of/the/network/Conv": (0.99, 0.98, None),
    "head/Gemm": (0.99, 0.99, 0.99),
}


def profile(**changes: object) -> Profile:
    groups = [
        GroupCurve(
            id=f"g{number}",
            groups=(f"g{number}",),
            layers=(name, "next/Conv"),
            tensors=(f"{name}.weight:0",),
            units=10,
            channels=1,
            macs_per_unit=1000 * number,
            parameters_per_unit=20,
            curve=tuple(
                Point(ratio=r, removed=int(10 * r), value=v)
                for r, v in zip((0.2, 0.4, 0.6), values, strict=True)
            ),
        )
        for number, (name, values) in enumerate(CURVES.items(), start=1)
    ]
    known: dict[str, object] = {
        "model_name": "net.onnx",
        "model_sha256": "12ab",
        "data_name": "data.npz",
        "samples": 100,
        "metric": "top1",
        "higher_is_better": True,
        "dense": 0.99,
        "criterion": "l2",
        "unit": "head",
        "seed": 0,
        "version": "0.1.0",
        "groups": tuple(groups),
    }
    return Profile(**(known | changes))  # type: ignore[arg-type]


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


def test_small_drops_of_a_figure_are_told_apart() -> None:
    """Where all drops are small, cells of different colours hold different numbers, and ticks do not touch."""
    small = profile(dense=0.999)
    curve = tuple(
        replace(point, value=0.999 - drop)
        for point, drop in zip(small.groups[0].curve, (0.00031, 0.00042, 0.0044), strict=True)
    )
    drawn = render_plot(replace(small, groups=(replace(small.groups[0], curve=curve),)), "svg").decode()
    for text in (".00031", ".00042", ".0044", ">0.0031<", ">0.012<", ">0.05<"):
        assert text in drawn, text


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


def test_a_figure_names_layers_drops_and_values_that_are_no_numbers() -> None:
    drawn = render_plot(profile(), "svg").decode()
    assert "stem/Conv +1" in drawn and ".490" in drawn and "NaN" in drawn and "network/Conv" in drawn
    assert "a/very/long" not in drawn
    assert drawn == render_plot(profile(), "svg").decode()
    assert render_plot(profile(), "png").startswith(b"\x89PNG")


def test_the_name_of_a_figure_says_its_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a plot ends in .svg or .png, not '.pdf'"):
        profile().plot(tmp_path / "p.pdf")


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
