"""Optimisation profiles: their text, their defaults, and what does not fit."""

from __future__ import annotations

import pytest
from engine_models import model

from prunec.exporters.tensorrt.profiles import Profile, choose_profiles, parse_profile
from prunec.ir.diagnostics import UserError


@pytest.mark.parametrize("text", ["x:1x3:8x3:64x3", "input:0:1x3:8x3:64x3", "x:1:8:64"])
def test_text_and_back(text: str) -> None:
    assert str(parse_profile(text)) == text


def test_an_equals_sign_will_do() -> None:
    assert parse_profile("x=1x3:8x3:64x3") == Profile(name="x", min=(1, 3), opt=(8, 3), max=(64, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "'x' is no profile"),
        ("x:1x3:8x3", "'x:1x3:8x3' is no profile"),
        ("x:1xx3:8x3:8x3", "'x:1xx3:8x3:8x3' is no profile: a size is missing"),
        ("x:1x3:8:8x3", "the shapes of profile 'x:1x3:8:8x3' have 2 and 1 and 2 axes"),
        ("x:8:4:9", "the shapes of profile 'x:8:4:9' do not go from small to large on every axis"),
        ("x:0:4:9", "the shapes of profile 'x:0:4:9' do not go from small to large on every axis"),
    ],
)
def test_text_that_is_none(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_profile(text)
    assert caught.value.message == message


def test_defaults_give_the_same_symbol_the_same_sizes_and_are_told() -> None:
    profiles, lines = choose_profiles(model("dynamic").graph, ())
    assert [str(profile) for profile in profiles] == [
        "x:1x16x64x64:8x16x224x224:64x16x512x512",
        "extra:1x8:8x8:64x8",
    ]
    assert lines[0] == f"no profile is given for input `x`: {profiles[0]}"
    assert len(lines) == 2


def test_given_profiles_come_before_defaults() -> None:
    given = "x:1x16x8x8:2x16x8x8:4x16x16x16"
    profiles, lines = choose_profiles(model("dynamic").graph, [given])
    assert [str(profile) for profile in profiles] == [given, "extra:1x8:8x8:64x8"]
    assert [line.split("`")[1] for line in lines] == ["extra"]


def test_inputs_without_dynamic_axes_need_none() -> None:
    assert choose_profiles(model("cnn").graph, ()) == ((), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y:1x16x8x8:1x16x8x8:1x16x8x8", "is for no input of the model"),
        ("extr:1x8:1x8:1x8", r"is for no input of the model \(did you mean 'extra'\?\)"),
        ("extra:1:1:1", "has 1 axes, input `extra` has 2"),
        ("extra:1x4:1x8:1x8", "axis 1 of input `extra` is always 8"),
    ],
)
def test_profiles_that_fit_no_input(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_profiles(model("dynamic").graph, [text])
