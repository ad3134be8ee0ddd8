"""A module on the CPU for a while, where capturing and cutting happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import UserError


def require_nn_module(given: object, help: str) -> None:
    """Raise a UserError unless something is a module of torch."""
    if not isinstance(given, torch.nn.Module):
        raise UserError(f"this takes an nn.Module, got {type_of(given)}", help=[help])


@contextmanager
def on_cpu(module: torch.nn.Module, inputs: Any) -> Iterator[Any]:
    """Have a module on the CPU, and take it back to its device; its parameters stay the objects that they are.

    Args:
        module: the module.
        inputs: any structure of tensors; given back on the CPU.

    Raises:
        UserError: the module lies on several devices.
    """
    tensors = [*module.parameters(), *module.buffers()]
    devices = sorted({str(t.device) for t in tensors} - {"meta"})
    if len(devices) > 1:
        raise UserError(
            f"`{type(module).__name__}` lies on several devices: {', '.join(devices)}",
            help=["a schedule needs it on one; or prune it on the CPU, in one run, before it is spread"],
        )
    away = devices != ["cpu"] and bool(devices)
    if away:
        module.cpu()
    try:
        yield pytree.tree_map_only(torch.Tensor, lambda t: t.cpu(), inputs)
    finally:
        if away:
            module.to(devices[0])
