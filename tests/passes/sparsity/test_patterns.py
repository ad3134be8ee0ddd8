"""Masks against a plain reading of what the patterns say, one weight at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparse_graphs import CASES

from prunec.ir.facts import infer_facts
from prunec.passes.sparsity.criteria import load_criterion
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.patterns import NM, Block, Pattern, Unstructured, is_sound, parse_pattern


@given(
    m=st.integers(2, 40),
    data=st.data(),
    groups=st.integers(1, 4),
    ties=st.booleans(),
)
def test_an_n_m_mask_keeps_the_largest_of_each_group(
    m: int, data: st.DataObject, groups: int, ties: bool
) -> None:
    n = data.draw(st.integers(1, m - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    shape = (2, 3, 2, groups * m)
    scores = rng.integers(0, 3, shape).astype(np.float32) if ties else rng.random(shape, np.float32)
    keep = NM(n, m).mask(scores)
    for row_scores, row_keep in zip(scores.reshape(-1, m), keep.reshape(-1, m), strict=True):
        order = sorted(range(m), key=lambda i: (-row_scores[i], i))
        assert set(np.flatnonzero(row_keep)) == set(order[:n])
    assert NM(n, m).violations(keep) == 0
    assert NM(n, m).violations(np.ones(shape)) == keep.size // m


@given(ratio=st.floats(0, 0.99), seed=st.integers(0, 999), ties=st.booleans())
def test_an_unstructured_mask_removes_the_lowest_share(ratio: float, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (1, 5, 3, 7)).astype(float) if ties else rng.random((1, 5, 3, 7))
    keep = Unstructured().mask(scores, ratio)
    assert np.count_nonzero(~keep) == round(ratio * scores.size)
    assert not keep.any() or keep.all() or scores[keep].min() >= scores[~keep].max()


@given(ratio=st.floats(0, 0.99), rows=st.integers(1, 3), columns=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_block_mask_removes_whole_blocks_of_the_lowest_means(
    ratio: float, rows: int, columns: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).random((2, 2 * rows, 3, 3 * columns))
    pattern = Block(rows, columns)
    keep = pattern.mask(scores, ratio)
    assert pattern.violations(keep) == 0
    means = {
        (g, r, p, c): scores[g, r * rows : (r + 1) * rows, p, c * columns : (c + 1) * columns].mean()
        for g in range(2) for r in range(2) for p in range(3) for c in range(3)
    }  # fmt: skip
    kept = {place for place in means if keep[place[0], place[1] * rows, place[2], place[3] * columns]}
    assert len(means) - len(kept) == round(ratio * len(means))
    gone = [means[place] for place in means if place not in kept]
    assert not gone or not kept or min(means[place] for place in kept) >= max(gone)


def test_masks_do_not_depend_on_the_layout_of_memory() -> None:
    scores = np.random.default_rng(0).random((1, 8, 9, 16))
    swapped = np.ascontiguousarray(scores.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    for pattern in (NM(2, 4), NM(3, 16), Unstructured(), Block(4, 4)):
        np.testing.assert_array_equal(pattern.mask(scores, 0.3), pattern.mask(swapped, 0.3))


@pytest.mark.parametrize(
    ("word", "pattern", "text"),
    [
        ("2:4", NM(2, 4), "2:4"),
        ("1:16", NM(1, 16), "1:16"),
        ("unstructured", Unstructured(), "unstructured"),
        ("block", Block(4, 4), "block:4x4"),
        ("block:1x16", Block(1, 16), "block:1x16"),
    ],
)
def test_words_are_patterns(word: str, pattern: Pattern, text: str) -> None:
    assert parse_pattern(word) == pattern
    assert str(pattern) == text
    assert is_sound(pattern)


@pytest.mark.parametrize("word", ["4:2", "4:4", "0:4", "2:", "block:0x4", "block:4", "blocks", "24", ""])
def test_other_words_are_none(word: str) -> None:
    with pytest.raises(ValueError, match="^" + word):
        parse_pattern(word)


@pytest.mark.parametrize(
    ("pattern", "shape", "reason"),
    [
        (NM(2, 4), (1, 8, 9, 6), "6 input channels are no multiple of 4"),
        (Block(4, 8), (1, 6, 1, 8), "6 output channels are no multiple of 4"),
        (Block(4, 8), (1, 8, 1, 12), "12 input channels are no multiple of 8"),
        (NM(2, 4), (1, 6, 9, 8), None),
        (Unstructured(), (1, 3, 1, 5), None),
    ],
)
def test_a_shape_that_does_not_fit_is_told(
    pattern: Pattern, shape: tuple[int, ...], reason: str | None
) -> None:
    assert pattern.misfit(shape) == reason
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            pattern.mask(np.ones(shape), 0.5)


def test_the_magnitude_of_quantised_weights_is_that_of_their_numbers() -> None:
    module = CASES["qdq-conv"].module
    (layer,) = find_layers(module.model, infer_facts(module.model)).layers
    points, steps = (module.graph.initializers[n].const_value.numpy() for n in ("r", "t"))  # type: ignore[union-attr]
    integers = layer.layout.unfold(layer.tensor.numpy()).astype(int)
    expected = np.abs(integers - points.astype(int)[None, :, None, None]) * steps[None, :, None, None]
    np.testing.assert_allclose(load_criterion("magnitude")().scores(layer), expected, rtol=1e-6)
