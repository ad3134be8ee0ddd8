"""Where a sweep runs: threads of this process, or a Dask cluster (:mod:`prunec.passes.sensitivity.cluster`).

The candidates, in graph order, are divided into spans of about equal work; each span has a prefix of its own, so that
spans need nothing of each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prunec.ir.diagnostics import UserError

if TYPE_CHECKING:
    from prunec.passes.sensitivity.candidates import Candidate
    from prunec.passes.sensitivity.sweep import Sweep

Report = Callable[[str, int, float | None], None]
"""Takes a measurement: row, removed units, value; called in one thread at a time."""

SPANS_PER_WORKER = 2
"""More of them even out what workers have to do, and each costs up to one run of the model in front of it."""


class Executor(Protocol):
    """Measures candidates; each implementation says where."""

    def check(self) -> None:
        """See that somebody is there to measure, before anything is.

        Raises:
            UserError: nobody is.
        """

    def run(self, sweep: Sweep, candidates: Sequence[Candidate], report: Report) -> None:
        """Measure all candidates, and report each as soon as it is known.

        Raises:
            UserError: the metric or the model fails, or nobody is there to measure.
        """


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of this process, each of which runs one span after the other.

    Attributes:
        count: how many; 0: one for every core that the process may use.
    """

    count: int = 0

    def check(self) -> None:
        """See :class:`Executor`; threads are always there."""

    def run(self, sweep: Sweep, candidates: Sequence[Candidate], report: Report) -> None:
        """See :class:`Executor`; interrupted, it stops after the runs that are under way."""
        workers = self.count or usable_cores()
        spans = divided(sweep, candidates, workers * SPANS_PER_WORKER if workers > 1 else 1)
        lock, stop = threading.Lock(), threading.Event()

        def locked(row: str, removed: int, value: float | None) -> None:
            with lock:
                report(row, removed, value)

        memory = sweep.settings.memory // workers
        with ThreadPoolExecutor(workers) as pool:
            futures = [
                pool.submit(sweep.run_span, span, locked, memory=memory, stop=stop.is_set) for span in spans
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            if not future.cancelled():
                future.result()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divided(sweep: Sweep, candidates: Sequence[Candidate], count: int) -> list[Sequence[Candidate]]:
    """Spans of candidates, in graph order, that are about equally much work; early ones run more of the graph."""
    ordered = sorted(candidates, key=lambda c: (c.position, c.removed))
    total = sum(sweep.work(c) for c in ordered)
    spans: list[list[Candidate]] = [[] for _ in range(max(1, count))]
    done = 0.0
    for candidate in ordered:
        spans[min(int(done / total * len(spans)), len(spans) - 1) if total else 0].append(candidate)
        done += sweep.work(candidate)
    return [span for span in spans if span]


def parse_executor(text: str) -> Executor:
    """An executor from its text: ``threads``, ``threads:N`` or ``dask://host:port``.

    Raises:
        UserError: it is none of these.
    """
    kind, _, rest = text.partition(":")
    if kind == "threads" and (not rest or (rest.isdigit() and int(rest) > 0)) and not text.endswith(":"):
        return Threads(int(rest or 0))
    if kind == "dask" and rest.startswith("//") and rest[2:].rpartition(":")[2].isdigit():
        from prunec.passes.sensitivity.cluster import Dask

        return Dask(f"tcp://{rest[2:]}")
    raise UserError(
        f"unknown executor '{text}'", help=["executors: threads, threads:N, dask://host:port (port a number)"]
    )
