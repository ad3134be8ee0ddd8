"""What a model as it is computes on every run: metrics that compare with it ask for that once a candidate."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import NDArray

from prunec.ir.execute import Runner
from prunec.ir.module import Module
from prunec.passes.calibration.data import Feeds
from prunec.passes.calibration.stream import bytes_of

Array = NDArray[Any]


class DenseOutputs:
    """Outputs of as many runs as memory allows, each computed once; threads may share them.

    Args:
        module: the model as it is.
        feeds: the samples.
        memory: bytes that may be kept.
    """

    def __init__(self, module: Module, feeds: Feeds, *, memory: int) -> None:
        self._module = module
        self._feeds = feeds
        self._memory = memory
        self._runner: Runner | None = None
        self._kept: dict[int, dict[str, Array]] = {}
        self._lock = threading.Lock()

    def of(self, run: int) -> dict[str, Array] | None:
        """The outputs of a run by name; None for one that is not kept."""
        with self._lock:
            if not self._kept:
                self._kept[0] = self._computed(0)
            if run not in self._kept and (run + 1) * bytes_of(self._kept[0]) <= self._memory:
                self._kept[run] = self._computed(run)
            return self._kept.get(run)

    def _computed(self, run: int) -> dict[str, Array]:
        if self._runner is None:
            self._runner = Runner(self._module, optimize=True, threads=1)
        return self._runner.run(self._feeds[run])
