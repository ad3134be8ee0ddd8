"""A sensitivity profile as a figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from profiles import profile

from prunec.exporters.report.plot import render_plot
from prunec.ir.diagnostics import UserError


def test_a_figure_names_layers_drops_and_values_that_are_no_numbers() -> None:
    drawn = render_plot(profile(), "svg").decode()
    assert "stem/Conv +1" in drawn and ".490" in drawn and "NaN" in drawn and "network/Conv" in drawn
    assert "a/very/long" not in drawn
    assert drawn == render_plot(profile(), "svg").decode()
    assert render_plot(profile(), "png").startswith(b"\x89PNG")


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


def test_the_name_of_a_figure_says_its_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a plot ends in .svg or .png, not '.pdf'"):
        profile().plot(tmp_path / "p.pdf")
