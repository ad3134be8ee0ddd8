"""Data for networks that the benchmarks train themselves: drawn digits, and text that ships with Python.

The images are made, not collected: the ten digits of a 5 x 7 font, each turned, sheared, scaled, moved and blurred at
random, with strokes across it and noise. The text is the language reference that ``help()`` prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FONT = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "01110 10001 00001 00110 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
SIZE = 16
"""Height and width of an image."""
NOISE, CLUTTER = 0.25, 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Samples for training, for calibration (a part of them, without labels), and held out.

    Attributes:
        train: inputs and labels.
        calibration: inputs.
        test: inputs and labels.
    """

    train: tuple[Array, Array]
    calibration: Array
    test: tuple[Array, Array]


def digits(*, train: int = 6000, calibration: int = 512, test: int = 2000, seed: int = 0) -> Split:
    """Images [samples, 1, 16, 16] in [0, 1] and labels [samples]."""
    rng = np.random.default_rng(seed)
    images, labels = _drawn(train + test, rng)
    return Split(
        train=(images[:train], labels[:train]),
        calibration=images[:calibration],
        test=(images[train:], labels[train:]),
    )


def _drawn(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    from scipy.ndimage import gaussian_filter1d, map_coordinates

    labels = rng.integers(10, size=count)
    font = np.pad(
        np.array([[list(map(int, row)) for row in glyph.split()] for glyph in FONT], float),
        ((0, 0), (4, 4), (4, 4)),
    )
    grid = (np.indices((SIZE, SIZE)) - (SIZE - 1) / 2)[:, None]  # [2, 1, height, width]
    angle, shear = rng.uniform(-0.4, 0.4, (2, count, 1, 1))
    scale = rng.uniform(0.5, 0.75, (count, 1, 1))
    move = rng.uniform(-1.5, 1.5, (2, count, 1, 1))
    y, x = (grid[0] - move[0]) * scale, (grid[1] - move[1]) * scale
    rows = np.cos(angle) * y - np.sin(angle) * x
    columns = np.sin(angle) * y + np.cos(angle) * x + shear * rows
    center = [(size - 1) / 2 for size in font.shape[1:]]
    which = np.broadcast_to(labels[:, None, None].astype(float), rows.shape)
    images = map_coordinates(font, [which, rows + center[0], columns + center[1]], order=1)
    across = rng.uniform(0, np.pi, (count, 1, 1))
    distance = np.abs(np.cos(across) * grid[0] + np.sin(across) * grid[1] - rng.uniform(-6, 6, (count, 1, 1)))
    images = np.maximum(images, CLUTTER * (distance < 0.5))
    images = gaussian_filter1d(gaussian_filter1d(images, 0.5, axis=1), 0.5, axis=2)
    images += NOISE * rng.standard_normal(images.shape)
    return np.clip(images, 0, 1).astype(np.float32)[:, None], labels.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text as numbers of its characters.

    Attributes:
        characters: the alphabet.
        train: numbers [length].
        test: numbers [length], of other pages.
    """

    characters: str
    train: Array
    test: Array


def text(*, held_out: float = 0.1) -> Text:
    """The topics of ``pydoc``, page by page; the last pages of the alphabet are held out."""
    from pydoc_data.topics import topics

    pages = [topics[name] for name in sorted(topics)]
    content = "\n\n".join(pages)
    characters = "".join(sorted(set(content)))
    number = {character: n for n, character in enumerate(characters)}
    numbers = np.array([number[c] for c in content], np.int64)
    border = int(len(numbers) * (1 - held_out))
    return Text(characters=characters, train=numbers[:border], test=numbers[border:])


def windows(numbers: Array, length: int, count: int, *, seed: int = 0) -> Array:
    """Pieces of a text, [count, length], from places drawn at random without an overlap between neighbours."""
    rng = np.random.default_rng(seed)
    starts = rng.permutation(len(numbers) // length)[:count] * length
    pieces: Array = numbers[starts[:, None] + np.arange(length)]
    return pieces
