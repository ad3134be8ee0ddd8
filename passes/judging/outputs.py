"""What models compute on samples, run by run, one entry a sample; on the samples as they are, or perturbed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import PassFailure, Place, PrunecError, UserError
from prunec.ir.dialect import Blame, dialect_of

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData, Feeds
    from prunec.passes.judging.perturb import Perturbation

Array = NDArray[Any]
Outputs = dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Some samples that a model has run on.

    Attributes:
        outputs: by name, [samples of the run, ...].
        columns: all arrays of the data, by name, [samples of the run, ...]; perturbed as the inputs were.
    """

    outputs: Outputs
    columns: dict[str, Array]

    @property
    def count(self) -> int:
        """Samples of the run."""
        return len(next(iter(self.outputs.values())))


def sample_runs(
    module: Module,
    data: CalibrationData,
    *,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    blame: Blame = "user",
) -> Iterator[Run]:
    """A model on all samples, in their order.

    Args:
        module: the model.
        data: the samples.
        perturbation: what is done to them first.
        seed: for perturbations that are random.
        blame: whose mistake it is where the model fails.

    Yields:
        One run after the other. An output ``[samples * k, ...]`` comes as ``[samples, k, ...]``; one without
        an axis of samples is left out.

    Raises:
        UserError: the data do not fit, no output has an axis of samples, or the model fails.
        PassFailure: the model fails, with ``blame="pass"``.
    """
    feeds = data.bind(module, every=True)
    change = None if perturbation is None else perturbation.bind(module, data, feeds, seed)
    executor = dialect_of(module.model).executor(module, blame=blame, optimize=True)
    for number, feed in enumerate(feeds):
        begin = number * feeds.batch
        end = min(begin + feeds.batch, feeds.samples)
        columns = {name: array[begin:end] for name, array in data.arrays.items()}
        if change is not None:
            feed, columns = change(feed, columns, begin)
        outputs = per_sample(executor.run(feed), feeds, end - begin)
        if not outputs:
            raise _error(module, blame, "no output has an axis of samples, so that none can be judged")
        _check_numbers(module, blame, outputs, begin)
        yield Run(outputs=outputs, columns=columns)


def per_sample(made: Outputs, feeds: Feeds, count: int) -> Outputs:
    """The outputs that have an entry for every sample, without those that filled up the run.

    Args:
        made: all outputs of the run.
        feeds: all runs, of one size: what is an output of samples in one of them is one in all.
        count: samples of this run.
    """
    if feeds.stacked:
        return {name: array if array.shape[:1] == (1,) else array[None] for name, array in made.items()}
    size = feeds.batch
    whole = {
        name: array for name, array in made.items() if array.ndim and len(array) and len(array) % size == 0
    }
    return {
        name: (array if len(array) == size else array.reshape(size, -1, *array.shape[1:]))[:count]
        for name, array in whole.items()
    }


def _check_numbers(module: Module, blame: Blame, outputs: Outputs, begin: int) -> None:
    for name, array in outputs.items():
        if array.dtype.kind != "f" or not array.size or not np.isnan(array.min()):
            continue
        bad = begin + np.flatnonzero(np.isnan(array).any(axis=tuple(range(1, array.ndim))))
        raise _error(module, blame, f"output `{name}` is NaN, first for sample {bad[0]}")


def _error(module: Module, blame: Blame, message: str) -> PrunecError:
    kind = UserError if blame == "user" else PassFailure
    return kind(message, place=Place(file=module.source.name))


@dataclass(slots=True)
class OutputReader:
    """Outputs in runs of any size: of a model beside another whose batch is not the same.

    Attributes:
        runs: of the model.
    """

    runs: Iterator[Run]
    _held: Outputs = field(default_factory=dict)

    def take(self, count: int) -> Outputs:
        """The outputs of the next ``count`` samples."""
        held = self._held
        while not held or len(next(iter(held.values()))) < count:
            more = next(self.runs).outputs
            held = {name: np.concatenate([held[name], more[name]]) if held else more[name] for name in more}
        self._held = {name: array[count:] for name, array in held.items()}
        return {name: array[:count] for name, array in held.items()}
