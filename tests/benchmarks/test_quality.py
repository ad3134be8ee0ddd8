"""The data and the scores of the quality benchmark, and that its stored numbers are those that are promised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import quality
import specimens

RESULTS = Path(quality.__file__).parent / "results" / "quality.json"


def test_drawn_digits_are_the_same_every_time_and_differ_from_each_other() -> None:
    one, two = (specimens.digits(train=40, calibration=8, test=20) for _ in range(2))
    images, labels = one.train
    assert images.shape == (40, 1, 16, 16)
    assert images.dtype == np.float32
    assert np.array_equal(images, two.train[0])
    assert 0 <= images.min() < images.max() <= 1
    assert set(labels) <= set(range(10))
    assert np.array_equal(one.calibration, images[:8])
    assert len(np.unique(np.concatenate([images, one.test[0]]), axis=0)) == 60


def test_a_digit_looks_like_its_class() -> None:
    """The nearest mean image is right far more often than chance, and noise keeps it from being always right."""
    drawn = specimens.digits(train=2000, calibration=8, test=500)
    images, labels = drawn.train
    means = np.stack([images[labels == label].mean(axis=0) for label in range(10)])
    distances = np.square(drawn.test[0][:, None] - means).sum(axis=(2, 3, 4))
    accuracy = np.mean(distances.argmin(axis=1) == drawn.test[1])
    assert 0.4 < accuracy < 0.95


def test_windows_do_not_overlap() -> None:
    found = specimens.windows(np.arange(1000), 65, 10)
    assert found.shape == (10, 65)
    assert len(np.unique(found)) == 650
    assert (np.diff(found, axis=1) == 1).all()


def test_text_is_split_in_pages_that_share_an_alphabet() -> None:
    text = specimens.text()
    assert max(text.train.max(), text.test.max()) == len(text.characters) - 1
    assert 0.08 < len(text.test) / len(text.train) < 0.15


def test_perplexity_of_even_odds_is_the_number_of_classes() -> None:
    labels = np.array([[0, 3], [2, 1]])
    assert quality.accuracy_or_perplexity(np.zeros((2, 2, 7)), labels) == pytest.approx(7)
    sure = np.where(np.arange(4) == labels[..., None], 50.0, 0.0)
    assert quality.accuracy_or_perplexity(sure, labels) == pytest.approx(1)
    assert quality.accuracy_or_perplexity(np.eye(3), np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_stored_results_reach_what_is_promised() -> None:
    rows = json.loads(RESULTS.read_text())["rows"]
    assert quality.failures(rows) == []
    for row in rows:
        if row.get("repair") == "compensate":
            [plain] = [
                other
                for other in rows
                if (other["model"], other.get("ratio"), other["criterion"], other.get("repair"))
                == (row["model"], row["ratio"], "l2", None)
            ]
            assert row["parameters"] == pytest.approx(plain["parameters"], rel=0.05)


def test_a_number_that_is_missed_is_told() -> None:
    about = {"model": "vit", "ratio": 0.3, "criterion": "l2"}
    rows = [{**about, "repair": None, "kept": 0.9}, {**about, "repair": "compensate", "kept": 0.94}]
    assert quality.failures(rows) == ["vit: 94.0% kept, at least 95% and more than plain"]
