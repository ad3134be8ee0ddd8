"""Instruments see every pass, can hold one back, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar

import pytest
from coupling_graphs import coupled

import prunec
from prunec.ir.diagnostics import PassFailure
from prunec.ir.module import Module
from prunec.passes.analyses import Analyses
from prunec.passes.base import Context, Outcome, Pass
from prunec.passes.instruments import Instrument, Stage
from prunec.passes.pipeline import Pipeline

PIPELINE = "canonicalize, repeat{times=2}(prune-channels{ratio=0.5 round-to=1}), verify"


@dataclass
class Recorder(Instrument):
    """Writes down what it is told; lets through what is in ``allowed``."""

    keeps_before: ClassVar[bool] = True
    allowed: frozenset[str] | None = None
    seen: list[str] = field(default_factory=list)
    nodes: list[tuple[int, int]] = field(default_factory=list)

    def allows(self, stage: Stage) -> bool:
        return self.allowed is None or stage.pass_.name in self.allowed

    def before_pass(self, stage: Stage) -> None:
        self.seen.append(f"before {stage.number} {stage.pass_.name}")

    def after_pass(self, stage: Stage, outcome: Outcome) -> None:
        self.seen.append(f"after {stage.number} {stage.pass_.name}")
        assert stage.before is not None
        self.nodes.append((parameters(stage.before), parameters(stage.module)))

    def failed(self, stage: Stage, error: BaseException) -> None:
        rest = ", ".join(pass_.name for pass_ in stage.remaining)
        self.seen.append(f"failed {stage.number} {type(error).__name__}; left: {rest}")


def parameters(module: Module) -> int:
    return sum(value.const_value.size for value in module.graph.initializers.values() if value.const_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Break(Pass):
    """Fails."""

    name: ClassVar[str] = "break"

    def run(self, module: Module, context: Context) -> Outcome:
        raise PassFailure("broken on purpose")


def test_every_pass_is_seen_with_the_module_before_and_after_it() -> None:
    recorder = Recorder()
    prunec.run(coupled("residual"), PIPELINE, instruments=[recorder])
    names = ["canonicalize", "prune-channels", "prune-channels", "verify"]
    moments = [(f"before {n} {name}", f"after {n} {name}") for n, name in enumerate(names, start=1)]
    assert recorder.seen == [line for pair in moments for line in pair]
    shrunk = [after < before for before, after in recorder.nodes]
    assert shrunk == [False, True, True, False]


def test_a_watched_run_gives_what_an_unwatched_one_does() -> None:
    module = coupled("residual")
    watched, alone = prunec.run(module, PIPELINE, instruments=[Recorder()]), prunec.run(module, PIPELINE)
    assert watched.plan == alone.plan and watched.statistics == alone.statistics


def test_a_pass_that_an_instrument_holds_back_does_not_run() -> None:
    recorder = Recorder(allowed=frozenset({"canonicalize", "verify"}))
    result = prunec.run(coupled("residual"), PIPELINE, instruments=[recorder, Instrument()])
    assert not result.plan.steps
    assert [timing.pass_name for timing in result.timings] == ["canonicalize", "verify"]


def test_a_failure_is_told_with_what_was_left_to_do() -> None:
    recorder = Recorder()
    with pytest.raises(PassFailure):
        prunec.run(
            coupled("residual"), Pipeline.of(["canonicalize", Break(), "verify"]), instruments=[recorder]
        )
    assert recorder.seen[-1] == "failed 2 PassFailure; left: break, verify"


def test_counters_are_summed_over_the_run() -> None:
    result = prunec.run(coupled("residual"), PIPELINE)
    removed = sum(len(group.removed) for step in result.plan.steps for group in step.groups)
    assert result.statistics["prune-channels.units"] == removed > 0


def test_analyses_are_timed_apart_from_each_other() -> None:
    analyses, started = Analyses(coupled("residual")), perf_counter()
    analyses.cost()
    assert set(analyses.seconds) == {"facts", "coupling", "cost"}
    assert min(analyses.seconds.values()) > 0
    assert sum(analyses.seconds.values()) <= perf_counter() - started


def test_a_timing_has_the_part_of_the_analyses() -> None:
    first, second = prunec.run(coupled("residual"), "repeat{times=2}(prune-channels{round-to=1})").timings
    assert first.analyses["coupling"] == 0, "it was at hand from the cost of the input"
    assert 0 < second.analyses["coupling"] <= second.seconds
