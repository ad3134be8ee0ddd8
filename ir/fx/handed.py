"""Graph modules that were handed out, so that what was trained since is not saved as it was before."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch

from prunec.ir.diagnostics import UserError


@dataclass(frozen=True, slots=True)
class Handed:
    """A copy that a user got, and in which state.

    Attributes:
        module: the copy, for as long as the user holds it.
        versions: how often each of its tensors had been written.
    """

    module: weakref.ref[torch.nn.Module]
    versions: tuple[int, ...]

    @classmethod
    def of(cls, module: torch.nn.Module) -> Handed:
        """Remember a copy as it is."""
        return cls(weakref.ref(module), _versions(module))

    def require_untouched(self) -> None:
        """Refuse to go on from the weights that the copy had.

        Raises:
            UserError: something has written into its parameters or buffers.
        """
        module = self.module()
        if module is not None and _versions(module) != self.versions:
            raise UserError(
                "the module that to_torch() gave has changed since, and the result still holds what it was",
                help=[
                    "save what was trained: "
                    "torch.export.save(torch.export.export(pruned.eval(), example_inputs), 'pruned.pt2')",
                    "save the result before the training, or without it: "
                    "prunec.save(result.module, 'untrained.pt2')",
                ],
            )


def _versions(module: torch.nn.Module) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in (*module.parameters(), *module.buffers()))
