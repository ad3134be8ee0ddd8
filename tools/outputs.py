"""Where output goes, and whether it can be written: known before any work is done."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.ir.atomic import real_target
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import file_error

if TYPE_CHECKING:
    from prunec.exporters.target import Target
    from prunec.passes.pipeline import Pipeline

REPLACEABLE = frozenset(
    {
        ".onnx",
        ".onnxtxt",
        ".txt",
        ".prunec",
        ".pt2",
        ".ort",
        ".engine",
        ".plan",
        ".trt",
        ".rtx",
        ".sh",
        ".data",
    }
    | {".json", ".yaml", ".yml", ".html", ".dot", ".graphml", ".svg", ".png"}
)
"""Endings of what prunec writes: only files of such names are replaced."""

PROGRAM_SUFFIX = ".pt2"
"""How the names of programs of torch end."""

CARD = b"# Model card: "
"""How a model card begins."""

MODEL_SUFFIXES = (".onnx.txt", ".onnxtxt", ".prunec", ".onnx")


def default_output(model: Path, suffix: str = ".onnx") -> Path:
    """``net.pruned.onnx`` beside ``net.onnx``, or with the suffix of another target; ``net.pruned.pt2`` beside
    ``net.pt2``.
    """
    if model.suffix == PROGRAM_SUFFIX and suffix == ".onnx":
        return model.with_suffix(".pruned.pt2")
    old = next((s for s in MODEL_SUFFIXES if model.name.endswith(s) and model.name != s), model.suffix)
    return model.with_name(f"{model.name.removesuffix(old)}.pruned{suffix}")


def check_kinds(model: Path, output: Path, pipeline: Pipeline, target: Target) -> None:
    """See, by names alone, that what is made of a program of torch is one again, and of an ONNX model another.

    Raises:
        UserError: the output has the ending of the other kind, or a pass or the target takes ONNX models alone.
    """
    from prunec.ir.fx.entry import onnx_as_program, onnx_only, program_as_onnx

    if model.suffix != PROGRAM_SUFFIX:
        if output.suffix == PROGRAM_SUFFIX:
            raise onnx_as_program(output)
        return
    if target.onnx_only:
        raise onnx_only(f"--emit {target.name}", model)
    if output.suffix != PROGRAM_SUFFIX:
        raise program_as_onnx(output)
    pipeline.check_takes_programs(str(model))


def check_outputs(*, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """See that every output can be written and is neither an input nor another output.

    Raises:
        UserError: one of them cannot or is; nothing has been written.
    """
    for position, output in enumerate(outputs):
        if any(_same_file(output, path) for path in inputs):
            _refuse(output, "this output would overwrite an input", ["give the output another name"])
        if any(_same_file(output, other) for other in outputs[:position]):
            _refuse(output, "two outputs have this name")
        _check_writable(output)


def _check_writable(output: Path) -> None:
    if str(output) == "-":
        _refuse(output, "a model is not written to standard output", ["give a file name with -o"])
    folder = output.parent
    try:
        folder = real_target(output).parent
        if output.is_dir():
            _refuse(output, "this output is a folder", [f"give a file name such as {output / 'model.onnx'}"])
        if not folder.is_dir():
            _refuse(output, f"folder '{folder}' does not exist", [f"mkdir -p '{folder}'"])
        if output.is_file() and not output.stat().st_mode & stat.S_IWUSR:
            _refuse(output, "this output exists and is read-only", ["give another name, or make it writable"])
        if output.is_file() and output.stat().st_size and not _is_ours(output):
            help = ["give another name, or remove the file first"]
            _refuse(output, "this file exists, and its name is that of no model or report", help)
        # A permission bit says too little (read-only disks, containers); a file says it all.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise file_error(output, f"cannot write to folder '{folder}'", error) from error


def _is_ours(output: Path) -> bool:
    """Whether a file is of a kind that prunec writes; Markdown is only what begins like a model card."""
    if output.suffix.lower() == ".md":
        with output.open("rb") as stream:
            return stream.read(len(CARD)) == CARD
    return output.suffix.lower() in REPLACEABLE


def _same_file(one: Path, other: Path) -> bool:
    """Whether two names mean the same file, whichever way they are written."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        # One of them does not exist (or is pipeline text and no name of a file).
        return one.absolute() == other.absolute()


def _refuse(path: Path, message: str, help: Sequence[str] = ()) -> None:
    raise UserError(message, place=Place(file=str(path)), help=help)
