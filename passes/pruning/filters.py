"""Which groups a pass may touch, by patterns on the names of nodes and tensors.

A pattern with ``*``, ``?`` or ``[`` is a glob on the whole name. One without is a name, or the beginning of a path:
``layer4`` is the layer itself and all inside of it, ``layer4.0.conv1.weight`` and ``/layer4/layer4.0/conv1/Conv``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from prunec.ir.diagnostics import RemarkLog, nearest
from prunec.passes.coupling.groups import Coupling, Group


class GroupFilter:
    """Accepts groups by the names of their tensors and of the nodes that read them.

    Args:
        coupling: the analysis that the groups come from.
        ignore: a group that touches a matching name is refused.
        only: where given, a group must touch a matching name.
        exclude_outputs_of: groups of the output channels of matching nodes are refused.
    """

    def __init__(
        self,
        coupling: Coupling,
        *,
        ignore: Sequence[str] = (),
        only: Sequence[str] = (),
        exclude_outputs_of: Sequence[str] = (),
    ) -> None:
        self.ignore, self.only, self.exclude = ignore, only, exclude_outputs_of
        self.names: dict[str, set[str]] = defaultdict(set)
        for group in coupling.groups:
            for member in group.members:
                self.names[group.id].add(member.name)
                self.names[group.id] |= {u.node.name or "" for u in member.operand.value.uses()}
        self.kept_outputs = self._kept_outputs(coupling)
        self.nodes = {node.name or "" for node in coupling.relations.rules}

    def __call__(self, group: Group) -> bool:
        """Whether the group may be touched."""
        names = self.names[group.id]
        if matches(names, self.ignore) or not self.kept_outputs.isdisjoint(group.components.tolist()):
            return False
        return not self.only or matches(names, self.only)

    def _kept_outputs(self, coupling: Coupling) -> set[int]:
        """Components of the output axes of the nodes whose outputs must stay."""
        kept: set[int] = set()
        if not self.exclude:
            return kept
        for operand, axis, root in coupling.relations.table.axes():
            producer = operand.value.producer()
            if producer is None or not matches([producer.name or ""], self.exclude):
                continue
            del axis
            labels = coupling.labels(root)
            kept |= set() if labels is None else set(labels.tolist())
        return kept

    def warn_unmatched(self, remarks: RemarkLog, origin: str) -> None:
        """Remark on every pattern that matches no name at all: most likely a typo."""
        known = set().union(*self.names.values(), self.nodes) if self.names else self.nodes
        warn_unmatched((*self.ignore, *self.only, *self.exclude), known, remarks, origin)


def warn_unmatched(patterns: Iterable[str], known: Collection[str], remarks: RemarkLog, origin: str) -> None:
    """Remark on every pattern that matches none of the known names: most likely a typo."""
    for pattern in patterns:
        if not matches(known, [pattern]):
            hint = nearest(pattern, known)
            remarks.missed(
                origin,
                f"pattern '{pattern}' matches no node or tensor",
                reason="no such name in the graph",
                help=f"did you mean '{hint}'?" if hint else None,
                urgent=True,
            )


def matches(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether any of the names matches any of the patterns."""
    return any(_matches(name, pattern) for name in names for pattern in patterns)


def _matches(name: str, pattern: str) -> bool:
    if any(wildcard in pattern for wildcard in "*?["):
        return fnmatchcase(name, pattern)
    return name == pattern or name.lstrip("/").startswith(
        (f"{pattern.lstrip('/')}.", f"{pattern.lstrip('/')}/")
    )
