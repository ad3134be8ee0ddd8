"""Arrays by name from what a user has: ``.npz``, a table of values and files, or a function.

=============================  ==================================================================
``data.npz``                   arrays as ``numpy.savez`` writes them (:mod:`prunec.ir.npz`)
``data.csv``, ``data.parquet``  one row a sample; a column holds values, or paths of files with the
                               samples (:mod:`prunec.ir.manifest`)
``package.module:function``    a function without arguments that gives a mapping of arrays, or
                               yields such mappings batch by batch
=============================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.callables import load_callable, names_callable, type_of, user_code
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.npz import ArrayFile

Array = NDArray[Any]

TABLES = (".csv", ".parquet")
"""Endings of manifests."""


def read_data(text: str) -> Mapping[str, Array]:
    """The arrays of a file or of a function; first axis = samples.

    Args:
        text: the path of an ``.npz``, ``.csv`` or ``.parquet`` file, or ``package.module:function``.

    Raises:
        UserError: it cannot be read; the message names the file, row and column, or the line of the function.
    """
    path = Path(text)
    if names_callable(text) and not path.exists():
        return called_data(text)
    if path.suffix.lower() in TABLES:
        from prunec.ir.manifest import read_manifest

        return read_manifest(path)
    return ArrayFile(path)


def called_data(text: str) -> dict[str, Array]:
    """What a function of the user's gives: a mapping of arrays, or mappings of batches that follow each other.

    Raises:
        UserError: the function fails or gives something else.
    """
    function = load_callable(text)
    with user_code(text):
        made = function()
        if isinstance(made, Mapping):
            return {str(name): np.asarray(array) for name, array in made.items()}
        if isinstance(made, str | bytes) or not isinstance(made, Iterable):
            _refuse(text, f"gives {type_of(made)}, not a mapping of arrays by name")
        return _joined(text, made)


def _joined(text: str, batches: Iterable[Any]) -> dict[str, Array]:
    """Batches one behind the other."""
    parts: dict[str, list[Array]] = {}
    number = -1
    for number, batch in enumerate(batches):
        if not isinstance(batch, Mapping):
            _refuse(text, f"batch {number} is {type_of(batch)}, not a mapping of arrays by name")
        if number and batch.keys() != parts.keys():
            odd = sorted(map(str, batch.keys() ^ parts.keys()))
            _refuse(text, f"batch {number} has other arrays than the first: {', '.join(odd)}")
        for name, array in batch.items():
            parts.setdefault(str(name), []).append(np.asarray(array))
    if number < 0:
        _refuse(text, "yields no batches")
    for name, arrays in parts.items():
        for position, array in enumerate(arrays):
            if array.shape[1:] != arrays[0].shape[1:] or not array.ndim:
                shapes = f"{list(array.shape)}, that of batch 0 is {list(arrays[0].shape)}"
                _refuse(
                    text, f"array `{name}` of batch {position} is {shapes}: only the first axis may differ"
                )
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _refuse(text: str, message: str) -> None:
    help = ['give a mapping: {"image": images, "label": labels}, or yield one a batch']
    raise UserError(message, place=Place(file=text), help=help)
