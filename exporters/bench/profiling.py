"""Profiles of the models of a bench, made where something has to be explained or was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prunec.exporters.bench.candidates import Candidate, Feeds
from prunec.exporters.bench.layers import layer_times
from prunec.exporters.bench.machine import measure_machine
from prunec.exporters.bench.profile import run_profiled, without_profiler
from prunec.exporters.bench.reasons import Case, explain
from prunec.exporters.bench.results import Explanation, ModelFacts, ModelProfile, Timing
from prunec.exporters.bench.sessions import Setting
from prunec.exporters.bench.words import falls_short, promise
from prunec.exporters.bench.work import find_work, named

SECONDS = 2.0
"""For the profile of one model, about."""
FEWEST, MOST = 4, 60
"""Runs of a profile."""


@dataclass(slots=True)
class Profiler:
    """Makes each profile once.

    Attributes:
        candidates: the models.
        feeds: of each batch size, for each model.
        setting: threads and providers.
        progress: told what is being done.
        made: the profiles, by model and batch size.
    """

    candidates: Sequence[Candidate]
    feeds: Mapping[int, Sequence[Sequence[Feeds]]]
    setting: Setting
    progress: Callable[[str], None]
    made: dict[tuple[str, int], ModelProfile] = field(default_factory=dict)

    def profile(self, index: int, timing: Timing) -> ModelProfile:
        """Where the time of a model goes at the batch size of a timing."""
        key = (timing.model, timing.batch)
        if key not in self.made:
            self.progress(f"profile of {timing.model} at batch {timing.batch}")
            self.made[key] = self._run(self.candidates[index], self.feeds[timing.batch][index], timing)
        return self.made[key]

    def _run(self, candidate: Candidate, feeds: Sequence[Feeds], timing: Timing) -> ModelProfile:
        runs = max(FEWEST, min(MOST, int(SECONDS / timing.latency.p50)))
        module = named(candidate.module)
        measured = run_profiled(candidate, feeds, self.setting, batch=timing.batch, runs=runs)
        found = without_profiler(measured, timing.latency.p50)
        layers = layer_times(found.kernels, module, find_work(module, feeds[0]))
        return ModelProfile(model=timing.model, batch=timing.batch, layers=layers, run=found.run)

    def explanations(self, models: Sequence[ModelFacts], timings: Sequence[Timing]) -> Iterable[Explanation]:
        """Why models with fewer operations are not faster, each at the first batch size at which it is not."""
        first = {timing.batch: timing for timing in timings if timing.model == models[0].name}
        for index, model in enumerate(models[1:], 1):
            promised = promise(models[0], model)
            short = next((t for t in timings if t.model == model.name and _short(t, promised)), None)
            if short is not None:
                profiles = self.profile(0, first[short.batch]), self.profile(index, short)
                machine = measure_machine(self.setting.threads)
                yield explain(Case(first=profiles[0], other=profiles[1], machine=machine, promise=promised))


def _short(timing: Timing, promised: float) -> bool:
    return timing.ratio is not None and falls_short(timing.ratio, promised)
