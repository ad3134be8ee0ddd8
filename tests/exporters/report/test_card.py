"""The model card: what was measured, what people say, what nobody said, and mistakes in what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import ROOT

import prunec
from prunec.exporters.report.card import plain, render_card
from prunec.exporters.report.evidence import Evidence
from prunec.exporters.report.fields import FIELDS, NOT_STATED, CardFields
from prunec.exporters.report.judged import compounding
from prunec.ir.diagnostics import UserError
from prunec.passes.manager import Result

EVALUATION: dict[str, Any] = {
    "schema": "prunec.evaluation/1",
    "model": {"name": "x", "sha256": None},
    "samples": 450,
    "data": "digits.npz",
    "metric": "top1",
    "rows": [
        {"name": "all", "where": "", "size": 450, "value": 0.99, "interval": [0.98, 1.0], "dense": 0.998,
         "drop": 0.008, "checks": [{"name": "min", "limit": 0.95, "status": "holds"}]},
        {"name": "eights", "where": "label = 8", "size": 44, "value": 0.86, "interval": [0.75, 0.95], "dense": 0.98,
         "drop": 0.12, "checks": [{"name": "max-drop", "limit": 0.05, "status": "fails"}]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def result() -> Result:
    return prunec.run(prunec.load(ROOT / "examples" / "digits.onnx"), "fold-norm, prune-channels{ratio=50%}")


def card(result: Result, fields: Any = None, **documents: Any) -> str:
    return render_card(Evidence.of(result, **documents), CardFields.of(fields))


def test_every_field_is_there_and_what_nobody_said_is_visibly_not_stated(result: Result) -> None:
    text = card(result)
    labels = [label for table in FIELDS.values() for label in table.values()]
    for label in labels:
        assert f"| {label} | *{NOT_STATED}* |" in text
    assert f"{len(labels)} fields that only people can fill in are *not stated*" in text


def test_fields_come_from_a_file(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "fields.toml"
    path.write_text(
        '[model]\nname = "Digits"\nversion = 3\n[use]\nintended = "reading | postcodes"\nusers = ["a", "b"]\n',
        encoding="utf-8",
    )
    result.card(tmp_path / "card.md", fields=path)
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert text.startswith("# Model card: Digits\n")
    assert "| Version | 3 |" in text
    assert "| Intended use | reading \\| postcodes |" in text
    assert "| Intended users | a; b |" in text
    assert "| Out of scope | *not stated* |" in text


def test_what_was_measured_is_there_with_its_limits(result: Result) -> None:
    text = card(result, evaluation=EVALUATION)
    assert (
        "| eights (label = 8) | 44 | 86.00 % | 75.00 - 95.00 % | 98.00 % | -12.00 points | drop at most 5.00 points: fails |"
        in text
    )
    limits = text.partition("## Limits\n")[2].partition("\n## ")[0]
    assert "- slice eights: drop at most 5.00 points: fails." in limits
    assert "- Fewer than 100 samples speak for slice eights; the intervals are wide." in limits
    assert "all samples:" not in limits
    assert "- Latency was not measured; fewer operations are not always less time." in limits
    assert "| parameters | 70,914 | 21,378 | -69.9 % |" in text
    assert str(result.verdicts[0]).split(";")[0] in text


def test_a_relative_drop_is_no_points(result: Result) -> None:
    row = {**EVALUATION["rows"][1], "relative": True}
    text = card(result, evaluation={**EVALUATION, "rows": [row]})
    assert "| -12.00 % of the dense model's | drop at most 5.00 % of the dense model's: fails |" in text


def test_numbers_beside_each_other_have_the_same_decimals(result: Result) -> None:
    row = {
        **EVALUATION["rows"][0],
        "value": 0.9998,
        "interval": [0.99951, 1.0],
        "dense": 0.99984,
        "drop": 4e-5,
    }
    text = card(result, evaluation={**EVALUATION, "rows": [row]})
    assert "| 450 | 99.98 % | 99.95 - 100.00 % | 99.98 % | none | at least 95 %: holds |" in text


@pytest.mark.parametrize(("lost", "said"), [(-1e-6, "0.00 points"), (-0.05, "-5.00 points")])
def test_a_loss_of_nothing_has_no_sign(lost: float, said: str) -> None:
    values = {"dense": 0.9, "pruned": 0.9, "quantised": 0.9, "both": 0.9 - lost, "limit": 0.01, "samples": 9}
    document = {"metric": "top1", "higher_is_better": True, "data": "d", "seed": 0, **values}
    assert compounding(document).bars[-1].lost == said


def test_one_of_a_kind_is_no_plural(result: Result) -> None:
    stated = {table: dict.fromkeys(names, "said") for table, names in FIELDS.items()}
    del stated["model"]["licence"]
    assert "1 field that only people can fill in is *not stated*" in card(result, stated)


def test_what_was_not_measured_is_a_limit(result: Result) -> None:
    limits = card(result).partition("## Limits\n")[2]
    assert limits.startswith("- No metric was measured: whether the model is still accurate is not known.\n")


def test_tables_have_cells_for_their_columns(result: Result) -> None:
    width = 0
    for line in card(result, evaluation=EVALUATION).splitlines():
        cells = line.replace("\\|", "").count("|")
        assert not line.startswith("|") or width in (0, cells), line
        width = cells if line.startswith("|") else 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<script>", "\\<script\\>"),
        ("two\nlines", "two lines"),
        ("&lt;", "&amp;lt;"),
        ("`x`", "\\`x\\`"),
    ],
)
def test_names_stay_text(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[usage]\nintended = 'x'", "unknown table: 'usage' (did you mean 'use'?)\n  = help: tables: model, use, context, data, manage"),
        ("[use]\nintented = 'x'", "unknown field in [use]: 'intented' (did you mean 'intended'?)\n  = help: fields of [use]: intended, users, out_of_scope"),
        ("use = 'x'", "'use' is a table: write [use] on a line of its own"),
        ("[use]\nintended = {a = 1}", "field use.intended takes text or a list of texts"),
        ("[use", "this is no TOML: "),
    ],
)  # fmt: skip
def test_mistakes_in_the_fields(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "fields.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        CardFields.of(path)
    assert str(caught.value).startswith(f"error: {path}: {message}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the card's fields: no such file or directory"):
        CardFields.of(tmp_path / "no.toml")
