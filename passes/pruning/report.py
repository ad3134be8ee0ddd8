"""What a cut of channels tells: what each group loses, why others lose nothing, and what the model is not any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import RemarkLog
from prunec.ir.module import Module
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.pruning.selection import Policy
from prunec.passes.sparsity.eligibility import INPUT_ALIGNMENT, Eligibility, lost


def report_chosen(
    groups: Sequence[Group],
    chosen: Sequence[NDArray[np.int64]],
    policy: Policy | None,
    remarks: RemarkLog,
    origin: str,
) -> None:
    """Tell of every group how many units go.

    Args:
        groups: that may be pruned.
        chosen: per group the units that go.
        policy: how they were chosen, where each group was to lose a share; None where it may well lose nothing.
        remarks: takes what is told.
        origin: the pass.
    """
    for group, units in zip(groups, chosen, strict=True):
        what, node = group.title, group.members[0].name
        counts = (("units", group.units), ("removed", len(units)))
        if len(units):
            text = f"{what} loses {len(units)} of {group.units} units"
            remarks.passed(origin, text, node=node, group=group.id, numbers=counts)
        elif policy is not None:
            remarks.missed(
                origin,
                f"{what} keeps all {group.units} units",
                node=node,
                group=group.id,
                numbers=counts,
                reason=f"no allowed number of units is nearer to the share (round-to={policy.round_to}, "
                f"min-channels={policy.min_channels}, max-ratio={policy.max_ratio})",
                help="lower `round-to`" if policy.round_to > 1 else None,
            )


def report_nothing(coupling: Coupling, remarks: RemarkLog, origin: str) -> None:
    """Tell why no group is left, and what the user can do; what holds for most groups first."""
    pins = [group.frozen for group in coupling.groups if group.frozen is not None]
    reasons = [text for text, _ in Counter(pin.text for pin in pins).most_common(4)]
    unlocking = [text for text, _ in Counter(pin.help for pin in pins if pin.help).most_common(2)]
    filtered = "no group passes the filters `ignore` and `only`"
    remarks.missed(
        origin,
        "nothing can be pruned in this model",
        reason=filtered if coupling.prunable else "; ".join(reasons) or "the model has no weights",
        help="; ".join(unlocking) or "`prunec inspect MODEL` lists every group and what pins it",
    )


def report_interface(
    module: Module,
    coupling: Coupling,
    predicted: Mapping[str, tuple[int, ...]],
    remarks: RemarkLog,
    origin: str,
) -> None:
    """Tell what a caller of the model has to change (only with ``allow-io``).

    Args:
        module: the model.
        coupling: its analysis before the cut.
        predicted: per value that has another shape now that shape.
        remarks: takes what is told.
        origin: the pass.
    """
    for kind, values in (("input", module.graph.inputs), ("output", module.graph.outputs)):
        for value in values:
            old, new = coupling.facts.shape(value), predicted.get(value.name or "")
            if new is not None and old != new:
                text = f"graph {kind} `{value.name}` shrinks from {list(old or ())} to {list(new)}"
                remarks.passed(origin, text)


def report_lost(before: Sequence[Eligibility], remarks: RemarkLog, origin: str) -> None:
    """Tell which layers sparse tensor cores could have run faster and now cannot run at all."""
    if layers := lost(before):
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        remarks.analysis(
            origin,
            f"{len(layers)} of the layers that would gain from 2:4 sparsity cannot run on sparse tensor "
            f"cores any more: {layers[0]}{more} (`round-to={INPUT_ALIGNMENT}` keeps them)",
        )
