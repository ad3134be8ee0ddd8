"""Chooses units so that a model takes a share of the time that it takes now, on this machine.

Predicted from a table of measured latencies, cut, measured end to end beside the model as it is, corrected: the share
that the prediction is asked for is moved until what is measured is close to what was asked (regula falsi).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import lcm

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.ir.execute import Blame, Runner, probe_feeds
from prunec.ir.module import Module
from prunec.ir.timing import Ratio, ratio_of_rounds, take_turns
from prunec.passes.coupling import analyse
from prunec.passes.pruning.allocation import Bill
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.cutting import Cutter
from prunec.passes.pruning.latency import LatencyCost, clock_of, latency_table
from prunec.passes.pruning.selection import removed_components
from prunec.passes.pruning.target import Target
from prunec.passes.pruning.targeting import Question, bill_of

Units = NDArray[np.int64]

TOLERANCE = 0.05
"""How far the latency may be from its target, as a share of the latency before."""
CLOSE = 0.02
"""So close, nothing more is tried."""
BLOCK = 16
"""Channels of one block of ONNX Runtime's layout for convolutions, on processors with the widest vectors. A layer of
another number of channels may take longer than one with more."""
TRIES = 7
ROUNDS = 3
"""Sessions of each model for one measurement: two sessions of one model differ, too."""
RUNS = 400
SECONDS = 0.6
"""For one round, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopwatch:
    """Measures models beside a dense one.

    Attributes:
        dense: the model as it is.
        threads: of one op; 0 lets ONNX Runtime choose.
        batch: size of a symbolic first axis.
    """

    dense: Module
    threads: int
    batch: int

    def seconds(self) -> float:
        """Of one inference of the model as it is."""
        runner, feeds = self._runner(self.dense), probe_feeds(self.dense, batch=self.batch)
        return float(
            np.median(
                take_turns([lambda: runner.run(feeds)], RUNS, seconds=SECONDS, clock=clock_of(self.threads))
            )
        )

    def ratio(self, cut: Module, rounds: int = ROUNDS) -> Ratio:
        """The time of a cut model by that of the model as it is, measured in turns."""
        feeds = probe_feeds(self.dense, batch=self.batch)
        found = []
        for _ in range(rounds):
            runners = [self._runner(module) for module in (cut, self.dense)]
            calls = [partial(runner.run, feeds) for runner in runners]
            found.append(take_turns(calls, RUNS, seconds=SECONDS, clock=clock_of(self.threads)))
        return ratio_of_rounds(found, 0, 1)

    def _runner(self, module: Module) -> Runner:
        given = module is self.dense and module.source.made_from is None
        blame: Blame = "user" if given else "pass"
        return Runner(module, optimize=True, threads=self.threads, blame=blame)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A cut that was tried.

    Attributes:
        asked: the share that was predicted for it.
        ratio: what was measured.
        units: per group the units that go.
        bound: nothing more may go.
    """

    asked: float
    ratio: Ratio
    units: list[Units]
    bound: bool


@dataclass(slots=True, kw_only=True)
class LatencySearch:
    """Looks for the cut that takes a share of the time.

    Attributes:
        target: what it may take.
        question: what may go.
        stopwatch: measures.
        tried: the cuts that were tried.
    """

    target: Target
    question: Question
    stopwatch: Stopwatch
    tried: list[Attempt] = field(default_factory=list)

    def run(self) -> list[Units]:
        """Per group the units that go; none where the cut model is not faster.

        Raises:
            UserError: the target is out of reach, or the model does not run.
        """
        bill, policy = self._bill(), self.question.policy
        for step in dict.fromkeys((lcm(policy.round_to, BLOCK), policy.round_to)):
            tried = self._tried(bill, replace(self.question, policy=replace(policy, round_to=step)))
            self.tried += tried
            if min(self._distance(attempt.ratio.value) for attempt in tried) <= TOLERANCE / 2:
                break
        return self._answer()

    def _tried(self, bill: Bill, question: Question) -> list[Attempt]:
        """Cuts ever closer to the target, with one rounding."""
        least = question.allocator(bill, 0.0).least()
        asked, tried = max(self.target.share, least), list[Attempt]()
        for _ in range(TRIES):
            units = question.chosen(question.allocator(bill, asked))
            ratio = self.stopwatch.ratio(self._cut(units))
            tried.append(Attempt(asked=asked, ratio=ratio, units=units, bound=asked <= least))
            following = max(self._next(tried), least)
            seen = any(abs(following - attempt.asked) < 1e-3 for attempt in tried)
            if seen or self._distance(ratio.value) <= CLOSE:
                break
            asked = following
        return tried

    def _answer(self) -> list[Units]:
        """The best of what was tried, measured once more."""
        best = min(self.tried, key=lambda attempt: self._distance(attempt.ratio.value))
        ratio = self.stopwatch.ratio(self._cut(best.units), rounds=2 * ROUNDS)
        question = self.question
        reached = (
            f"latency is {ratio.value:.1%} of what it was [{ratio.low:.1%}, {ratio.high:.1%}] "
            f"(threads: {self.stopwatch.threads or 'all'}, batch {self.stopwatch.batch}), "
            f"the target is {self.target.share:.1%}"
        )
        if ratio.value >= 1:
            question.remarks.missed(
                question.origin,
                f"nothing is removed: {reached}",
                reason="the cut model is not faster on this machine",
                help="`prunec bench` shows where the time goes",
                urgent=True,
            )
            return [units[:0] for units in best.units]
        if ratio.value > self.target.share + TOLERANCE and best.bound:
            raise UserError(
                f"target={self.target} is out of reach: {reached}",
                notes=[f"this is with all gone that {question.limits} allow"],
                help=[f"ask for latency:{ratio.value:.2f} or more, raise max-ratio, or lower round-to"],
            )
        if self._distance(ratio.value) <= TOLERANCE:
            question.remarks.passed(question.origin, reached)
        else:
            question.missed(reached)
        return best.units

    def _distance(self, ratio: float) -> float:
        return abs(ratio - self.target.share)

    def _next(self, tried: Sequence[Attempt]) -> float:
        """What to ask the prediction for next: between the nearest measurements on both sides of the target."""
        points = [(0.0, 0.0), (1.0, 1.0), *((attempt.asked, attempt.ratio.value) for attempt in tried)]
        below = max((p for p in points if p[1] <= self.target.share), key=lambda p: p[1])
        above = min((p for p in points if p[1] > self.target.share), key=lambda p: p[1])
        weight = (self.target.share - below[1]) / (above[1] - below[1])
        return below[0] + weight * (above[0] - below[0])

    def _bill(self) -> Bill:
        """Seconds by kept units; multiply-accumulates where the table says that no layer gains anything."""
        question = self.question
        cost = CutCost(question.module.model, question.coupling, question.groups)
        table = latency_table(
            question.module,
            question.coupling,
            question.groups,
            question.clusters,
            question.options,
            threads=self.stopwatch.threads,
        )
        if failed := [row for row in table if row.failure is not None]:
            question.remarks.missed(
                question.origin,
                f"{len(failed)} of {len(table)} layers could not be timed alone, and count as gaining nothing",
                reason=f"{failed[0].tensor.rpartition(':')[0]}: {failed[0].failure}",
            )
        if not any(row.seconds_a_mac for row in table):
            return bill_of(self.target, cost)
        seconds = LatencyCost(cost, table, question.clusters, self.stopwatch.seconds())
        return Bill(total=seconds.total, touching=seconds.touching, full=cost.full)

    def _cut(self, units: Sequence[Units]) -> Module:
        """The model without some units."""
        question = self.question
        cut = question.module.clone()
        coupling = analyse(cut.model, options=question.options)
        places = {tuple(g.components.tolist()): n for n, g in enumerate(coupling.groups)}
        groups = [coupling.groups[places[tuple(g.components.tolist())]] for g in question.groups]
        Cutter(cut.model, coupling, removed_components(coupling, groups, units)).run()
        return cut
