"""How the loss of a captured program changes with its inputs: what attacks on a model follow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import Array
from prunec.ir.fx.contents import changing_tensors, contents_kept
from prunec.ir.fx.facts import FAILURES
from prunec.ir.fx.lower import lower
from prunec.ir.fx.modes import set_mode
from prunec.ir.fx.signature import signature_of
from prunec.ir.fx.tensors import from_array, to_array
from prunec.ir.module import Module


class LossGradient:
    """The gradient of the cross-entropy of the first output, in evaluation mode.

    Args:
        module: the program; its tensors are shared and get no gradients.
    """

    def __init__(self, module: Module) -> None:
        self._file = module.source.name
        self._inputs = [v.name or "" for v in module.graph.inputs]
        self._output = module.graph.outputs[0].name or ""
        self._program = lower(module.model, outputs=[self._output], copy=False)
        set_mode(self._program.graph, False, captured=signature_of(module.model).training, every=True)
        self._program.recompile()
        self._changing = changing_tensors(module.model, self._program)

    def __call__(self, feeds: Mapping[str, Array], labels: Array) -> dict[str, Array]:
        """The gradients of some samples.

        Args:
            feeds: an array for every input.
            labels: the right classes, [samples, *positions]; negative ones do not count.

        Returns:
            By name of the inputs of floating-point numbers, each in the shape of the input.

        Raises:
            UserError: the output is no scores of classes for these labels, or the program fails.
        """
        given = {name: from_array(np.array(feeds[name])) for name in self._inputs}
        floats = {name: t.requires_grad_() for name, t in given.items() if t.is_floating_point()}
        try:
            with contents_kept(self._changing):
                scores = self._program(**given)[self._output]
            if scores.ndim > 2 and scores.shape[:-1] == labels.shape:
                scores = scores.movedim(-1, 1)
            wanted = torch.from_numpy(np.where(labels < 0, -100, labels).astype(np.int64))  # not counted
            loss = torch.nn.functional.cross_entropy(scores, wanted, reduction="sum", ignore_index=-100)
            slopes = torch.autograd.grad(loss, list(floats.values()), allow_unused=True)
        except FAILURES as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UserError(f"the loss has no gradient: {reason}", place=Place(file=self._file)) from error
        return {
            name: np.zeros(feeds[name].shape, np.float32) if slope is None else to_array(slope)
            for name, slope in zip(floats, slopes, strict=True)
        }
