"""Archives of arrays: the same arrays that numpy reads, mapped where they can be, and every mistake named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prunec.ir.diagnostics import UserError
from prunec.ir.npz import ArrayFile

ARRAYS = {
    "image": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "words": np.array(["a", "long"]),
    "number": np.float64(3.5),
    "empty": np.zeros((0, 3), np.int8),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_that_were_saved(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "data.npz", **ARRAYS)
    found = ArrayFile(tmp_path / "data.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].size or not found[name].flags.writeable


def test_stored_arrays_are_mapped_and_compressed_ones_read_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "stored.npz", **ARRAYS)
    np.savez_compressed(tmp_path / "packed.npz", **ARRAYS)
    stored, packed = ArrayFile(tmp_path / "stored.npz"), ArrayFile(tmp_path / "packed.npz")
    assert isinstance(stored["image"], np.memmap)
    assert not isinstance(packed["image"], np.memmap)
    assert packed["image"] is packed["image"]


def npy(array: np.ndarray, *, pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=pickle)
    return stream.getvalue()


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("_npy", ".npy"), content)
    return stream.getvalue()


ZEROS = npy(np.zeros((3, 2), np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data.npz: the file is empty"),
        (b"image,label\n", "data.npz: this is not an .npz archive"),
        (ZEROS, "data.npz: this is a single array without a name (.npy), not an .npz archive"),
        (archive(x_npy=ZEROS)[:-30], "data.npz: this .npz archive is damaged or cut off"),
        (archive(x_npy=ZEROS[:-4]), "data.npz: array `x` of shape [3, 2] and type float32 holds 20 bytes, not 24"),
        (archive(x_npy=b"no array at all"), "data.npz: array `x` cannot be read: the magic string is not correct"),
        (archive(x_npy=ZEROS[:6] + b"\x09\x00" + ZEROS[8:]), "data.npz: array `x` cannot be read: version 9.0"),
        (archive(readme=b"hello"), "data.npz: `readme` in it is no array (no .npy member)"),
        (archive(x_npy=npy(np.array([{}, 1], object), pickle=True)), "data.npz: array `x` holds Python objects"),
    ],
)  # fmt: skip
def test_what_is_no_archive_of_arrays_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        ArrayFile(path)
    assert message in str(caught.value)


def test_a_damaged_compressed_array_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal(10_000))
    content = bytearray(path.read_bytes())
    content[20_000:20_100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(UserError, match="array `x` cannot be read: "):
        ArrayFile(path)["x"]


def test_a_file_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "calibration.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"calibrate\.npz: no such file\n.*archives in .*: calibration\.npz"):
        ArrayFile(tmp_path / "calibrate.npz")
    with pytest.raises(UserError, match=r"no such file\n.*there is no folder .*nowhere either"):
        ArrayFile(tmp_path / "nowhere" / "data.npz")
