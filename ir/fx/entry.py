"""The way in: what needs torch is imported when it is used, and named where it is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import ATEN

if TYPE_CHECKING:
    from torch.fx import GraphModule as GraphModule
    from torch.nn import Module as NnModule
    from torch.optim import Optimizer as Optimizer

    from prunec.ir.module import Module


__all__ = [
    "GraphModule",
    "NnModule",
    "Optimizer",
    "cut_optimizer",
    "load_program",
    "require_program",
    "save_program",
    "to_torch",
    "trace",
    "write_back",
]

Removed = Mapping[str, Mapping[int, Sequence[int]]]
"""Per tensor and axis the positions that are gone."""


@contextmanager
def torch_needed() -> Iterator[None]:
    """Answer a missing torch with what to install.

    Raises:
        UserError: torch is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError("torch is not installed", help=["pip install 'prunec[torch]'"]) from error


def trace(
    module: NnModule,
    example_inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> Module:
    """Capture a module of ``torch`` with ``torch.export``; its parameters are shared, not copied.

    Args:
        module: the module, on the CPU. Its mode (training or evaluation) is that of the capture: what is
            captured in training mode can be switched to evaluation and back.
        example_inputs: positional arguments to run it with.
        kwargs: keyword arguments.
        dynamic_shapes: axes whose size is not fixed, as ``torch.export.export`` takes them.

    Raises:
        UserError: torch is missing, or the module cannot be captured; the message has torch's reason and the
            line of the program.
    """
    with torch_needed():
        from prunec.ir.fx.capture import capture
    return capture(module, example_inputs, kwargs, dynamic_shapes=dynamic_shapes)


def load_program(path: Path) -> Module:
    """Load a ``.pt2`` file; see :func:`prunec.ir.fx.archive.load_archive`."""
    with torch_needed():
        from prunec.ir.fx.archive import load_archive
    return load_archive(path)


def save_program(module: Module, path: Path) -> None:
    """Write a ``.pt2`` file; see :func:`prunec.ir.fx.archive.save_archive`."""
    require_program(module)
    with torch_needed():
        from prunec.ir.fx.archive import save_archive
    save_archive(module, path)


def to_torch(module: Module) -> GraphModule:
    """A program as a graph module with parameters of its own; see :mod:`prunec.ir.fx.modes` for its modes.

    Raises:
        UserError: the module is no program of torch.
    """
    require_program(module)
    with torch_needed():
        from prunec.ir.fx.lower import lower_switchable
    return lower_switchable(module.model)


def write_back(module: Module, target: NnModule) -> None:
    """Cut a user's module; see :func:`prunec.ir.fx.writeback.write_back`."""
    require_program(module)
    with torch_needed():
        from prunec.ir.fx import writeback
    writeback.write_back(module, target)


def cut_optimizer(module: Module, removed: Removed, optimizer: Optimizer, target: NnModule) -> None:
    """Cut the state of an optimizer; see :func:`prunec.ir.fx.optimizer.cut_optimizer`."""
    require_program(module)
    with torch_needed():
        from prunec.ir.fx import optimizer as cutting
    cutting.cut_optimizer(removed, optimizer, target)


def require_program(module: Module) -> None:
    """Raise a UserError unless a module is a captured program of torch."""
    if ATEN not in module.graph.opset_imports:
        raise UserError(
            "this is an ONNX model, not a program of torch",
            place=Place(file=module.source.name),
            help=["capture the torch module with prunec.trace, or save the model as .onnx"],
        )
