"""Pruning in a training loop of torch.

::

    masks = prunec.torch.keep_masks(net, result.plan)      # 2:4 zeros hold, whatever trains the module
    found = prunec.torch.gradients(net, loss, batches)     # for prune-channels{criterion=taylor}
    for step in prunec.torch.schedule(net, (images,), "prune-channels", ratio=0.5, steps=5):
        train(step.module)                                 # prune a little, train, prune on
"""

from __future__ import annotations

from prunec.ir.fx.entry import gradients as gradients
from prunec.ir.fx.entry import trace as trace
from prunec.passes.training.masks import keep_masks as keep_masks
from prunec.passes.training.schedule import ScheduleStep as ScheduleStep
from prunec.passes.training.schedule import schedule as schedule

__all__ = ["ScheduleStep", "gradients", "keep_masks", "schedule", "trace"]
