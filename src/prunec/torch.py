"""Pruning in a training loop of torch.

::

    masks = prunec.torch.keep_masks(net, result.plan)      # 2:4 zeros hold, whatever trains the module
    found = prunec.torch.gradients(net, loss, batches)     # for prune-channels{criterion=taylor}
"""

from __future__ import annotations

from prunec.ir.fx.entry import gradients as gradients
from prunec.ir.fx.entry import trace as trace
from prunec.passes.training.masks import keep_masks as keep_masks

__all__ = ["gradients", "keep_masks", "trace"]
