"""A sweep on a Dask cluster: the model and the samples go there once, spans of candidates go to its workers.

Workers need this package (and the module of a metric of the user's) installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import UserError
from prunec.passes.sensitivity.executor import SPANS_PER_WORKER, Report, divided

if TYPE_CHECKING:
    from prunec.passes.sensitivity.candidates import Candidate
    from prunec.passes.sensitivity.sweep import Job, Sweep

PATIENCE = 5.0
"""Seconds for the scheduler to answer, and then for a worker to appear."""

Key = tuple[str, int]

_PREPARING = Lock()
"""The threads of a worker share one sweep; without this each would prepare its own before the first is there."""


@dataclass(frozen=True, slots=True)
class Dask:
    """A Dask cluster.

    Attributes:
        address: of its scheduler, ``tcp://host:port``.
        patience: seconds to wait for it.
    """

    address: str
    patience: float = PATIENCE

    def check(self) -> None:
        """See :class:`prunec.passes.sensitivity.executor.Executor`."""
        self._client(_distributed()).close()

    def run(self, sweep: Sweep, candidates: Sequence[Candidate], report: Report) -> None:
        """See :class:`prunec.passes.sensitivity.executor.Executor`."""
        distributed = _distributed()
        with self._client(distributed) as client:
            threads = client.nthreads().values()  # of each worker, which has its memory to itself
            spans = divided(sweep, candidates, sum(threads) * SPANS_PER_WORKER * 2)
            memory = sweep.settings.memory // max(threads)
            job = client.scatter(sweep.job(), broadcast=True, hash=False)
            keys = [[(c.row, c.removed) for c in span] for span in spans]
            futures = [client.submit(run_remotely, job, span, memory, pure=False) for span in keys]
            try:
                for future in distributed.as_completed(futures, loop=client.loop):
                    for (row, removed), value in future.result():
                        report(row, removed, value)
            finally:
                client.cancel(futures)
                client.run(forget, on_error="ignore")

    def _client(self, distributed: Any) -> Any:
        """A client of the scheduler, once a worker is there.

        Raises:
            UserError: nobody answers, or there is no worker.
        """
        name = self.address.replace("tcp://", "dask://")
        try:
            client = distributed.Client(self.address, timeout=self.patience, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at {name} within {self.patience:g} s",
                help=["start one: dask scheduler; and at least one worker: dask worker HOST:PORT"],
            ) from error
        try:
            client.wait_for_workers(1, timeout=self.patience)
        except (OSError, TimeoutError) as error:
            client.close()
            raise UserError(
                f"the Dask cluster at {name} has no worker", help=["start one: dask worker HOST:PORT"]
            ) from error
        return client


def run_remotely(job: Job, keys: Sequence[Key], memory: int) -> list[tuple[Key, float | None]]:
    """Measure a span of candidates; runs on a worker of the cluster.

    Args:
        job: the sweep.
        keys: row and removed units of each candidate.
        memory: bytes of live values to keep, one share of what the worker's threads may keep together.
    """
    with _PREPARING:
        sweep = _prepared(job)
    found: list[tuple[Key, float | None]] = []
    span = [sweep.candidates.make(row, removed) for row, removed in keys]
    sweep.run_span(span, lambda row, removed, value: found.append(((row, removed), value)), memory=memory)
    return found


def forget() -> None:
    """Let go of the last sweep's model and samples; runs on every worker when the sweep ends."""
    _prepared.cache_clear()


@lru_cache(maxsize=1)
def _prepared(job: Job) -> Sweep:
    """The sweep of a job: one model, analysed once on each worker."""
    return job.prepare()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UserError(
            "a Dask cluster needs the package `distributed`", help=["install it: pip install 'prunec[dask]'"]
        ) from error
    return distributed
