"""Measures models side by side: ``prunec.bench``.

Models take turns (``prunec.ir.timing``), in rounds with sessions of their own, on the same inputs. Threads do not spin
between ops, since those of the waiting models would take cores from the running one.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prunec.exporters.bench.candidates import (
    Candidate,
    Feeds,
    Inputs,
    batches_of,
    check_inputs,
    feeds_of,
    open_candidates,
    size_notes,
)
from prunec.exporters.bench.machine import measure_machine, versions_and_processor
from prunec.exporters.bench.memory import measure_peak
from prunec.exporters.bench.profiling import Profiler
from prunec.exporters.bench.results import BenchReport, Memory, ModelFacts, Timing
from prunec.exporters.bench.schedule import Schedule, plan_runs
from prunec.exporters.bench.sessions import Opened, Setting, check_providers, open_session
from prunec.exporters.bench.words import verdicts
from prunec.exporters.bench.work import costs_of
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.ir.timing import Latency, Seconds, balanced_orders, ratio_of_rounds, take_turns
from prunec.passes.calibration.data import CalibrationData

BATCHES = (1, 8, 64)
Progress = Callable[[str], None]


def bench(
    models: Sequence[Module | str | os.PathLike[str]],
    *,
    data: CalibrationData | Mapping[str, Any] | None = None,
    batches: Sequence[int] = BATCHES,
    sizes: Mapping[str, int] | None = None,
    threads: int = 1,
    providers: Sequence[str] = (),
    runs: int = 1000,
    seconds: float = 10.0,
    timeout: float = 120.0,
    memory: bool = True,
    profile: bool = False,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> BenchReport:
    """Measure models side by side in ONNX Runtime, with all of its optimisations.

    Args:
        models: files or modules; the first is what the others are compared with.
        data: inputs to use instead of random ones, [samples, ...] by name.
        batches: batch sizes, in this order; models that fix theirs are measured at that one.
        sizes: of random inputs, by name of a free dimension other than the batch.
        threads: threads for one op; 0 lets ONNX Runtime choose.
        providers: of ONNX Runtime, in order of preference; none: the CPU.
        runs: timed runs of each model at each batch size, at most.
        seconds: for the runs of each batch size, about.
        timeout: seconds that one run may take.
        memory: measure peak memory, in a process for each model.
        profile: say where the time of every model goes, even where nothing asks for an explanation.
        seed: of random inputs and of the resampling.
        progress: told what is being done.

    Returns:
        The report; ``print(report)`` says the verdicts, ``report.to_json()`` everything.

    Raises:
        UserError: a model cannot be loaded, does not run or not in time, or the inputs do not fit.

    Example:
        >>> report = bench(["dense.onnx", "pruned.onnx"], batches=[1])  # doctest: +SKIP
        >>> print(report.verdicts[0])  # doctest: +SKIP
        at batch 1 pruned.onnx is 1.63x faster than dense.onnx (95 % interval 1.60x to 1.66x)
    """
    if runs < 2:
        raise UserError(f"a bench needs at least 2 runs, got {runs}")
    setting = Setting(threads=threads, providers=check_providers(providers), timeout=timeout)
    samples = None if data is None else CalibrationData.of(data)
    with tempfile.TemporaryDirectory(prefix="prunec-bench-") as folder:
        candidates = open_candidates(models, Path(folder))
        check_inputs(candidates)
        batch_sizes, notes = batches_of(candidates, batches)
        inputs = Inputs(data=samples, sizes=sizes or {}, seed=seed)
        trial = _Bench(candidates, setting, inputs, progress, [*notes, *size_notes(candidates, inputs)])
        trial.try_out(batch_sizes)
        trial.time(runs=runs, seconds=seconds)
        return trial.report(memory=memory, profile=profile)


@dataclass(slots=True)
class _Bench:
    """One bench under way.

    Attributes:
        feeds: of each batch size, for each model.
        turn: seconds of one run of all models, by batch size.
        loads: seconds to open each model, [rounds].
        seconds: by batch size, [rounds][models, turns].
    """

    candidates: Sequence[Candidate]
    setting: Setting
    inputs: Inputs
    progress: Progress
    notes: list[str]
    feeds: dict[int, list[list[Feeds]]] = field(default_factory=dict)
    turn: dict[int, float] = field(default_factory=dict)
    loads: list[list[float]] = field(default_factory=list)
    taken: dict[int, list[Seconds]] = field(default_factory=lambda: defaultdict(list))

    def try_out(self, sizes: Sequence[int]) -> None:
        """Run every model once at every batch size; a batch after the first that fails is left out."""
        opened = [open_session(candidate, self.setting) for candidate in self.candidates]
        for position, size in enumerate(sizes):
            self.progress(f"batch {size}: first runs")
            try:
                feeds = [feeds_of(c, size, self.inputs) for c in self.candidates]
                _check_alike(self.candidates, feeds)
                turn = sum(
                    session.first_run(given[0], size, self.setting.timeout)
                    for session, given in zip(opened, feeds, strict=True)
                )
            except UserError as error:
                if position == 0:
                    raise
                where = "" if error.place is None else f"{error.place}: "
                self.notes.append(f"batch {size} left out: {where}{error.message}")
                continue
            self.feeds[size], self.turn[size] = feeds, turn

    def time(self, *, runs: int, seconds: float) -> None:
        """Take the times of all rounds and batch sizes."""
        plans = {size: plan_runs(turn, runs=runs, seconds=seconds) for size, turn in self.turn.items()}
        for number in range(max(plan.rounds for plan in plans.values())):
            opened = self._open(number)
            self.loads.append([session.seconds for session in opened])
            for size, plan in plans.items():
                if number < plan.rounds:
                    self.progress(f"round {number + 1}: batch {size}")
                    calls = [s.call(given) for s, given in zip(opened, self.feeds[size], strict=True)]
                    self.taken[size].append(self._turns(calls, plan, seconds))

    def _open(self, number: int) -> list[Opened]:
        """Sessions for a round, in the order of the models; opened in another order each time.

        What is opened second gets other memory than what is opened first, round after round.
        """
        orders = balanced_orders(len(self.candidates))
        order = orders[number % len(orders)]
        opened = {which: open_session(self.candidates[which], self.setting) for which in order}
        return [opened[which] for which in range(len(order))]

    def _turns(self, calls: Sequence[Callable[[], object]], plan: Schedule, seconds: float) -> Seconds:
        return take_turns(calls, plan.turns, warm_up=plan.warm_up, seconds=2 * seconds / plan.rounds)

    def report(self, *, memory: bool, profile: bool) -> BenchReport:
        """What was found."""
        facts = tuple(self._facts(i, memory=memory) for i in range(len(self.candidates)))
        timings = tuple(self._timing(i, size) for size in self.taken for i in range(len(self.candidates)))
        profiler = Profiler(self.candidates, self.feeds, self.setting, self.progress)
        explanations = tuple(profiler.explanations(facts, timings))
        for index, timing in enumerate(timings[: len(facts)] if profile else ()):
            profiler.profile(index, timing)
        return BenchReport(
            models=facts,
            timings=timings,
            verdicts=tuple(verdicts(facts, timings)),
            explanations=explanations,
            profiles=tuple(profiler.made.values()),
            machine=measure_machine(self.setting.threads) if profiler.made else None,
            notes=tuple(self.notes),
            inputs="random" if self.inputs.data is None else self.inputs.data.name,
            threads=self.setting.threads,
            providers=self.setting.providers,
            seed=self.inputs.seed,
            versions=dict(versions_and_processor()),
        )

    def _timing(self, index: int, size: int) -> Timing:
        rounds = self.taken[size]
        seconds = np.concatenate([taken[index] for taken in rounds])
        latency = Latency.of(seconds)
        return Timing(
            model=self.candidates[index].name,
            batch=size,
            latency=latency,
            throughput=size / latency.p50,
            ratio=ratio_of_rounds(rounds, 0, index, seed=self.inputs.seed) if index else None,
            runs=seconds.size,
            rounds=len(rounds),
        )

    def _facts(self, index: int, *, memory: bool) -> ModelFacts:
        candidate = self.candidates[index]
        self.progress(f"looking at {candidate.name}")
        parameters, macs, nonzero = costs_of(candidate)
        source = candidate.module.source
        return ModelFacts(
            name=candidate.name,
            path=source.name,
            sha256=source.sha256,
            size=source.size or candidate.file.stat().st_size,
            parameters=parameters,
            macs=macs,
            nonzero_macs=nonzero,
            fixed_batch=candidate.batch,
            load=Latency.of(np.array(self.loads)[:, index]),
            memory=self._memory(index) if memory else None,
        )

    def _memory(self, index: int) -> Memory | None:
        """Peak memory at the first batch size; None, with a note, where it cannot be measured."""
        candidate, size = self.candidates[index], next(iter(self.feeds))
        self.progress(f"peak memory of {candidate.name}")
        try:
            before, peak = measure_peak(candidate.file, self.feeds[size][index][0], self.setting)
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            self.notes.append(f"{candidate.name}: peak memory not measured: {type(error).__name__}")
            return None
        return Memory(peak=peak, before=before)


def _check_alike(candidates: Sequence[Candidate], feeds: Sequence[Sequence[Feeds]]) -> None:
    """See that all models take inputs of the same shapes.

    Raises:
        UserError: two do not.
    """
    shapes = [{name: array.shape for name, array in given[0].items()} for given in feeds]
    for candidate, theirs in zip(candidates, shapes, strict=True):
        for name, shape in theirs.items():
            if shape != shapes[0][name]:
                first = candidates[0].name
                raise UserError(
                    f"`{name}` is {list(shapes[0][name])} in {first} and {list(shape)} in {candidate.name}",
                    help=["compare a model with what was made from it, at the same sizes"],
                )
