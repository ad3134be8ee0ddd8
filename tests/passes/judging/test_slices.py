"""Files of slices: what they mean, and every mistake with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunec.ir.diagnostics import UserError
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.evaluate import members_of
from prunec.passes.judging.slice_file import parse_slices, read_slices
from prunec.passes.judging.thresholds import Limits

LENGTH = np.array([3, 8, 2, 5, 5, 9, 1, 7])
LABEL = np.array([0, 3, 7, 1, 3, 2, 7, 0])
IDS = (np.arange(10) < LENGTH[:, None]).astype(np.int64)
IMAGES = np.linspace(0, 1, 8 * 4, dtype=np.float32).reshape(8, 1, 2, 2)
DATA = CalibrationData.of(
    {
        "length": LENGTH, "label": LABEL, "ids": IDS, "image": IMAGES,
        "source": np.array(list("aabbccab")), "age": np.array([1.0, np.nan, 3, 4, 5, 6, 7, 8]),
        "odd name": LENGTH,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("length > 5", LENGTH > 5),
        ("length > 5 AND NOT label = 3", (LENGTH > 5) & (LABEL != 3)),
        ("label in rare", np.isin(LABEL, [3, 7])),
        ("label not in rare or length between 3 and 5", ~np.isin(LABEL, [3, 7]) | (LENGTH >= 3) & (LENGTH <= 5)),
        ("source IN words", np.isin(list("aabbccab"), ["a", "c"])),
        ("source = 'in rare'", np.zeros(8, bool)),
        ("source like 'a%'", np.array(list("aabbccab")) == "a"),
        ("length >= QUANTILE_CONT(length, 0.75)", np.quantile(LENGTH, 0.75) <= LENGTH),
        ("length > avg(length)", LENGTH.mean() < LENGTH),
        ("ids_length = length", np.ones(8, bool)),
        ("image_mean > 0.5", IMAGES.mean(axis=(1, 2, 3)) > 0.5),
        ("age > 2", np.array([False, False, True, True, True, True, True, True])),
        ('"odd name" % 2 = 0', LENGTH % 2 == 0),
        ("true", np.ones(8, bool)),
    ],
)  # fmt: skip
def test_predicates_select_samples(where: str, expected: np.ndarray) -> None:
    sets = "[sets]\nrare = [3, 7]\nwords = ['a', 'c']\n"
    text = f"{sets}[slices.one]\nwhere = '''{where}'''"
    if not expected.any():
        with pytest.raises(
            UserError, match="slice 'one' is empty: its predicate holds for none of 8 samples"
        ):
            members_of(parse_slices(text), DATA)
        return
    assert members_of(parse_slices(text), DATA)["one"].tolist() == np.flatnonzero(expected).tolist()


def test_nan_is_no_match() -> None:
    found = members_of(parse_slices("[slices.one]\nwhere = 'age > 100 or length = 8'"), DATA)
    assert 1 in found["one"]
    found = members_of(parse_slices("[slices.one]\nwhere = 'age < 100'"), DATA)
    assert 1 not in found["one"]


WHOLE = """
metric = "f1"
undecided = "fail"
[all]
min = 0.5
[slices.long]
where = "length > 5"
max-drop = "2.5%"
min-size = 2
metric = "top1{label=length}"
[robustness.noise]
kind = "noise"
strength = 0.2
max-drop = 0.1
"""


def test_a_file_is_read_whole() -> None:
    file = parse_slices(WHOLE)
    assert (file.metric, file.undecided) == ("f1", "fail")
    whole, long, noise = file.slices
    assert whole.limits == Limits(minimum=0.5)
    assert long.limits == Limits(max_drop=0.025, relative=True, min_size=2)
    assert long.metric == "top1{label=length}"
    assert noise.perturbation is not None and noise.perturbation.strength == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "<slices>:1:"),
        ("[slices.a]\nwhere = 'true'\nwhere = 'true'", "cannot overwrite a value"),
        ("metrik = 'f1'", "<slices>:1:1: unknown key 'metrik' (did you mean 'metric'?)\n"
         "  1 | metrik = 'f1'\n    | ^^^^^^\n  = help: keys: metric, undecided, all, sets, slices, robustness"),
        ("[slices.a]\nwhere = 'true'\nmax_drop = 1", "<slices>:3:1: unknown key 'max_drop' in [slices.a] (did you mean 'max-drop'?)"),
        ("[slices.a]\nmin = 1", "<slices>:1:1: 'where' of [slices.a] is missing"),
        ("[slices.a]\nwhere = 3", "<slices>:2:1: 'where' of [slices.a] takes text, got 3"),
        ("[slices.a]\nwhere = 'true'\nmin = 'high'", "<slices>:3:1: 'min' takes a number, got 'high'"),
        ("[slices.a]\nwhere = 'true'\nmax-drop = 'high'", "'max-drop' takes a number or a share such as \"2%\", got 'high'"),
        ("[slices.a]\nwhere = 'true'\nmin-size = 0", "<slices>:3:1: 'min-size' takes a whole number from 1, got 0"),
        ("[slices.a]\nwhere = 'true'\nmetric = 'top3'", "<slices>:3:1: unknown metric 'top3' (did you mean 'top5'?)"),
        ("[slices.all]\nwhere = 'true'", "<slices>:1:2: [slices.all]: 'all' is the whole set\n"),
        ("[all]\nmetric = 'f1'", "<slices>:2:1: unknown key 'metric' in [all]\n"),
        ("[slices]\na = 3", "<slices>:2:1: 'a' of [slices] is a table: write [slices.a]"),
        ("slices = 3", "<slices>:1:1: 'slices' is a table: write [slices]"),
        ("undecided = 'maybe'", "<slices>:1:1: 'undecided' takes \"pass\" or \"fail\", got 'maybe'"),
        ("[sets]\nrare = 3", "<slices>:2:1: set 'rare' takes a list of numbers or words, got 3"),
        ("[sets]\nrare = []", "<slices>:2:1: set 'rare' takes a list of numbers or words, got []"),
        ("[robustness.a]\nkind = 'nois'", "<slices>:2:1: 'kind' of [robustness.a] is 'nois' (did you mean 'noise'?)"),
        ("[robustness.a]\nstrength = 3", "'kind' of [robustness.a] is missing\n"),
        ("[robustness.a]\nkind = 'noise'\nstrength = -3",
         "<slices>:3:1: 'strength' of 'noise' takes a number of at least 0, got -3\n  3 | strength = -3\n"),
        ("[robustness.a]\nkind = 'blur'\nstrength = inf", "takes a number of at least 0, got inf"),
        ("a = 1\nb = [\n\n", "<slices>:2:6: invalid value\n  2 | b = [\n"),
        ("[robustness.a]\nkind = 'missing'\nstrength = 3", "<slices>:3:1: 'strength' of 'missing' takes a number from 0 to 1, got 3"),
        ("[robustness.a]\nkind = 'pgd'\nsteps = 0.5", "'steps' takes a whole number from 1, got 0.5"),
        ("[robustness.a]\nkind = 'noise'\nsteps = 3", "unknown key 'steps' in [robustness.a]"),
        ("[slices.a]\nwhere = 'true'\n[robustness.a]\nkind = 'noise'", "'a' names two slices"),
    ],
)  # fmt: skip
def test_mistakes_in_a_file_are_shown_in_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_slices(text)
    assert message in str(caught.value) and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("lenght > 4", "<slices>:2:10: unknown column 'lenght' (did you mean 'length'?)\n"
         "  2 | where = \"lenght > 4\"\n    |          ^^^^^^\n"
         "  = help: columns: length, label, source, age, odd name, ids_length, image_mean, image_std"),
        ("label in rar", "<slices>:2:19: unknown set 'rar'\n"),
        ("length >", "<slices>:2:17: this is no predicate\n"),
        ("length > 4)", "<slices>:2:20: "),
        ("length = = 3", "<slices>:2:17: this is no predicate\n"),
        ("nothing(length)", "<slices>:2:10: unsupported function 'nothing'"),
        ("length + 1", "<slices>:2:10: this predicate gives numbers, not true or false\n"),
        ("source", "this predicate gives words, not true or false\n"),
        ("length > (select 3)", "<slices>:2:20: a predicate reads columns, and holds no query\n"),
        ("label in (select 1)", "<slices>:2:20: a predicate reads columns, and holds no query\n"),
        ("read_csv('x') = 1", "unsupported function 'read_csv'"),
        ("length like 'a'", "<slices>:2:10: this predicate fails: "),
        ("__import__('os')", "<slices>:2:10: "),
        ("length > 99", "<slices>:2:10: slice 'one' is empty: its predicate holds for none of 8 samples"),
    ],
)  # fmt: skip
def test_mistakes_in_predicates_are_shown_in_place(where: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        members_of(parse_slices(f'[slices.one]\nwhere = "{where}"'), DATA)
    assert message in str(caught.value) and "^" in str(caught.value)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "metric = 'f1'\n[sets]\nrare = [3]"])
def test_a_file_without_slices_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_slices(tmp_path / "empty.toml")
    assert "empty.toml: no slice is in this file\n  = help: name one: [slices.NAME]" in str(caught.value)


def test_a_predicate_that_is_written_with_escapes_is_shown_by_itself() -> None:
    with pytest.raises(UserError) as caught:
        members_of(parse_slices('[slices.one]\nwhere = "lenght > \\u0034"'), DATA)
    assert str(caught.value).startswith("error: <slices>, where:1:1: unknown column 'lenght'")


def test_columns_are_derived_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunec.passes.judging.columns import column

    arrays: dict[str, Any] = dict(DATA.arrays)
    whole = {name: column(arrays, name) for name in ("ids_length", "image_mean", "image_std")}
    monkeypatch.setattr("prunec.passes.judging.columns._STEP", 40)
    for name, expected in whole.items():
        np.testing.assert_allclose(column(arrays, name), expected)
    np.testing.assert_allclose(whole["image_std"], IMAGES.reshape(8, -1).std(axis=1), rtol=1e-5)
