"""A plan of one graph as a plan of another graph of the same network.

What is taken over are the cuts of the tensors that both graphs have; the coupling of the other graph says what else
goes with them when the plan is replayed, and a replay refuses a plan that tears apart what is coupled there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import dialect_of
from prunec.ir.module import Module, require_module
from prunec.passes.plan.correspondence import Pair, correspond
from prunec.passes.plan.masks import WeightMask
from prunec.passes.plan.schema import GroupCut, GroupOrder, Plan, Step, TensorCut, TensorOrder
from prunec.passes.sparsity.layers import find_layers

Group = TypeVar("Group", GroupCut, GroupOrder)
Tensor = TypeVar("Tensor", TensorCut, TensorOrder)


def transfer(plan: Plan, source: Module, target: Module) -> Plan:
    """See :meth:`prunec.passes.plan.schema.Plan.transfer`."""
    require_module(source)
    require_module(target)
    return _Transfer(source, target).plan(plan)


class _Transfer:
    def __init__(self, source: Module, target: Module) -> None:
        self.source, self.target = source, target
        self.pairs: dict[str, list[Pair]] = defaultdict(list)
        for pair in sorted(correspond(source, target), key=lambda pair: (pair.source, pair.target)):
            self.pairs[pair.source].append(pair)

    @cached_property
    def layers(self) -> set[str]:
        """Names of the weights that may be masked."""
        facts = dialect_of(self.target.model).facts(self.target.model)
        return {layer.value.name or "" for layer in find_layers(self.target.model, facts).layers}

    def plan(self, plan: Plan) -> Plan:
        return replace(
            plan,
            source_name=self.target.source.name,
            source_sha256=self.target.source.sha256,
            steps=tuple(self._step(step) for step in plan.steps),
        )

    def _step(self, step: Step) -> Step:
        return replace(
            step,
            groups=tuple(self._group(group) for group in step.groups if not self._is_folded(group)),
            orders=tuple(self._group(group) for group in step.orders if not self._is_folded(group)),
            masks=tuple(moved for mask in step.masks for moved in self._mask(mask)),
            partial=True,
        )

    def _is_folded(self, group: GroupCut | GroupOrder) -> bool:
        """Whether a group has nothing but indices (such as a table of positions), which exporters turn into others."""
        held = self.source.graph.initializers
        return not any(
            self.pairs[tensor.name]
            or tensor.name not in held
            or (found := held[tensor.name].const_value) is None
            or found.dtype.is_floating_point()
            for tensor in group.tensors
        )

    def _group(self, group: Group) -> Group:
        moved = tuple(dict.fromkeys(other for tensor in group.tensors for other in self._tensor(tensor)))
        if not moved:
            names = [f"`{tensor.name}`" for tensor in group.tensors]
            raise self._missing(f"none of the tensors of group {group.id} is found in", names)
        return replace(group, tensors=moved)

    def _tensor(self, tensor: Tensor) -> Iterator[Tensor]:
        for pair in self.pairs[tensor.name] if not tensor.uses else ():
            axis = 1 - tensor.axis if pair.transposed else tensor.axis
            yield replace(tensor, name=pair.target, axis=axis)

    def _mask(self, mask: WeightMask) -> Iterator[WeightMask]:
        pairs = [pair for pair in self.pairs[mask.name] if pair.target in self.layers]
        if not pairs:
            raise self._missing(f"the masked weight `{mask.name}` is no layer of", [])
        keep = mask.keep()
        for pair in pairs:
            yield WeightMask.of(
                pair.target,
                keep.T if pair.transposed else keep,
                pattern=mask.pattern,
                updated=mask.updated,
            )

    def _missing(self, what: str, names: Sequence[str]) -> UserError:
        found = sum(map(len, self.pairs.values()))
        return UserError(
            f"{what} {self.target.source.name}",
            place=Place(file=self.source.source.name),
            notes=[
                *(
                    [f"its tensors: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"]
                    if names
                    else []
                ),
                f"{found:,} of {len(self.source.graph.initializers):,} tensors are found",
            ],
            help=[
                *([f"to make the plan without this group: ignore={names[0].strip('`')}"] if names else []),
                "both must be the same network, before any pass: the module of which the plan was made, and its export",
                "export it again with its weights as they are, or make a plan for this model",
            ],
        )
