"""Calibration data against the inputs of a model: how they are cut into runs, and every mistake as it is told."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import UserError
from prunec.passes.calibration.data import CalibrationData, Feeds

IMAGE = "net (float[N,3,8,8] image) => (float[N,3,8,8] y) { y = Relu(image) }"
TOKENS = "net (int64[N,L] ids, int64[N,L] mask) => (int64[N,L] y) { y = Add(ids, mask) }"
BATCH_4 = "net (float[4,3] x) => (float[4,3] y) { y = Relu(x) }"
STATE = "net (float[1,3] x, float[2,1,3] state, int64 rate) => (float[2,1,3] y) { y = Add(x, state) }"
TWO_BATCHES = "net (float[1,3] x, float[2,3] state) => (float[2,3] y) { y = Add(x, state) }"
BFLOAT = "net (bfloat16[N,3] x) => (bfloat16[N,3] y) { y = Relu(x) }"
STRINGS = "net (string[N] word) => (string[N] y) { y = Identity(word) }"


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def with_nan(samples: int, *bad: int) -> np.ndarray:
    array = zeros(samples, 3, 8, 8)
    array[list(bad), 0, 0, 0] = np.nan
    return array


def bind(text: str, arrays: dict[str, Any], **options: int) -> Feeds:
    return CalibrationData.of(arrays, name="calib.npz").bind(graph(text), **options)


def test_samples_are_cut_into_runs_in_order() -> None:
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    feeds = bind(IMAGE, {"image": images, "label": np.arange(40)}, batch=16)
    assert (len(feeds), feeds.batch, feeds.samples, feeds.fitting) == (8, 5, 40, 7)
    assert all(set(run) == {"image"} for run in feeds)
    assert np.array_equal(np.concatenate([run["image"] for run in feeds]), images)


def test_many_samples_are_cut_into_runs_of_the_batch_size_and_the_last_is_smaller() -> None:
    feeds = bind(IMAGE, {"image": zeros(70, 3, 8, 8)}, batch=8)
    assert [len(run["image"]) for run in feeds] == [8] * 8 + [6]


def test_a_batch_that_the_model_fixes_leaves_samples_out() -> None:
    feeds = bind(BATCH_4, {"x": zeros(15, 3)})
    assert (len(feeds), feeds.samples, feeds.fitting) == (3, 12, 2)
    assert all(run["x"].shape == (4, 3) for run in feeds)


@pytest.mark.parametrize(("samples", "size"), [(1, 1), (9, 9), (21, 16)])
def test_runs_of_every_sample_have_one_size(samples: int, size: int) -> None:
    images = np.arange(samples, dtype=np.float32)[:, None, None, None] * np.ones((3, 8, 8), np.float32)
    feeds = bind(IMAGE, {"image": images}, every=True)
    assert {len(run["image"]) for run in feeds} == {size} and feeds.samples == samples
    assert np.array_equal(np.concatenate([run["image"] for run in feeds])[:samples], images)


def test_stacks_of_whole_inputs_are_run_one_at_a_time() -> None:
    arrays = {"x": zeros(5, 3), "state": zeros(5, 2, 1, 3), "rate": np.arange(5)}
    feeds = bind(STATE, arrays)
    assert [run["rate"] for run in feeds] == list(range(5))
    assert {name: array.shape for name, array in feeds[0].items()} == {
        "x": (1, 3),
        "state": (2, 1, 3),
        "rate": (),
    }


@pytest.mark.parametrize(
    ("text", "name", "array", "expected"),
    [
        (IMAGE, "image", zeros(9, 3, 8, 8, dtype=np.uint8), np.float32),
        (IMAGE, "image", zeros(9, 3, 8, 8, dtype=np.float16), np.float32),
        (BFLOAT, "x", zeros(9, 3), ml_dtypes.bfloat16),
        (STRINGS, "word", np.array(["a"] * 9), object),
    ],
)
def test_safe_conversions_are_made(text: str, name: str, array: np.ndarray, expected: Any) -> None:
    assert bind(text, {name: array})[0][name].dtype == expected


@pytest.mark.parametrize(
    ("text", "arrays", "message"),
    [
        (IMAGE, {}, "there are no arrays in the calibration data"),
        (IMAGE, {"image": zeros(0, 3, 8, 8)}, "too few samples: 0"),
        (IMAGE, {"image": zeros(1, 3, 8, 8)}, "too few samples: 1, of which one is held out"),
        (BATCH_4, {"x": zeros(7, 3)}, "too few samples: 7, and the model runs 4 at a time"),
        (IMAGE, {"image": zeros(9, 3, 8, 8), "label": zeros(8)}, "array `image` has 9 samples, array `label` has 8"),
        (IMAGE, {"image": np.float32(1)}, "array `image` is a single value; the first axis of every array is its samples"),
        (IMAGE, {"image": np.array([None] * 9)}, "array `image` holds Python objects, not numbers"),
        (IMAGE, {"images": zeros(9, 3, 8, 8), "label": zeros(9)},
         "no array is named as the graph input `image`\n  = note: arrays: images, label\n"
         "  = note: graph inputs: image\n  = help: is it `images`? rename that array to `image`"),
        (IMAGE, {"x": zeros(9, 3, 8, 8)}, "  = help: is it `x`? rename that array to `image`"),
        (IMAGE, {"image": zeros(9, 8, 8)},
         "array `image` of shape [9, 8, 8] does not fit the graph input [N, 3, 8, 8]: it has 3 axes, not 4"),
        (IMAGE, {"image": zeros(9, 1, 8, 8)},
         "array `image` of shape [9, 1, 8, 8] does not fit the graph input [N, 3, 8, 8]: axis 1 is 1, not 3"),
        (STATE, {"x": zeros(5, 3), "state": zeros(5, 2, 2, 3), "rate": np.arange(5)},
         "array `state` of shape [5, 2, 2, 3] does not fit the graph input [2, 1, 3]: axis 2 is 2, not 1"),
        (TOKENS, {"ids": zeros(9, 5, dtype=int), "mask": zeros(9, 6, dtype=int)},
         "array `mask` of shape [9, 6] does not fit the graph input [N, L]: `L` is 5 in `ids` and 6 here"),
        (TWO_BATCHES, {"x": zeros(6, 3), "state": zeros(6, 3)},
         "the graph inputs take different numbers of samples: 1 of `x`, 2 of `state`"),
        (IMAGE, {"image": zeros(9, 3, 8, 8, dtype=np.float64)},
         "array `image` is of type float64, the graph input takes float32, and that conversion may lose something\n"
         "  = help: convert it yourself: image.astype(np.float32)"),
        (TOKENS, {"ids": zeros(9, 5), "mask": zeros(9, 5)}, "array `ids` is of type float32, the graph input takes int64"),
        (STRINGS, {"word": np.arange(9)}, "array `word` is of type int64, the graph input takes strings"),
        (IMAGE, {"image": with_nan(20, 3, 7)},
         "2 of 20 samples of array `image` hold NaN or infinite values, the first is sample 3"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        bind(text, arrays)
    assert caught.value.message == caught.value.message.splitlines()[0]
    assert f"error: calib.npz: {message}" in str(caught.value) or f"\n{message}" in str(caught.value)


def test_nan_is_found_in_any_part_of_a_large_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunec.passes.calibration.checks._LOOK", 2 * zeros(1, 3, 8, 8).nbytes)
    with pytest.raises(UserError, match=r"2 of 9 samples .* the first is sample 4"):
        bind(IMAGE, {"image": with_nan(9, 4, 8)})


def test_a_run_refuses_data_that_do_not_fit_before_it_begins() -> None:
    begun: list[str] = []
    with pytest.raises(UserError, match="axis 1 is 4, not 3"):
        prunec.run(graph(IMAGE), "canonicalize", data={"image": zeros(9, 4, 8, 8)}, progress=begun.append)
    assert begun == []
