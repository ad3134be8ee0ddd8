"""Says of every group that a pruning pass cannot touch what pins it, and what would free it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prunec.ir.diagnostics import Remark, RemarkLog

if TYPE_CHECKING:
    from prunec.passes.coupling.groups import Coupling, Group

PINNED = "pinned: "
"""How the reason of such a remark begins."""


def report_pinned(
    coupling: Coupling, accept: Callable[[Group], bool], remarks: RemarkLog, origin: str
) -> None:
    """Add a remark for each pinned group that computed values run through.

    Axes of a single parameter, such as the height of a kernel, are nothing that anybody misses. What an earlier
    round has said already is not said again.

    Args:
        coupling: the channel groups.
        accept: the filters of the pass.
        remarks: where to add them.
        origin: the pass.
    """
    from prunec.passes.coupling.view import GroupView

    alone = GroupView.of(coupling).alone
    said = set(remarks.remarks)
    for group in coupling.groups:
        if group.frozen is None or group.id in alone or not accept(group):
            continue
        units = group.units or len(group.members[0].units)
        remark = Remark(
            kind="missed",
            origin=origin,
            message=f"{group.title} keeps all {units:,} units",
            reason=f"{PINNED}{group.frozen.text}",
            help=group.frozen.help,
            node=group.members[0].name,
            group=group.id,
            numbers=(("units", units),),
        )
        if remark not in said:
            remarks.remarks.append(remark)
