"""Remove the least important units of channel groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.ir.diagnostics import UserError, counted
from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import at_least, within
from prunec.passes.pruning.target import TargetOption
from prunec.passes.text.option_types import Ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prunec.ir.module import Module
    from prunec.passes.coupling.groups import Coupling, Group
    from prunec.passes.coupling.options import CouplingOptions
    from prunec.passes.pruning.filters import GroupFilter
    from prunec.passes.pruning.selection import Policy
    from prunec.passes.sensitivity.budget import Damages

USUAL_MAX_RATIO = 0.9
"""A ranking of all groups together must not empty one of them."""
_RATIO = 0.5
"""Share that goes where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneChannels(Pass):
    """Remove whole channel groups: the least important units, on every tensor that they touch.

    A unit is what must go together: a filter with its bias, its norm, its place in every residual sum, and
    the columns of every
    layer that reads it; or a whole attention head. Groups that reach a graph input or output keep their size.
    """

    name: ClassVar[str] = "prune-channels"
    contract: ClassVar[Contract] = "masked"
    planned: ClassVar[bool] = True

    ratio: Ratio | None = option(
        None,
        help=f"share of the units to remove (none: {_RATIO}, unless `target` says what goes)",
        check=within(0, 1, closed="left"),
    )
    target: TargetOption | None = option(
        None,
        help="what may stay of the model's cost, instead of `ratio`: within 2 % of the original cost, or 5 % of the "
        "latency in ONNX Runtime on this machine",
    )
    latency_threads: int = option(
        1,
        help="threads of an op while latencies are measured (0: as many as ONNX Runtime takes)",
        check=at_least(0),
    )
    latency_batch: int = option(1, help="batch size at which latency is measured", check=at_least(1))
    budget: str = option(
        "",
        help="sensitivity profile that says what each layer can spare; needs `target`",
        metavar="profile.json",
    )
    scope: Literal["local", "global"] | None = option(
        None,
        help="take the share from every group, or rank the units of all groups together (none: local, unless `budget` "
        "says what each layer can spare)",
    )
    criterion: Literal["l1", "l2", "bn-scale", "fpgm", "taylor", "activation", "reconstruction", "random"] = (
        option(
            "l2",
            help="what makes a unit important, judged over all members of its group; `taylor` needs gradients, "
            "`activation` and `reconstruction` need `--data`",
        )
    )
    unit: Literal["head", "head-dim"] = option(
        "head",
        help="what attention loses: whole heads, or the same positions of every head (and of every group of a "
        "convolution)",
    )
    allow_io: bool = option(
        False, help="let cached keys and values among the graph inputs and outputs shrink with their heads"
    )
    round_to: int = option(8, help="keep a multiple of this many channels (1: any number)", check=at_least(1))
    min_channels: int = option(1, help="channels that every group keeps at least", check=at_least(1))
    max_ratio: Ratio | None = option(
        None,
        help="share of one group that may go at most (none: 0.9, or `ratio` where that is more)",
        check=within(0, 1, closed="both"),
    )
    ignore: tuple[str, ...] = option(
        (), help="leave groups alone that touch nodes or tensors of these names (globs or paths)"
    )
    only: tuple[str, ...] = option(
        (), help="prune only groups that touch nodes or tensors of these names (globs or paths)"
    )
    exclude_outputs_of: tuple[str, ...] = option(
        (), help="keep the output channels of the nodes of these names (globs or paths)"
    )

    def __post_init__(self) -> None:
        if self.budget and self.target is None:
            raise UserError(
                "a budget needs a target: what the profile says is spent until the model costs that",
                help=["add target=macs:0.5 (half of the multiply-accumulates stay) or target=params:0.5"],
            )
        if self.budget and self.scope is not None:
            raise UserError(
                f"scope={self.scope} and a budget are two answers to which layers lose how much",
                help=["leave one of them out"],
            )
        if self.target is not None:
            if self.ratio is not None:
                raise UserError(
                    f"ratio={self.ratio} and target={self.target} are two answers to how much goes",
                    help=["leave one of them out; `max-ratio` says how much of one group may go at most"],
                )
        elif self.max_ratio is not None and self.max_ratio < self._share:
            raise UserError(
                f"max-ratio={self.max_ratio} is below ratio={self._share}, which could then never be reached",
                help=["lower `ratio` or raise `max-ratio`"],
            )

    @property
    def _share(self) -> float:
        """What goes of the units, where no target says so."""
        return _RATIO if self.ratio is None else self.ratio

    @property
    def needs_gradients(self) -> bool:
        """Whether the criterion looks at gradients."""
        return self.criterion == "taylor"

    @property
    def needs_data(self) -> bool:
        """Whether the criterion looks at activations."""
        return self.criterion in ("activation", "reconstruction")

    @property
    def coupling_options(self) -> CouplingOptions:
        """The unit of attention, and whether caches may shrink."""
        from prunec.passes.coupling.options import CouplingOptions

        return CouplingOptions(unit=self.unit, allow_io=self.allow_io)

    def run(self, module: Module, context: Context) -> Outcome:
        """Choose units (or take them from the plan being replayed) and cut them out."""
        from prunec.passes.plan.steps import make_step, replayed
        from prunec.passes.pruning.cutting import Cutter
        from prunec.passes.pruning.pinned import report_pinned
        from prunec.passes.pruning.report import report_chosen, report_interface, report_lost
        from prunec.passes.pruning.selection import removed_components

        coupling = context.analyses.coupling(self.coupling_options)
        groups = self._groups(coupling, context)
        if context.replay is not None:
            step, removed = replayed(context.replay, coupling)
        else:
            chosen = self._chosen(module, coupling, groups, context)
            step = make_step(self.name, groups, chosen)
            removed = removed_components(coupling, groups, chosen)
            asked = self._share > 0 and self.target is None
            report_chosen(groups, chosen, self._policy() if asked else None, context.remarks, self.name)
        report_pinned(coupling, self._filter(coupling), context.remarks, self.name)
        if not removed.any():
            return Outcome(changed=False)
        eligibility = context.analyses.eligibility()
        cutter = Cutter(module.model, coupling, removed)
        predicted = cutter.run()
        report_interface(module, coupling, predicted, context.remarks, self.name)
        report_lost(eligibility, context.remarks, self.name)
        return Outcome(
            changed=True,
            step=step,
            predicted=predicted,
            copies=cutter.constants.copies,
            options=self.coupling_options,
            kept=cutter.slots,
            statistics={"groups": len(step.groups), "units": sum(len(g.removed) for g in step.groups)},
        )

    def _chosen(
        self, module: Module, coupling: Coupling, groups: list[Group], context: Context
    ) -> list[NDArray[np.int64]]:
        """Per group the units that go: a share of them, or so many that the model costs its target."""
        from prunec.passes.pruning.selection import select
        from prunec.passes.pruning.targeting import Question, choose_for

        scores = self._scores(coupling, groups, context)
        if self.target is None or not groups:
            return select(coupling, groups, scores, self._policy(), context.earlier)
        question = Question(
            module=module,
            coupling=coupling,
            options=self.coupling_options,
            groups=groups,
            scores=scores,
            policy=self._policy(),
            damage=self._damage(module, groups, context) if self.budget else None,
            remarks=context.remarks,
            origin=self.name,
        )
        if self.target.quantity != "latency":
            return choose_for(self.target, question)
        from prunec.passes.pruning.latency_target import LatencySearch, Stopwatch

        watch = Stopwatch(dense=module, threads=self.latency_threads, batch=self.latency_batch)
        return LatencySearch(target=self.target, question=question, stopwatch=watch).run()

    def _damage(self, module: Module, groups: list[Group], context: Context) -> Damages:
        """What the profile says about every layer."""
        from prunec.passes.judging.bootstrap import FEW
        from prunec.passes.pruning.selection import clusters_of
        from prunec.passes.sensitivity.budget import Damages, check_model, curves_for
        from prunec.passes.sensitivity.profile import Profile

        profile = Profile.load(self.budget)
        check_model(profile, module.source.original, self.unit, self.budget)
        if profile.samples < FEW:
            context.remarks.missed(
                self.name,
                f"the profile {self.budget} is no evidence of what layers can spare",
                reason=f"it is of {counted(profile.samples, 'sample')}, and so few say nothing about others",
                help="measure it on hundreds of samples",
                urgent=True,
            )
        if profile.criterion != self.criterion:
            context.remarks.analysis(
                self.name,
                f"the profile {self.budget} masked units by criterion={profile.criterion}, and by "
                f"criterion={self.criterion} others go: what it says of a share holds for those less",
            )
        clusters = clusters_of(groups)
        curves = curves_for(profile, groups, clusters, self.budget)
        for members, curve in zip(clusters, curves, strict=True):
            if curve is None:
                context.remarks.missed(
                    self.name,
                    f"{groups[members[0]].title} keeps all units",
                    reason=f"the profile {self.budget} says nothing about it",
                    help="make the profile of the model as this pass finds it",
                )
        return Damages(profile, curves)

    def _policy(self) -> Policy:
        from prunec.passes.pruning.selection import Policy

        return Policy(
            ratio=self._share,
            scope=self.scope or "local",
            round_to=self.round_to,
            min_channels=self.min_channels,
            max_ratio=self._most(),
        )

    def _most(self) -> float:
        return max(self._share, USUAL_MAX_RATIO) if self.max_ratio is None else self.max_ratio

    def _groups(self, coupling: Coupling, context: Context) -> list[Group]:
        """The groups that the name filters let through; says why where there is none."""
        from prunec.passes.pruning.report import report_nothing

        accept = self._filter(coupling)
        accept.warn_unmatched(context.remarks, self.name)
        groups = [group for group in coupling.prunable if accept(group)]
        if not groups:
            report_nothing(coupling, context.remarks, self.name)
        return groups

    def _filter(self, coupling: Coupling) -> GroupFilter:
        from prunec.passes.pruning.filters import GroupFilter

        return GroupFilter(
            coupling, ignore=self.ignore, only=self.only, exclude_outputs_of=self.exclude_outputs_of
        )

    def _scores(self, coupling: Coupling, groups: list[Group], context: Context) -> list[NDArray[np.float64]]:
        from prunec.passes.pruning.importance import Importance
        from prunec.passes.pruning.observed import observed_scores

        criterion = self.criterion
        if criterion == "activation" or criterion == "reconstruction":
            one_share = self.scope != "global" and self.target is None
            share = min(1.0, 1.5 * self._share) if one_share else self._most()
            return observed_scores(coupling, groups, criterion, context, origin=self.name, share=share)
        importance = Importance(coupling, criterion, context.seed, context.gradients)
        return [importance.score(group) for group in groups]
