"""Calibration data: arrays named as the inputs of a graph, one entry a sample, and how one model takes them.

Where the arrays come from (files, generators) is not known here; they may be memory-mapped, and are read batch by
batch. An array with one axis more than its input is a stack of whole inputs, which are run one at a time: that is
how inputs whose first axis is no batch (recurrent states, single numbers) are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prunec.ir.module import Module

Array = NDArray[Any]

BATCH = 16
"""Samples of one run where the model leaves that open."""
HELD_OUT = 1 / 8
"""Share of the runs that results are judged on and that nothing is fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationData:
    """Samples to run a model on; make it with :meth:`of`.

    Attributes:
        arrays: by name, each [samples, ...]; inputs of the model, and columns such as ``label``.
        count: samples.
        name: what messages call it: a file, or ``<memory>``.

    Example:
        >>> import numpy as np
        >>> data = CalibrationData.of({"image": np.zeros((100, 1, 8, 8), np.float32), "label": np.arange(100)})
        >>> data.count
        100
    """

    arrays: Mapping[str, Array] = field(repr=False)
    count: int
    name: str = "<memory>"

    @classmethod
    def of(cls, arrays: CalibrationData | Mapping[str, Any], *, name: str = "<memory>") -> CalibrationData:
        """Calibration data of a mapping of arrays.

        Args:
            arrays: by name, first axis = samples; data that is calibration data already comes back as it is.
            name: what messages call it.

        Raises:
            UserError: there are no arrays or no samples, arrays have different numbers of samples, or one holds
                Python objects.
        """
        from prunec.passes.calibration.checks import check_arrays

        if isinstance(arrays, CalibrationData):
            return arrays
        held = {key: np.asarray(value) for key, value in arrays.items()}  # what is mapped stays mapped
        return cls(arrays=held, count=check_arrays(held, name), name=name)

    def bind(self, module: Module, *, batch: int = BATCH, every: bool = False) -> Feeds:
        """The samples as a model takes them, batch by batch.

        Args:
            module: the model; a first axis that it fixes is the size of every batch.
            batch: samples of one run at most, where the model leaves that open; few samples make eight smaller
                runs, since some are held out.
            every: every sample runs and none is held out: for judging a model instead of fitting it. One sample
                is enough, and all runs have one size: the last is filled up with its last sample.

        Raises:
            UserError: the arrays do not fit the model's inputs (names, shapes, types, NaN), or there are too few
                samples for two runs.
        """
        from prunec.passes.calibration.checks import check_fit

        return check_fit(self, module, batch, every=every)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeds:
    """Calibration data that fits a model: an iterable of the arrays of one run after the other.

    Attributes:
        arrays: by name of the input, [samples, ...].
        types: what the model wants them as.
        stacked: inputs whose arrays hold whole inputs, one a sample.
        batch: samples of one run.
        samples: of all runs together; those that do not fill a run of a fixed size are left out, unless
            ``filled``.
        filled: every sample is there to judge by: none is left out or fitted to, and the last run is filled up to
            the size of the others.
    """

    arrays: Mapping[str, Array] = field(repr=False)
    types: Mapping[str, np.dtype[Any]]
    stacked: frozenset[str]
    batch: int
    samples: int
    filled: bool = False

    def __len__(self) -> int:
        return -(-self.samples // self.batch)

    def __getitem__(self, run: int) -> dict[str, Array]:
        """The arrays of one run, by name of the input."""
        if not 0 <= run < len(self):
            raise IndexError(run)
        begin, end = run * self.batch, min((run + 1) * self.batch, self.samples)
        rows: slice | Array = slice(begin, end)
        if self.filled and end - begin < self.batch:
            rows = np.minimum(np.arange(begin, begin + self.batch), end - 1)
        return {
            name: (array[begin] if name in self.stacked else array[rows]).astype(self.types[name], copy=False)
            for name, array in self.arrays.items()
        }

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[run] for run in range(len(self)))

    @property
    def fitting(self) -> int:
        """How many of the runs results are fitted to; the others, at least one, are what they are judged by."""
        return 0 if self.filled else len(self) - max(1, round(len(self) * HELD_OUT))
