"""Which layers `sparsify` takes, how much goes from each, and the masks of a plan that is replayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import RemarkLog, UserError, nearest
from prunec.passes.base import Context
from prunec.passes.plan import Step, WeightMask
from prunec.passes.pruning.filters import matches, warn_unmatched
from prunec.passes.sparsity.criteria import Criterion, Scoring
from prunec.passes.sparsity.layer import SparseLayer, SparseLayers
from prunec.passes.sparsity.masks import largest
from prunec.passes.sparsity.patterns import NM, Pattern, parse_pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChoice:
    """Takes the layers that the options of a pass let through, and says why it leaves the others.

    Attributes:
        origin: name of the pass, for remarks.
        pattern: that their weights shall have.
        layers: ``profitable``, ``eligible`` or ``all``: what sparse tensor cores make of them.
        ignore: globs on the names of nodes and weights to leave alone.
        only: globs of which a name must match one, if there are any.
        strict: a layer whose channels the pattern does not divide is an error.
    """

    origin: str
    pattern: Pattern
    layers: str = "all"
    ignore: Sequence[str] = ()
    only: Sequence[str] = ()
    strict: bool = False

    def take(self, context: Context) -> list[SparseLayer]:
        """The layers, in graph order.

        Raises:
            UserError: with ``strict``, the pattern does not divide the channels of a layer.
        """
        found = context.analyses.layers()
        self._report_skipped(found, context.remarks)
        named = [layer for layer in found.layers if self._is_meant(_names(layer))]
        fitting = [layer for layer in named if not self._is_misfit(layer, context.remarks)]
        taken = [layer for layer in fitting if not self._is_pointless(layer, context)]
        if not taken:
            context.remarks.missed(
                self.origin,
                "no layer of this model is sparsified",
                reason=_why_none(found, named, fitting),
                help="`prunec inspect --sparsity MODEL` lists every layer and what speaks against it",
            )
        return taken

    def _is_meant(self, names: Sequence[str]) -> bool:
        return not matches(names, self.ignore) and (not self.only or matches(names, self.only))

    def _report_skipped(self, found: SparseLayers, remarks: RemarkLog) -> None:
        known = {name for layer in found.layers for name in _names(layer)}
        for skipped in found.skipped:
            names = [skipped.node.name or "", skipped.weight]
            known |= set(names)
            if self._is_meant(names):
                what = f"weight `{skipped.weight}` is left as it is"
                remarks.missed(self.origin, what, reason=skipped.reason, node=skipped.node.name)
        warn_unmatched((*self.ignore, *self.only), known, remarks, self.origin)

    def _is_misfit(self, layer: SparseLayer, remarks: RemarkLog) -> bool:
        reason = self.pattern.misfit(layer.shape)
        if reason is None and not np.isfinite(layer.weights()).all():
            self._leave(layer, "its weights are not all finite", remarks)
            return True
        if reason is None:
            return False
        if self.strict:
            raise UserError(
                f"layer `{layer.name}` cannot be {self.pattern}: {reason}",
                help=["leave it out with `ignore=`, or leave `strict` out"],
            )
        self._leave(layer, reason, remarks)
        return True

    def _is_pointless(self, layer: SparseLayer, context: Context) -> bool:
        """Whether sparse tensor cores would read the pattern but make nothing of this layer."""
        if self.layers == "all" or not runs_on_tensor_cores(self.pattern):
            return False
        rows = [row for row in context.analyses.eligibility() if row.layer is layer]
        if any(row.eligible if self.layers == "eligible" else row.profitable for row in rows):
            return False
        help = "`layers=eligible` takes it" if all(row.eligible for row in rows) else "`layers=all` takes it"
        self._leave(layer, rows[0].why_not or "", context.remarks, help=help)
        return True

    def _leave(self, layer: SparseLayer, reason: str, remarks: RemarkLog, help: str | None = None) -> None:
        what = f"layer `{layer.name}` stays dense"
        remarks.missed(self.origin, what, reason=reason, help=help, node=layer.node.name)


def runs_on_tensor_cores(pattern: Pattern) -> bool:
    """Whether what has a pattern is 2:4 as well."""
    return isinstance(pattern, NM) and pattern.n * 2 <= pattern.m and pattern.m in (2, 4)


def _names(layer: SparseLayer) -> list[str]:
    return [layer.value.name or "", *(node.name or node.outputs[0].name or "" for node, _ in layer.uses)]


def _why_none(found: SparseLayers, named: Sequence[SparseLayer], fitting: Sequence[SparseLayer]) -> str:
    if not found.layers:
        return "it has no contraction with a stored weight"
    if not named:
        return "no layer passes the filters `ignore` and `only`"
    return "none gains from sparse tensor cores" if fitting else "the pattern divides the channels of none"


def shares(
    layers: Sequence[SparseLayer], criterion: Criterion, pattern: Pattern, ratio: float, scope: str
) -> Iterator[float | None]:
    """The share of its weights that each layer loses; None for a pattern that leaves no choice.

    With ``scope="global"`` the lowest scores of all layers together go, whatever layer they are in.
    """
    if scope == "local" or not pattern.takes_ratio:
        yield from [ratio if pattern.takes_ratio else None] * len(layers)
        return
    assert isinstance(criterion, Scoring), "the pass sees to it"
    scores = [pattern.units(criterion.scores(layer)).ravel() for layer in layers]
    keep = largest(np.concatenate(scores), ratio) if scores else np.ones(0, bool)
    ends = np.cumsum([len(part) for part in scores])
    for part in np.split(keep, ends[:-1]):
        yield 1 - np.count_nonzero(part) / len(part)


def replayed(step: Step, found: SparseLayers) -> tuple[list[SparseLayer], Mapping[str, WeightMask]]:
    """The layers whose masks a plan holds, and these masks by the weight's name.

    Raises:
        UserError: a mask does not fit this model, or does not have the pattern that it claims.
    """
    layers = {layer.value.name or "": layer for layer in found.layers}
    for mask in step.masks:
        _check_fit(mask, layers)
    masks = {mask.name: mask for mask in step.masks}
    return [layer for name, layer in layers.items() if name in masks], masks


def _check_fit(mask: WeightMask, layers: Mapping[str, SparseLayer]) -> None:
    layer = layers.get(mask.name)
    if layer is None:
        hint = nearest(mask.name, layers)
        meant = f" (did you mean '{hint}'?)" if hint else ""
        raise UserError(f"the plan masks weight '{mask.name}', which no layer of this graph has{meant}")
    if mask.shape != layer.layout.stored_shape:
        sizes = f"{list(mask.shape)}, here it has {list(layer.layout.stored_shape)}"
        raise UserError(f"the plan masks weight '{mask.name}' of shape {sizes}")
    try:
        pattern = parse_pattern(mask.pattern)
    except ValueError as error:
        raise UserError(f"the plan has an unknown pattern '{mask.pattern}'") from error
    wrong = pattern.misfit(layer.shape)
    if wrong is None and (broken := pattern.violations(layer.layout.unfold(mask.keep()))):
        wrong = f"{broken:,} places of the mask break the pattern"
    if wrong is not None:
        raise UserError(f"the plan's mask of '{mask.name}' is not {mask.pattern}: {wrong}")


def unfolded(layer: SparseLayer, mask: WeightMask | None) -> NDArray[Any] | None:
    """A mask of a plan as algorithms see it."""
    return None if mask is None else layer.layout.unfold(mask.keep())
