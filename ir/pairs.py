"""A file and the file of its weights beside it, of which no system replaces both at once.

The new data file takes a name that the old model does not use, and replacing the model switches from the old pair to
the new one; only then the old data file goes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO

import onnx_ir

from prunec.ir.module import Module
from prunec.ir.proto import bytes_of

ALIGNMENT = 64
"""Weights in a data file begin at multiples of this many bytes, so that kernels can use them mapped."""


@dataclass(slots=True)
class Layout:
    """What goes where in a data file.

    Attributes:
        placed: the tensors with their offsets in bytes, in order.
        end: bytes of the whole file.
    """

    placed: list[tuple[onnx_ir.TensorProtocol, int]] = field(default_factory=list)
    end: int = 0

    def place(self, tensor: onnx_ir.TensorProtocol) -> int:
        """Give a tensor the next place, and return its offset."""
        offset = -(-self.end // ALIGNMENT) * ALIGNMENT
        self.placed.append((tensor, offset))
        self.end = offset + tensor.nbytes
        return offset

    def write(self, stream: IO[bytes]) -> None:
        """Write the file."""
        for tensor, offset in self.placed:
            stream.write(b"\0" * (offset - stream.tell()))
            stream.write(bytes_of(tensor))


def free_data_name(target: Path, used: Collection[str]) -> Path:
    """``NAME.data``, or the next name that neither the model being replaced uses nor another file has."""
    names = (target.with_name(_data_name(target, number)) for number in count(1))
    return next(path for path in names if path.name not in used and not path.exists())


def remove_replaced(module: Module, target: Path, names: Collection[str]) -> None:
    """Remove the data files of the model that was replaced, where they were named by us and nothing reads them."""
    for name in names:
        old = target.with_name(name)
        if re.fullmatch(rf"{re.escape(target.name)}(\.\d+)?\.data", name) and not _reads(module, target, old):
            old.unlink(missing_ok=True)


def _data_name(target: Path, number: int) -> str:
    return f"{target.name}.data" if number == 1 else f"{target.name}.{number}.data"


def _reads(module: Module, target: Path, data: Path) -> bool:
    """Whether a model that stays as it is has its weights in a file: the source, unless it is replaced."""
    source = module.source.original
    return (
        source.path is not None
        and source.path.resolve() != target.resolve()
        and data.resolve() in source.data
    )
