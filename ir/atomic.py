"""Writes a file whole or not at all, and never over anything but a file."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from prunec.ir.diagnostics import Place, UserError


def replace_file(target: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name in the same folder, flush it to the disk, and rename it.

    Args:
        target: the file, as ``real_target`` gives it.
        write: puts the content into the stream.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    with _temporary(target) as temporary:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    _flush_folder(target.parent)


def real_target(path: Path) -> Path:
    """The file that a name stands for: behind a symbolic link what it leads to, so that the link stays.

    Raises:
        UserError: something that is no regular file is there. Renaming a file over a device such as
            ``/dev/null`` would replace the device itself.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.exists() and not target.is_file() and not target.is_dir():
        raise UserError(
            "this is a device or a pipe, not a file",
            place=Place(file=str(path)),
            help=["give the name of a file: it is written beside its place and then renamed"],
        )
    return target


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A fresh name beside ``target``; whatever is left under it at the end is removed."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut; systems that cannot open folders do it by themselves."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
