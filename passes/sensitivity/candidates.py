"""What a sweep measures: for each layer's channels a few shares of them masked.

The channels of one layer may fall into several groups (splits, shuffles); they are looked at together, as they are
when channels are chosen for removal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor

import numpy as np
import onnx_ir

from prunec.ir.module import Module
from prunec.ir.scopes import walk
from prunec.passes.coupling.axes import node_label
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.solve import Bools
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.importance import Criterion, Importance
from prunec.passes.pruning.selection import apportion, choose, clusters_of, removed_components
from prunec.passes.sensitivity.profile import GroupCurve
from prunec.passes.verifier.masked import changed_nodes

_EXACT = 1e-9  # 0.29 * 100 is 28.999999999999996


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Some units of one row, and where their absence begins to show.

    Attributes:
        row: id of the curve that it is a point of.
        removed: how many units.
        gone: per component of the analysis whether it is among them.
        position: of the first node of the main graph whose results differ in channels that stay.
    """

    row: str
    removed: int
    gone: Bools
    position: int


class Candidates:
    """The rows of a profile, and the candidates for each.

    Args:
        module: the model.
        coupling: its analysis.
        criterion: what makes a unit important.
        seed: of a random criterion.

    Attributes:
        rows: by id the number of a row and what is known of it before anything is measured.
        positions: per node with a rule the position in the main graph, for one in a body that of the node that
            holds it.
    """

    def __init__(self, module: Module, coupling: Coupling, criterion: Criterion, seed: int) -> None:
        self._coupling = coupling
        self._groups = coupling.prunable
        self._clusters = clusters_of(self._groups)
        importance = Importance(coupling, criterion, seed)
        self._scores = [importance.score(group) for group in self._groups]
        self.positions = _positions(module, coupling)
        cost = CutCost(module.model, coupling, self._groups)
        order = {node: number for number, node in enumerate(coupling.relations.rules)}
        rows = [
            (number, _with_cost(_row(order, [self._groups[i] for i in members]), cost, members))
            for number, members in enumerate(self._clusters)
        ]
        rows.sort(key=lambda item: self._first(item[0], order))
        self.rows = {row.id: (number, row) for number, row in rows if row.units > 1}

    def _first(self, cluster: int, order: Mapping[onnx_ir.Node, int]) -> int:
        """Where in the graph the first node that reads weights of a cluster stands."""
        groups = [self._groups[i] for i in self._clusters[cluster]]
        return min(_readers(groups, order).values(), default=len(order))

    def removed(self, row: str, ratio: float) -> int:
        """How many units of a row a share stands for: at least one goes, and at least one stays."""
        units = self.rows[row][1].units
        return min(max(1, floor(ratio * units + _EXACT)), units - 1)

    def make(self, row: str, removed: int) -> Candidate:
        """The candidate that lacks the least important units of a row."""
        number = self.rows[row][0]
        counts = np.zeros(len(self._clusters), np.int64)
        counts[number] = removed
        chosen = choose(
            self._coupling, self._groups, self._scores, apportion(counts, self._groups, self._clusters)
        )
        gone = removed_components(self._coupling, self._groups, chosen)
        changed = changed_nodes(self._coupling, gone)
        return Candidate(
            row=row,
            removed=removed,
            gone=gone,
            position=min((self.positions[node] for node in changed), default=0),
        )


def _positions(module: Module, coupling: Coupling) -> dict[onnx_ir.Node, int]:
    """Per node with a rule the position in the main graph, for one in a body that of the node that holds it."""
    positions: dict[onnx_ir.Node, int] = {}
    for position, node in enumerate(module.graph):
        positions |= {inner: position for inner in walk([node]) if inner in coupling.relations.rules}
    return positions


def _readers(groups: Sequence[Group], order: Mapping[onnx_ir.Node, int]) -> dict[onnx_ir.Node, int]:
    """The nodes that multiply by weights that some groups cut, with their places in the graph."""
    weights = [member for group in groups for member in group.members if member.is_weight]
    return {node: order[node] for member in weights for node, _ in member.uses() if node in order}


def _row(order: Mapping[onnx_ir.Node, int], groups: Sequence[Group]) -> GroupCurve:
    """What is known of a row before anything is measured."""
    members = [member for group in groups for member in group.members]
    readers = _readers(groups, order)
    return GroupCurve(
        id=groups[0].id,
        groups=tuple(group.id for group in groups),
        layers=tuple(node_label(node) for node in sorted(readers, key=readers.__getitem__)),
        tensors=tuple(dict.fromkeys(f"{member.name}:{member.axis}" for member in members)),
        units=sum(group.units for group in groups),
        channels=groups[0].channels,
        macs_per_unit=0,
        parameters_per_unit=0,
        curve=(),
    )


def _with_cost(row: GroupCurve, cost: CutCost, members: Sequence[int]) -> GroupCurve:
    """The row with what one of its units costs: half of it gone, divided by as many units."""
    less = cost.full.copy()
    less[members] -= np.maximum(less[members] // 2, 1)
    gone = max(int((cost.full - less).sum()), 1)
    macs = cost.macs_touching(members, cost.full) - cost.macs_touching(members, less)
    parameters = cost.parameters_touching(members, cost.full) - cost.parameters_touching(members, less)
    return replace(row, macs_per_unit=macs // gone, parameters_per_unit=parameters // gone)
