"""The way in: what needs torch is imported when it is used, and named where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import ATEN, TO_ONNX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.fx import GraphModule as GraphModule
    from torch.nn import Module as NnModule
    from torch.optim import Optimizer as Optimizer

    from prunec.ir.fx.handed import Handed as Handed
    from prunec.ir.fx.training.masks import Masks as Masks
    from prunec.ir.fx.writeback import Resized
    from prunec.ir.module import Module


__all__ = [
    "GraphModule",
    "Handed",
    "Masks",
    "NnModule",
    "Optimizer",
    "cut_optimizer",
    "gradients",
    "hold_masks",
    "load_program",
    "on_cpu",
    "onnx_as_program",
    "onnx_only",
    "program_as_onnx",
    "remember",
    "require_program",
    "require_trainable",
    "require_untouched",
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
        from prunec.ir.fx.evidence import require_unchanged
    require_unchanged(module.model)
    save_archive(module, path)


def to_torch(module: Module) -> GraphModule:
    """A program as a graph module with parameters of its own; see :mod:`prunec.ir.fx.modes` for its modes.

    Raises:
        UserError: the module is no program of torch, or the weights that it shares changed since the capture.
    """
    require_program(module)
    with torch_needed():
        from prunec.ir.fx.evidence import require_unchanged
        from prunec.ir.fx.lower import lower_switchable
    require_unchanged(module.model)
    return lower_switchable(module.model)


def remember(module: NnModule) -> Handed:
    """Remember a module that is handed out; see :mod:`prunec.ir.fx.handed`."""
    from prunec.ir.fx import handed

    return handed.remember(module)


def require_untouched(module: Module, copies: Iterable[Handed]) -> None:
    """Refuse to go on from a program of which a copy was trained; see :mod:`prunec.ir.fx.handed`."""
    for copy in copies:
        from prunec.ir.fx import handed

        handed.require_untouched(copy, to_torch(module))


def write_back(module: Module, target: NnModule) -> list[Resized]:
    """Cut a user's module; see :func:`prunec.ir.fx.writeback.write_back`."""
    require_program(module)
    with torch_needed():
        from prunec.ir.fx import writeback
    return writeback.write_back(module, target)


def cut_optimizer(module: Module, removed: Removed, optimizer: Optimizer, target: NnModule) -> None:
    """Cut the state of an optimizer; see :func:`prunec.ir.fx.optimizer.cut_optimizer`."""
    require_program(module)
    with torch_needed():
        from prunec.ir.fx import optimizer as cutting
        from prunec.ir.fx.training.devices import require_nn_module
    require_nn_module(target, "give the module that apply_to has cut")
    shapes = {n: tuple(v.shape.numpy()) for n, v in module.graph.initializers.items() if v.shape is not None}
    cutting.cut_optimizer(removed, shapes, optimizer, target)


def require_trainable(module: NnModule, optimizer: Optimizer | None) -> None:
    """See that a module can be cut while it is trained, before anything is.

    Args:
        module: the module.
        optimizer: whose state goes along, or None.

    Raises:
        UserError: it is no nn.Module, or the optimizer's state cannot go along.
    """
    with torch_needed():
        from prunec.ir.fx.optimizer import require_cuttable
        from prunec.ir.fx.training.devices import require_nn_module
    require_nn_module(module, "give the module itself, not what was captured of it")
    if optimizer is not None:
        require_cuttable(optimizer, module)


def hold_masks(module: NnModule, keep: Mapping[str, NDArray[np.bool_]]) -> Masks:
    """Keep weights zero while a module trains; see :class:`prunec.ir.fx.training.masks.Masks`."""
    with torch_needed():
        from prunec.ir.fx.training.devices import require_nn_module
        from prunec.ir.fx.training.masks import Masks
    require_nn_module(module, "give the module that is trained, not what was captured of it")
    return Masks(module, keep)


@contextmanager
def on_cpu(module: NnModule, inputs: Any) -> Iterator[Any]:
    """Have a module and its inputs on the CPU; see :func:`prunec.ir.fx.training.devices.on_cpu`."""
    with torch_needed():
        from prunec.ir.fx.training import devices
    with devices.on_cpu(module, inputs) as moved:
        yield moved


def gradients(
    module: NnModule, loss: Callable[[NnModule, Any], Tensor], batches: Iterable[Any]
) -> dict[str, NDArray[np.float32]]:
    """The gradients that ``prune-channels{criterion=taylor}`` judges weights by.

    Args:
        module: the module, on any device; it runs in evaluation mode, and is left as it was, with the gradients
            that it had.
        loss: called with the module and a batch; returns a single number, as in training.
        batches: whatever ``loss`` takes; a few dozen make a good estimate.

    Returns:
        Per trained parameter the root mean square over the batches of every element's gradient, in the
        parameter's shape. Parameters that the loss does not depend on are left out.

    Raises:
        UserError: the loss is no single finite number, no parameter is trained, or there are no batches.

    Example:
        >>> import prunec, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> loss = lambda net, batch: torch.nn.functional.cross_entropy(net(batch[0]), batch[1])
        >>> batches = [(torch.randn(8, 4), torch.randint(0, 2, (8,))) for _ in range(4)]
        >>> found = prunec.torch.gradients(net, loss, batches)
        >>> found["0.weight"].shape
        (16, 4)
    """
    with torch_needed():
        from prunec.ir.fx.training.gradients import collect_gradients
    return collect_gradients(module, loss, batches)


def require_program(module: Module) -> None:
    """Raise a UserError unless a module is a captured program of torch."""
    if ATEN not in module.graph.opset_imports:
        raise UserError(
            "this is an ONNX model, not a program of torch",
            place=Place(file=module.source.name),
            help=["capture the torch module with prunec.trace, or save the model as .onnx"],
        )


def onnx_only(what: str, file: str | Path) -> UserError:
    """What is said where a program of torch is given to something that takes ONNX models alone.

    Args:
        what: the thing, as messages call it.
        file: the program.
    """
    return UserError(
        f"{what} takes ONNX models, and this is a program of torch",
        place=Place(file=str(file)),
        help=TO_ONNX,
    )


def program_as_onnx(file: str | Path) -> UserError:
    """What is said where a program of torch is to be written under a name that is not that of a program."""
    return UserError(
        "a program of torch cannot be written as ONNX",
        place=Place(file=str(file)),
        help=[f"give a name that ends in .pt2, such as {Path(file).with_suffix('.pt2').name}", *TO_ONNX],
    )


def onnx_as_program(file: str | Path) -> UserError:
    """What is said where an ONNX model is to be written under the name of a program of torch."""
    return UserError(
        "an ONNX model cannot be written as a program of torch",
        place=Place(file=str(file)),
        help=[
            f"give a name that ends in .onnx, such as {Path(file).with_suffix('.onnx').name}",
            "what trains is made from the torch module: prunec.trace(module, example_inputs), or a .pt2 file",
        ],
    )
