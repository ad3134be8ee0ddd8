"""Cuts the state of an optimizer along with its parameters.

A state tensor goes along where each of its axes is one of the parameter's, or of size 1: momenta and second moments
of the parameter's shape, single numbers, and the factored moments of Adafactor ([rows, 1] and [1, columns]).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import UserError

Removed = Mapping[str, Mapping[int, Sequence[int]]]
"""Per parameter and axis what is gone, in positions before the cut."""

_NEW = "start a new optimizer behind the cut (a schedule: build one in every step, and hand over none)"


def require_cuttable(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> None:
    """See that a cut of a module could take the state of an optimizer along.

    Args:
        optimizer: the optimizer.
        module: the module that it trains, before the cut.

    Raises:
        UserError: it is none, trains another module, or its state has other shapes than the parameters.
    """
    for names, parameter, key, held in _states(optimizer, module):
        if not _fits(held, tuple(parameter.shape)):
            _refuse(names[0], key, held, tuple(parameter.shape), _NEW)


def cut_optimizer(
    removed: Removed,
    shapes: Mapping[str, tuple[int, ...]],
    optimizer: torch.optim.Optimizer,
    module: torch.nn.Module,
) -> None:
    """Cut the state of every parameter that was cut.

    Args:
        removed: what is gone.
        shapes: of the tensors of the result, by name.
        optimizer: the optimizer; its parameters are those of the module.
        module: the module, cut already.

    Raises:
        UserError: the module is not cut yet, the optimizer trains another module, or a state tensor has another
            shape than its parameter had; nothing is changed.
    """
    states = list(_states(optimizer, module))
    _require_cut(removed, shapes, module)
    cut: list[tuple[torch.Tensor, str, torch.Tensor]] = []
    for names, parameter, key, held in states:
        name = next((name for name in names if name in removed), names[0])
        axes = removed.get(name, {})
        before = tuple(size + len(axes.get(axis, ())) for axis, size in enumerate(parameter.shape))
        if axes and not _fits(held, before):
            done = _fits(held, tuple(parameter.shape))
            _refuse(name, key, held, before, "it is cut already, which is done once" if done else _NEW)
        gone = {axis: at for axis, at in axes.items() if held.shape[axis] > 1}
        cut.append((parameter, key, _without(held, gone)))
    for parameter, key, tensor in cut:
        optimizer.state[parameter][key] = tensor


def _require_cut(removed: Removed, shapes: Mapping[str, tuple[int, ...]], module: torch.nn.Module) -> None:
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in removed and shapes.get(name, tuple(parameter.shape)) != tuple(parameter.shape):
            raise UserError(
                f"`{name}` of `{type(module).__name__}` has shape {list(parameter.shape)}, in the result it has "
                f"{list(shapes[name])}",
                help=["cut the module first, with result.apply_to(module), and then its optimizer"],
            )


def _states(
    optimizer: torch.optim.Optimizer, module: torch.nn.Module
) -> Iterator[tuple[list[str], torch.Tensor, str, torch.Tensor]]:
    """Names (several where it is tied) and tensor of every parameter, with its state tensors of more than a number."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(
            f"only a torch.optim.Optimizer has a state to cut, got {type_of(optimizer)}",
            help=["give the optimizer that trains the module"],
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UserError(
            "the state of LBFGS cannot be cut: its history holds all parameters as one vector", help=[_NEW]
        )
    names: dict[torch.Tensor, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(parameter in names for parameter in trained):
        raise UserError(
            f"the optimizer trains no parameter of `{type(module).__name__}`",
            help=["give the optimizer that was made with the parameters of this module"],
        )
    for parameter, state in optimizer.state.items():
        for key, held in state.items():
            if parameter in names and isinstance(held, torch.Tensor) and held.numel() > 1:
                yield names[parameter], parameter, key, held


def _fits(held: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """Whether every axis of a state tensor is the parameter's, or of size 1."""
    return held.ndim == len(shape) and all(a in (1, b) for a, b in zip(held.shape, shape, strict=True))


def _refuse(name: str, key: str, held: torch.Tensor, shape: tuple[int, ...], help: str) -> None:
    raise UserError(
        f"state `{key}` of `{name}` has shape {list(held.shape)}, its parameter has {list(shape)} before the cut",
        help=[help],
    )


def _without(tensor: torch.Tensor, axes: Mapping[int, Sequence[int]]) -> torch.Tensor:
    """A tensor less the positions that are gone."""
    for axis, positions in axes.items():
        kept = torch.ones(tensor.shape[axis], dtype=torch.bool, device=tensor.device)
        kept[list(positions)] = False
        tensor = tensor.index_select(axis, kept.nonzero().flatten())
    return tensor
