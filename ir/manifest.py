"""Tables of samples, ``.csv`` or ``.parquet``: a row a sample, a column an array.

A column of numbers, truth values or words is an array ``[samples]``, and a column of lists of one length
``[samples, length]``. A column of paths, relative to the table, is read file by file and stacked: ``.npy``; ``.npz``
(the array named as the column, or the only one); images (with Pillow) as float32 ``[channel, height, width]`` in
``[0, 1]``. Missing numbers are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.npz import ArrayFile

if TYPE_CHECKING:
    import polars

Array = NDArray[Any]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
ARRAYS = (".npy", ".npz")
"""Endings of files that hold the array of one sample."""


@contextmanager
def polars_needed(what: str) -> Iterator[None]:
    """Answer a missing polars with what to install.

    Args:
        what: what needs it, such as ``a table of samples``.

    Raises:
        UserError: polars is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise UserError(f"{what} needs polars", help=["pip install 'prunec[judge]'"]) from error


def read_manifest(path: Path) -> dict[str, Array]:
    """The columns of a table as arrays, with the files that they name read.

    Raises:
        UserError: polars is missing; the table, a value or a file cannot be read; files of one column have
            different shapes.
    """
    with polars_needed("a table of samples"):
        import polars
    if not path.is_file():
        raise UserError("no such file", place=Place(file=str(path)))
    reader = polars.read_parquet if path.suffix.lower() == ".parquet" else _read_csv
    try:
        table = reader(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"this table cannot be read: {reason}", place=Place(file=str(path))) from error
    return {name: _column(path, table[name]) for name in table.columns}


def _read_csv(path: Path) -> polars.DataFrame:
    import polars

    return polars.read_csv(path, infer_schema_length=None)


def _column(path: Path, column: polars.Series) -> Array:
    """One column as an array [samples, ...]."""
    import polars

    kind = column.dtype
    if kind in (polars.String, polars.Categorical, polars.Enum):
        words = column.cast(polars.String).fill_null("").to_list()
        named = [Path(word).suffix.lower() in (*IMAGES, *ARRAYS) for word in words]
        if all(is_path or not word for word, is_path in zip(words, named, strict=True)) and any(named):
            return _files(path, column.name, words)
        return np.array(words, dtype=np.str_)
    if isinstance(kind, polars.List | polars.Array):
        return _rows(path, column)
    if not (kind.is_numeric() or kind == polars.Boolean):
        _refuse(path, f"column `{column.name}` is of type {kind}: numbers, words and paths are read")
    return column.to_numpy()


def _rows(path: Path, column: polars.Series) -> Array:
    """A column of lists of one length."""
    rows = [np.asarray(row) for row in column.to_list()]
    _check_shapes(path, column.name, rows, "list", first=rows[0])
    stacked = np.stack(rows)
    if stacked.dtype.hasobject:
        _refuse(path, f"column `{column.name}` has lists with missing values")
    return stacked


def _files(path: Path, name: str, words: Sequence[str]) -> Array:
    """A column of paths: the arrays in the files, stacked."""
    first = _file(path, name, 0, path.parent / words[0])
    stacked = np.empty((len(words), *first.shape), first.dtype)
    for row, word in enumerate(words):
        array = _file(path, name, row, path.parent / word)  # not kept: each holds its file open
        _check_shapes(path, name, [array], "file", first=first, begin=row)
        if array.dtype != stacked.dtype:
            stacked = stacked.astype(np.result_type(stacked, array))
        stacked[row] = array
    return stacked


def _file(path: Path, name: str, row: int, file: Path) -> Array:
    if file == path.parent:
        _refuse(path, f"row {row + 1}, column `{name}` names no file, and other rows do")
    where = f"row {row + 1}, column `{name}`: {file}"
    if not file.is_file():
        _refuse(path, f"{where}: no such file", ["paths are relative to the folder of the table"])
    if file.suffix.lower() == ".npz":
        held = ArrayFile(file)
        if name not in held and len(held) != 1:
            _refuse(path, f"{where} holds {', '.join(held)}, and none is named as the column")
        return held[name] if name in held else held[next(iter(held))]
    read: Callable[[Path], Array] = _array if file.suffix.lower() == ".npy" else _image
    try:
        return read(file)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        return _refuse(path, f"{where} cannot be read: {reason}")


def _array(file: Path) -> Array:
    array: Array = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


def _image(file: Path) -> Array:
    """An image as float32 [channel, height, width] in [0, 1]; grey ones have one channel, others three."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UserError(
            "images are read with Pillow, which is not installed", help=["pip install pillow"]
        ) from error
    with Image.open(file) as image:
        grey = image.mode in ("1", "L", "LA")
        pixels = np.asarray(image.convert("L" if grey else "RGB"), np.float32) / 255
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _check_shapes(
    path: Path, name: str, arrays: Iterable[Array], what: str, *, first: Array, begin: int = 0
) -> None:
    """See that the arrays of some rows, from ``begin`` on, have the shape of the first row's."""
    for row, array in enumerate(arrays, begin):
        if array.shape != first.shape:
            shapes = f"{list(array.shape)}, that of row 1 is {list(first.shape)}"
            _refuse(
                path,
                f"column `{name}`: the {what} of row {row + 1} is {shapes}",
                ["bring all samples to one shape: resize or pad them"],
            )


def _refuse(path: Path, message: str, help: Sequence[str] = ()) -> NoReturn:
    raise UserError(message, place=Place(file=str(path)), help=help)
