"""Cuts the state of an optimizer along with its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import UserError


def cut_optimizer(
    removed: Mapping[str, Mapping[int, Sequence[int]]],
    optimizer: torch.optim.Optimizer,
    module: torch.nn.Module,
) -> None:
    """Cut every state tensor that has the shape which its parameter had.

    Args:
        removed: what is gone, per parameter and axis, in positions before the cut.
        optimizer: the optimizer; its parameters are those of the module.
        module: the module, cut already.

    Raises:
        UserError: a state tensor has neither its parameter's shape nor one element; nothing is changed.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(
            f"only a torch.optim.Optimizer has a state to cut, got {type_of(optimizer)}",
            help=["result.apply_to_optimizer(optimizer, net)"],
        )
    names: dict[torch.Tensor, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)  # a tied one has several
    cut: list[tuple[torch.Tensor, str, torch.Tensor]] = []
    for parameter, state in optimizer.state.items():
        name = next((n for n in names.get(parameter, ()) if n in removed), None)
        if name is None:
            continue
        axes = removed[name]
        before = _shape_before(parameter, axes)
        for key, held in state.items():
            if not isinstance(held, torch.Tensor) or held.numel() == 1:
                continue
            if tuple(held.shape) != before:
                raise UserError(
                    f"state `{key}` of `{name}` has shape {list(held.shape)}, "
                    f"its parameter had {list(before)}",
                    help=["cut the module first, with apply_to; or start a new optimizer"],
                )
            cut.append((parameter, key, _without(held, axes)))
    for parameter, key, tensor in cut:
        optimizer.state[parameter][key] = tensor


def _shape_before(parameter: torch.Tensor, axes: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    return tuple(size + len(axes.get(axis, ())) for axis, size in enumerate(parameter.shape))


def _without(tensor: torch.Tensor, axes: Mapping[int, Sequence[int]]) -> torch.Tensor:
    """A tensor less the positions that are gone."""
    for axis, positions in axes.items():
        kept = torch.ones(tensor.shape[axis], dtype=torch.bool, device=tensor.device)
        kept[list(positions)] = False
        tensor = tensor.index_select(axis, kept.nonzero().flatten())
    return tensor
