"""What a target is: a runtime, or a form of file, that a module is exported for.

A target is a frozen dataclass like a pass: its fields are its options, written ``trt{precision=fp16}``. Modules
that define targets import nothing heavy, so that mistakes in options are answered before anything is loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from prunec.ir.diagnostics import RemarkLog

if TYPE_CHECKING:
    from prunec.ir.module import Module


def _quiet(_step: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What an export may use besides the module.

    Attributes:
        remarks: where the target says what it did and could not do.
        progress: told what begins.
        verify: whether the artefact is compared with the module by running both.
        seed: of the inputs that it is compared on.
    """

    remarks: RemarkLog = field(default_factory=RemarkLog)
    progress: Callable[[str], None] = _quiet
    verify: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written.

    Attributes:
        target: name of the target.
        files: the files, the artefact itself first.
        size: bytes of the artefact, with its external data.
        lines: what the user should know, one line each, such as what was proved of the artefact.
    """

    target: str
    files: tuple[Path, ...]
    size: int
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(ABC):
    """Base class of all targets.

    Class attributes:
        name: the name in text, such as ``trt``.
        suffix: how the file's name ends where the user gives none.
        noun: what messages call it.
        onnx_only: whether the target takes ONNX models alone; programs of torch are refused before anything runs.
        takes_body: targets have no body in parentheses.
    """

    name: ClassVar[str]
    suffix: ClassVar[str] = ".onnx"
    noun: ClassVar[str] = "target"
    takes_body: ClassVar[bool] = False
    onnx_only: ClassVar[bool] = False

    def check(self) -> None:
        """See that what the export needs is there, before any other work is done.

        Raises:
            UserError: a package is missing or too old, or a GPU is required and there is none.
        """
        return

    def files(self, path: Path) -> tuple[Path, ...]:
        """Every file that an export to ``path`` writes, ``path`` first."""
        return (path,)

    @abstractmethod
    def write(self, module: Module, path: Path, context: ExportContext) -> Export:
        """Write the module for this target; ``check`` has passed.

        Raises:
            UserError: the module or the options do not suit the target, or a file cannot be written.
            GateError: a threshold among the options does not hold.
            VerificationError: the artefact computes something else than the module.
        """
