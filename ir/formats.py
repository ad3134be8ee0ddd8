"""Recognises files that are not ONNX, so that the message can say what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.external import Bytes

TEXT_SUFFIXES = (".onnxtxt", ".onnx.txt")
"""How the names of files in ONNX's text form end."""
DUMP_SUFFIX = ".prunec"
"""How the names of dumps end."""


PROGRAM_SUFFIX = ".pt2"
"""How the names of files end that ``torch.export.save`` writes."""


def is_program(path: Path) -> bool:
    """Whether a path is, by its name, a program of ``torch.export``."""
    return path.name.endswith(PROGRAM_SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A format that is not ONNX: the bytes at an offset that give it away, what it is, and what to do."""

    magic: bytes
    offset: int = 0
    what: str
    help: str


EXPORT = "export the model to ONNX first (torch.onnx.export for PyTorch, tf2onnx for TensorFlow)"
TRACE = (
    "in Python, build the module and load its weights, then prunec.trace(module, example_inputs) prunes it as it is, "
    "and torch.onnx.export makes it an ONNX file"
)
AGAIN = "download the file again"
FOREIGN = (
    Foreign(
        magic=b"version https://git-lfs",
        what="a Git LFS pointer, not the file it stands for",
        help="git lfs pull",
    ),
    Foreign(
        magic=b"PK\x03\x04",
        what="a zip archive, as torch.save writes them (its pickles are never run)",
        help=f"{TRACE}; a file of torch.export.save must be named .pt2",
    ),
    Foreign(magic=b"\x80\x02", what="a Python pickle, as older torch.save writes them", help=TRACE),
    Foreign(magic=b"\x89HDF", what="an HDF5 file, as Keras writes them", help=EXPORT),
    Foreign(magic=b"TFL3", offset=4, what="a TensorFlow Lite model", help=EXPORT),
    Foreign(
        magic=b"ORTM",
        offset=4,
        what="an ONNX Runtime .ort model",
        help="give the .onnx file it was made from",
    ),
    Foreign(magic=b"GGUF", what="a GGUF file", help=EXPORT),
    Foreign(magic=b'{"', offset=8, what="a safetensors file: weights without a graph", help=EXPORT),
    Foreign(magic=b"\x1f\x8b", what="compressed with gzip", help="decompress it: gunzip FILE"),
    Foreign(magic=b"\xfd7zXZ", what="compressed with xz", help="decompress it: unxz FILE"),
    Foreign(magic=b"(\xb5/\xfd", what="compressed with zstd", help="decompress it: unzstd FILE"),
    Foreign(magic=b"<!DOCTYPE", what="a web page", help=AGAIN),
    Foreign(magic=b"<html", what="a web page", help=AGAIN),
)


def refuse_foreign_format(content: Bytes, path: Path) -> None:
    """Raise a ``UserError`` that names the format when a file is recognisably not binary ONNX."""
    head = content[:4096].tobytes()
    for foreign in FOREIGN:
        if head.startswith(foreign.magic, foreign.offset):
            raise _refusal(path, f"this is not an ONNX file but {foreign.what}", foreign.help)
    if _is_text(head):
        help = f"the name of ONNX's text form must end in {TEXT_SUFFIXES[0]}, that of a dump in {DUMP_SUFFIX}"
        raise _refusal(path, "this is a text file, not a binary ONNX file", help)


def _is_text(head: bytes) -> bool:
    """Whether the first bytes are plain printable text; binary ONNX begins with byte 8."""
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:64])


def _refusal(path: Path, message: str, help: str) -> UserError:
    return UserError(message, place=Place(file=str(path)), help=[help])
