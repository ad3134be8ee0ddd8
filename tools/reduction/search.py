"""The search: takes whatever candidate still fails, until none does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import prunec
from prunec.ir.diagnostics import PrunecError
from prunec.ir.module import Module
from prunec.tools.reduction.oracle import Oracle
from prunec.tools.reduction.shrink import STRATEGIES, Candidate, size_of

Progress = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Search:
    """One reduction.

    Attributes:
        oracle: tells whether a candidate still fails.
        save: takes every model that is smaller than all before it and still fails.
        progress: takes lines about what is going on.
        jobs: candidates that are tried at a time.
        tried: how many have been tried.
    """

    oracle: Oracle
    save: Callable[[Module], None]
    progress: Progress
    jobs: int = 2
    tried: int = field(default=0, init=False)

    def run(self, module: Module) -> Module:
        """The smallest model that was found; every strategy has been tried on it without success."""
        before: Module | None = None
        while before is not module:
            before = module
            for strategy in STRATEGIES:
                while (smaller := self._first(strategy(module), size_of(module))) is not None:
                    module = smaller
                    self.save(module)
        return module

    def _first(self, candidates: Iterator[Candidate], size: tuple[int, ...]) -> Module | None:
        """The first smaller candidate that still fails, in their order, however many are tried at a time."""
        while batch := list(islice(candidates, self.jobs)):
            with TemporaryDirectory() as folder:
                models = [
                    self._made(candidate, size, Path(folder) / f"{n}.onnx")
                    for n, candidate in enumerate(batch)
                ]
                there = [n for n, model in enumerate(models) if model is not None]
                answers = self.oracle.fails([Path(folder) / f"{n}.onnx" for n in there]) if there else []
            self.tried += len(there)
            for n, fails in zip(there, answers, strict=True):
                self.progress(f"{self.tried} tried: {batch[n].label}: {'smaller' if fails else 'no'}")
                if fails:
                    return models[n]
        return None

    def _made(self, candidate: Candidate, size: tuple[int, ...], path: Path) -> Module | None:
        """A candidate, written to a file; None where it cannot be made or is not smaller."""
        try:
            module = candidate.make()
            if module is None or not module.graph.outputs or size_of(module) >= size:
                return None
            prunec.save(module, path)
        except PrunecError:
            return None
        return module
