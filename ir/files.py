"""Reads and writes whole files that the user named, and tells in the user's terms what was wrong with one."""

from __future__ import annotations

import os
from pathlib import Path

from prunec.ir.atomic import real_target, replace_file
from prunec.ir.diagnostics import Place, UserError


def read_text(path: str | os.PathLike[str], what: str = "file") -> str:
    """The text of a file.

    Args:
        path: the file.
        what: what messages call it, such as ``plan``.

    Raises:
        UserError: it cannot be read, or is not UTF-8 text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise file_error(path, f"cannot read the {what}", error) from error


def write_text(path: str | os.PathLike[str], text: str, what: str = "file") -> None:
    """Write a text in UTF-8; see :func:`write_bytes`."""
    write_bytes(path, text.encode(), what)


def write_bytes(path: str | os.PathLike[str], content: bytes, what: str = "file") -> None:
    """Write a file whole, or leave what was there.

    Args:
        path: the file.
        content: all of it.
        what: what messages call it.

    Raises:
        UserError: it cannot be written.
    """
    try:
        replace_file(real_target(Path(path)), lambda stream: stream.write(content))
    except OSError as error:
        raise file_error(path, f"cannot write the {what}", error) from error


def file_error(path: str | os.PathLike[str], problem: str, error: OSError | UnicodeDecodeError) -> UserError:
    """The error to raise where something failed on a file.

    Args:
        path: the file.
        problem: what could not be done, such as ``cannot write the plan``.
        error: why.
    """
    return UserError(f"{problem}: {reason_of(error)}", place=Place(file=str(path)))


def reason_of(error: Exception) -> str:
    """Why a file could not be used, as a part of a message: in lower case, without the file's name."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
    return str(getattr(error, "strerror", None) or error).lower()
