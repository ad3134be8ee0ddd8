"""The arrays of an ``.npz`` file, read when they are asked for.

What ``numpy.savez`` writes is a zip archive of ``.npy`` members. A member that is stored as it is (the default of
``savez``) is memory-mapped where it lies, so that a set larger than memory can be read row by row; a compressed
one is decompressed at first use. Nothing is unpickled, and sizes are checked before memory is taken.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import reason_of

Array = NDArray[Any]

_LOCAL_HEADER = 30
"""Bytes of a zip member's local header before its name (PKWARE APPNOTE 4.3.7)."""
_SAVE = 'write it with numpy: np.savez("data.npz", image=images, label=labels)'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One array inside the archive, known from its header alone.

    Attributes:
        info: the archive's entry.
        shape: of the array.
        dtype: of the array.
        fortran: whether its elements are stored column by column.
        header: bytes before the first element.
    """

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    header: int


class ArrayFile(Mapping[str, Array]):
    """The arrays of an ``.npz`` file by name; read-only.

    Args:
        path: the file.

    Raises:
        UserError: the file does not exist, is no ``.npz`` archive, is damaged, or holds Python objects.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._members = _members(self.path)
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        member = self._members[name]
        if name not in self._arrays:
            self._arrays[name] = _read(self.path, name, member)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"ArrayFile({str(self.path)!r})"


def _members(path: Path) -> dict[str, _Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _member(path, archive, info)
                for info in archive.infolist()
            }
    except FileNotFoundError as error:
        raise _error(path, "no such file", [_closest(path)]) from error
    except zipfile.BadZipFile as error:
        raise _error(path, _what_instead(path), [_SAVE]) from error
    except OSError as error:
        raise _error(path, f"cannot be read: {reason_of(error)}") from error


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """What an entry says about itself.

    Raises:
        UserError: it is no array, holds Python objects, or is shorter than its header says.
    """
    name = info.filename.removesuffix(".npy")
    if name == info.filename:
        _refuse(path, f"`{info.filename}` in it is no array (no .npy member)", [_SAVE])
    try:
        with archive.open(info) as stream:
            shape, fortran, dtype = _header(stream)
            header = stream.tell()
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        _refuse(path, f"array `{name}` cannot be read: {str(error).partition(chr(10))[0].rstrip('.')}")
    if dtype.hasobject:
        _refuse(
            path,
            f"array `{name}` holds Python objects, which are pickled; nothing is unpickled here",
            [
                "make it an array of numbers or of fixed-width strings: np.stack(rows), np.array(words, dtype=str)"
            ],
        )
    has, needs = info.file_size - header, math.prod(shape) * dtype.itemsize
    if has != needs:
        _refuse(
            path, f"array `{name}` of shape {list(shape)} and type {dtype} holds {has:,} bytes, not {needs:,}"
        )
    return _Member(info=info, shape=shape, dtype=dtype, fortran=fortran, header=header)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version[0]}.{version[1]} of the .npy format")


def _read(path: Path, name: str, member: _Member) -> Array:
    stored = member.info.compress_type == zipfile.ZIP_STORED and not member.info.flag_bits & 1
    order: Literal["F", "C"] = "F" if member.fortran else "C"
    try:
        if stored and 0 not in member.shape:  # no memory maps of nothing
            offset = _data_offset(path, member.info) + member.header
            return np.memmap(path, member.dtype, "r", offset, member.shape, order)
        with zipfile.ZipFile(path) as archive, archive.open(member.info) as stream:
            stream.read(member.header)
            flat: Array = np.frombuffer(stream.read(), member.dtype)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        _refuse(path, f"array `{name}` cannot be read: {str(error).partition(chr(10))[0].rstrip('.')}")
    return flat.reshape(member.shape, order=order)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin; the local header's name and extra field may differ from the directory's."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = struct.unpack("<26x2H", file.read(_LOCAL_HEADER))
    return int(info.header_offset + _LOCAL_HEADER + name + extra)


def _what_instead(path: Path) -> str:
    """What a file is that is no zip archive, or a damaged one."""
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return "this is a single array without a name (.npy), not an .npz archive"
    if start.startswith(b"PK"):
        return "this .npz archive is damaged or cut off"
    return "this is not an .npz archive" if start else "the file is empty"


def _closest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    there = sorted(entry.name for entry in path.parent.glob("*.npz"))
    return (
        f"archives in {path.parent}: {', '.join(there[:5])}" if there else f"no .npz file is in {path.parent}"
    )


def _error(path: Path, message: str, help: Sequence[str] = ()) -> UserError:
    return UserError(message, place=Place(file=str(path)), help=help)


def _refuse(path: Path, message: str, help: Sequence[str] = ()) -> NoReturn:
    raise _error(path, message, help)
