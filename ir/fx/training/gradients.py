"""Gradients of a loss over batches, as arrays by parameter name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunec.ir.callables import check_takes, type_of
from prunec.ir.diagnostics import UserError
from prunec.ir.fx.training.devices import require_nn_module

Loss = Callable[[torch.nn.Module, Any], torch.Tensor]


def collect_gradients(
    module: torch.nn.Module, loss: Loss, batches: Iterable[Any]
) -> dict[str, NDArray[np.float32]]:
    """See :func:`prunec.ir.fx.entry.gradients`."""
    _check_arguments(module, loss, batches)
    named = {name: p for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    if not named:
        raise UserError(
            f"no parameter of `{type(module).__name__}` is trained: there are no gradients",
            help=["unfreeze what shall be judged: module.requires_grad_(True)"],
        )
    squares: dict[str, torch.Tensor] = {}
    count = 0
    with _undisturbed(module):
        for batch in batches:
            module.zero_grad(set_to_none=True)
            _backward(loss(module, batch), count)
            for name, parameter in named.items():
                if parameter.grad is not None:
                    square = parameter.grad.detach().to_dense().float().square()
                    squares[name] = squares[name] + square if name in squares else square
            count += 1
    if not count:
        raise UserError("there are no batches to take gradients over", help=["give at least one"])
    return {name: torch.sqrt(total / count).cpu().numpy() for name, total in squares.items()}


def _check_arguments(module: object, loss: object, batches: object) -> None:
    require_nn_module(module, "give the module that is trained, not what was captured of it")
    check_takes("the loss", loss, ["module", "batch"])
    if not isinstance(batches, Iterable):
        raise UserError(
            f"the batches must be iterable, got {type_of(batches)}",
            help=["give a list of batches, or a DataLoader: each goes to loss(module, batch)"],
        )


def _backward(value: Any, batch: int) -> None:
    """Take the gradients of one batch's loss, which must be a single finite number that training changes."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        has = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) else type_of(value)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            has = "a number that depends on no parameter"
        raise UserError(
            f"the loss of batch {batch} must be a single number with a gradient, got {has}",
            help=["loss(module, batch) runs the module and returns, say, cross_entropy(module(x), y)"],
        )
    if not torch.isfinite(value).all():
        raise UserError(f"the loss of batch {batch} is {value.item():g}", help=["look at this batch"])
    value.backward()  # type: ignore[no-untyped-call,unused-ignore]


@contextmanager
def _undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Run in evaluation mode with gradients on; leave modes, gradients and random numbers as they were."""
    modes = [(part, part.training) for part in module.modules()]
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    try:
        module.eval()
        with torch.random.fork_rng(devices), torch.enable_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
