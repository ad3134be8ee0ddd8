"""What pruning passes decided, as data: written to a file, compared, replayed, and checked by the verifier.

A step removes slots (``groups``) or puts slots in another order (``orders``).

Indices are positions in the tensors of the input file, wherever a tensor still exists as it was. In JSON
every group has a line of its own, so that plans compare line by line::

    {
      "schema": "prunec.plan/1",
      "source": {"name": "net.onnx", "sha256": "9f86..."},
      "pipeline": "prune-channels{ratio=0.4}",
      "steps": [
        {"pass": "prune-channels", "groups": [
          {"id":"g3","units":64,"removed":[0,5],"equivalence":"masked","tensors":[...]}
        ]}
      ]
    }
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import UserError
from prunec.ir.files import read_text, write_text
from prunec.passes.plan.masks import WeightMask

if TYPE_CHECKING:
    from prunec.ir.module import Module

SCHEMA = "prunec.plan/1"

Equivalence = Literal["masked", "masked-kept-statistics", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorCut:
    """Indices that one tensor loses along one axis.

    Attributes:
        name: of the tensor in the input file.
        axis: counted from 0.
        removed: positions along the axis, ascending.
        uses: ``"output:input_index"`` of the uses that the cut holds for (the reading node by the name of its
            first output, which is always there and unique); empty means all. Not empty only where a shared
            tensor had to be copied because its users are cut differently.
    """

    name: str
    axis: int
    removed: tuple[int, ...]
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCut:
    """What one group of coupled channels loses.

    Attributes:
        id: of the group, such as ``g3``.
        units: how many units the group had.
        removed: units that go, ascending.
        equivalence: what the pruned model equals: the original with these slices set to zero (``masked``),
            the same with statistics over the kept channels (``masked-kept-statistics``), or nothing.
        reason: why, where ``equivalence`` is ``none``.
        tensors: the same removal on every tensor that belongs to the group.
    """

    id: str
    units: int
    removed: tuple[int, ...]
    equivalence: Equivalence
    reason: str | None = None
    tensors: tuple[TensorCut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOrder:
    """Slots of one axis of a tensor that exchange places.

    Attributes:
        name: of the tensor in the input file.
        axis: counted from 0.
        order: the slots, as they stand after the step, at the places that the same slots held before it.
        uses: as in :class:`TensorCut`.
    """

    name: str
    axis: int
    order: tuple[int, ...]
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOrder:
    """Units of one group of coupled channels that exchange places; the model computes what it did.

    Attributes:
        id: of the group, such as ``g3``.
        units: how many units the group has.
        order: the units that move, as they stand after the step, at the places that the same units held before.
        tensors: the same exchange on every tensor that belongs to the group.
    """

    id: str
    units: int
    order: tuple[int, ...]
    tensors: tuple[TensorOrder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one pass of the pipeline removed, or put in another order.

    Attributes:
        pass_name: the pass.
        groups: channel groups that were cut.
        orders: channel groups whose units have exchanged places.
        masks: weights in which zeros were made.
        partial: not all tensors of the groups are named; what goes with those that are follows from the graph.
    """

    pass_name: str
    groups: tuple[GroupCut, ...] = ()
    orders: tuple[GroupOrder, ...] = ()
    masks: tuple[WeightMask, ...] = ()
    partial: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed."""
        return not (self.groups or self.orders or self.masks)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the step is made of, each in words."""
        cut = [f"group {g.id} loses {len(g.removed)} of {g.units} units: {_names(g)}" for g in self.groups]
        moved = [f"group {g.id} puts {len(g.order)} of {g.units} units in another order" for g in self.orders]
        return (*cut, *moved, *(f"{mask.zeros:,} zeros in {mask.name}" for mask in self.masks))

    def first(self, count: int) -> Step:
        """The step with only the first ``count`` of its parts."""
        groups = self.groups[:count]
        orders = self.orders[: count - len(groups)]
        masks = self.masks[: count - len(groups) - len(orders)]
        return replace(self, groups=groups, orders=orders, masks=masks)


def _names(group: GroupCut) -> str:
    return ", ".join(f"{cut.name}:{cut.axis}" for cut in group.tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a pipeline removed from one model.

    Attributes:
        source_name: the input as the user named it.
        source_sha256: hash of the input file, or None for a model made in memory.
        pipeline: canonical text of the pipeline.
        steps: one for each pass that removed something or put it in another order, in the order of the pipeline.
    """

    source_name: str
    source_sha256: str | None
    pipeline: str
    steps: tuple[Step, ...]

    def to_json(self) -> str:
        """The plan as JSON text, the same text for the same plan, with one line for each group."""
        from prunec.passes.plan.writer import plan_text

        return plan_text(self)

    def removed(self) -> dict[str, dict[int, tuple[int, ...]]]:
        """Per tensor of the input and axis the positions that are gone after all steps.

        Tensors of which a copy was made for some of their readers are left out.
        """
        gone: dict[str, dict[int, set[int]]] = {}
        for cut in (t for step in self.steps for group in step.groups for t in group.tensors):
            if not cut.uses:
                gone.setdefault(cut.name, {}).setdefault(cut.axis, set()).update(cut.removed)
        return {name: {axis: tuple(sorted(at)) for axis, at in axes.items()} for name, axes in gone.items()}

    def require_no_orders(self) -> None:
        """Raise a UserError where channels were reordered: no state of an optimizer could follow."""
        if any(step.orders for step in self.steps):
            raise UserError(
                "the state of an optimizer cannot follow channels that were reordered",
                help=["run permute-channels before training, or start a new optimizer"],
            )

    def transfer(self, source: Module, target: Module) -> Plan:
        """The plan for another graph of the same network: of a torch module's plan one for its ONNX export, or the
        other way round.

        Tensors are matched by name, by contents (also transposed), and by what exporters note beside nodes. The
        new plan names those that both graphs have; a replay completes it.

        Args:
            source: what the plan was made of, as it was before.
            target: the other graph, before any pass.

        Raises:
            UserError: of a group no tensor is found in the other graph, or a masked weight is not.

        Example:
            ``prunec.run(exported, plan.pipeline, replay=plan.transfer(captured, exported))``
        """
        from prunec.passes.plan.transfer import transfer

        return transfer(self, source, target)

    @staticmethod
    def from_json(text: str, *, file: str = "<plan>") -> Plan:
        """Read a plan strictly.

        Args:
            text: what ``to_json`` wrote, or a person edited.
            file: what messages call it.

        Raises:
            UserError: something is missing, unknown, of a wrong type or out of range; the message says where.
        """
        from prunec.passes.plan.reader import read_plan

        return read_plan(text, file)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file.

        Raises:
            UserError: it cannot be read or is no plan.
        """
        return cls.from_json(read_text(path, "plan"), file=str(path))

    def save(self, path: str | Path) -> None:
        """Write the plan beside ``path`` and rename it: a crash leaves the old file or the new one.

        Raises:
            UserError: the file cannot be written.
        """
        write_text(path, self.to_json(), "plan")


def require_plan(given: object) -> None:
    """Raise a UserError, with how to come to a plan, unless something is one."""
    if not isinstance(given, Plan):
        held = isinstance(getattr(given, "plan", None), Plan)
        raise UserError(
            f"this takes a plan, got {type_of(given)}",
            help=["give its attribute `plan`" if held else "prunec.Plan.load(path) reads one from a file"],
        )
