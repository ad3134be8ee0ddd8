"""Graph modules that were handed out, so that what was trained since is not saved as it was before."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch

from prunec.ir.diagnostics import UserError

Handed = Callable[[], torch.nn.Module | None]
"""A weak reference to a copy that a user got."""


def remember(module: torch.nn.Module) -> Handed:
    """Remember a copy for as long as the user holds it."""
    return weakref.ref(module)


def require_untouched(handed: Handed, fresh: torch.nn.Module) -> None:
    """Refuse to go on from the weights that a copy was handed out with, if it has others now.

    Args:
        handed: the copy.
        fresh: a copy as it would be handed out now.

    Raises:
        UserError: its parameters or buffers have changed.
    """
    module = handed()
    if module is None:
        return
    now, then = module.state_dict(), fresh.state_dict()
    if now.keys() != then.keys() or not all(torch.equal(now[name].cpu(), then[name]) for name in then):
        raise UserError(
            "the module that to_torch() gave has changed since, and the result still holds what it was",
            help=[
                "save what was trained: "
                "torch.export.save(torch.export.export(pruned.eval(), example_inputs), 'pruned.pt2')",
                "save the result before the training, or without it: "
                "prunec.save(result.module, 'untrained.pt2')",
            ],
        )
