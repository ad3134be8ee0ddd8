"""Captures an ``nn.Module`` with ``torch.export``, ready to be pruned and trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from prunec.ir.diagnostics import UserError
from prunec.ir.fx.importer import import_program
from prunec.ir.module import Module


def trace(
    module: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> Module:
    """Capture a module of ``torch``; its parameters are shared, not copied.

    Args:
        module: the module; its mode (training or evaluation) is that of the capture.
        example_inputs: positional arguments to run it with.
        kwargs: keyword arguments.
        dynamic_shapes: axes whose size is not fixed, as ``torch.export.export`` takes them.

    Raises:
        UserError: the module cannot be captured.
    """
    program = torch.export.export(
        module, tuple(example_inputs), dict(kwargs or {}), dynamic_shapes=dynamic_shapes
    )
    return import_program(program, training=module.training)
