"""What is done to samples to see how robust a model is: noise, blur, gaps, other lengths, and attacks.

=========  =====================================================================================================
kind       what it does to the inputs
=========  =====================================================================================================
noise      adds Gaussian noise of ``strength`` standard deviations of the input
blur       Gaussian blur of ``strength`` positions along the axes behind the channels
missing    replaces a share ``strength`` of the numbers by the input's mean
shorter    keeps the first share ``strength`` of the positions on ``axis`` (1), labels included
longer     repeats the positions on ``axis`` (1) ``strength`` times, labels included
fgsm       one step of ``strength`` along the sign of the loss's gradient (Goodfellow et al. 2015, eq. 3)
pgd        ``steps`` (10) such steps, kept within ``strength`` of the input (Madry et al. 2018, eq. 2)
=========  =====================================================================================================

The attacks need gradients and labels: they run on programs of torch. Numbers stay within the range that the input has
in the data. What is random follows from the seed and the number of the sample, so that every model gets the same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import dialect_of
from prunec.ir.sizes import open_inputs, symbol_of

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData, Feeds

_STEP = 1 << 24
"""Bytes of an array that are looked at together."""

Array = NDArray[Any]
Arrays = dict[str, Array]
Change = Callable[[Arrays, Arrays, int], tuple[Arrays, Arrays]]
"""Takes the feeds and columns of one run and the number of its first sample; gives both, perturbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of perturbation.

    Attributes:
        strength: used where none is given.
        options: keys that it takes.
        high: largest strength.
        low: smallest strength.
    """

    strength: float
    options: tuple[str, ...] = ("strength",)
    low: float = 0.0
    high: float = float("inf")


KINDS: Mapping[str, Kind] = {
    "noise": Kind(strength=0.1),
    "blur": Kind(strength=1.0),
    "missing": Kind(strength=0.1, high=1.0),
    "shorter": Kind(strength=0.5, options=("strength", "axis"), high=1.0),
    "longer": Kind(strength=2.0, options=("strength", "axis"), low=1.0),
    "fgsm": Kind(strength=0.01),
    "pgd": Kind(strength=0.01, options=("strength", "steps")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One perturbation; make it with :meth:`of`.

    Attributes:
        name: of its slice.
        kind: see the head of this module.
        strength: how much.
        axis: of the positions, for other lengths.
        steps: of an attack.
    """

    name: str
    kind: str
    strength: float
    axis: int = 1
    steps: int = 1

    @classmethod
    def of(cls, name: str, kind: str, options: Mapping[str, float | None]) -> Perturbation:
        """A perturbation of a kind.

        Raises:
            UserError: the strength is out of the range of the kind, or another option is no whole number.
        """
        known = KINDS[kind]
        given = options.get("strength")
        strength = known.strength if given is None else given
        if not known.low <= strength <= known.high or math.isinf(strength):
            least = f"of at least {known.low:g}"
            bounds = least if math.isinf(known.high) else f"from {known.low:g} to {known.high:g}"
            raise UserError(f"'strength' of '{kind}' takes a number {bounds}, got {strength:g}")
        whole = {"axis": 1, "steps": 10 if kind == "pgd" else 1}
        for key in whole:
            value = options.get(key)
            if value is None:
                continue
            if value != int(value) or value < 1:
                raise UserError(f"'{key}' takes a whole number from 1, got {value:g}")
            whole[key] = int(value)
        return cls(name=name, kind=kind, strength=strength, axis=whole["axis"], steps=whole["steps"])

    def bind(self, module: Module, data: CalibrationData, feeds: Feeds, seed: int) -> Change:
        """How the runs of one model are perturbed.

        Args:
            module: the model.
            data: all samples.
            feeds: as the model takes them.
            seed: for what is random.

        Raises:
            UserError: the model or the data do not allow this kind.
        """
        if self.kind in ("shorter", "longer"):
            return _length(self, module, data)
        floats = [name for name, array in feeds.arrays.items() if array.dtype.kind == "f"]
        if not floats:
            raise _error(module, f"`{self.name}`: {self.kind} changes numbers, and no input takes any")
        if self.kind in ("fgsm", "pgd"):
            return _attack(self, module, data, floats)
        statistics = {name: _Statistics.of(data.arrays[name]) for name in floats}
        return _Corruption(what=self, statistics=statistics, stacked=feeds.stacked, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statistics:
    """Of all numbers of one input."""

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, array: Array) -> _Statistics:
        step = max(1, _STEP * len(array) // max(array.nbytes, 1))
        parts = [array[at : at + step] for at in range(0, len(array), step)]
        mean = sum(float(part.sum(dtype=np.float64)) for part in parts) / array.size
        spread = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in parts) / array.size
        low, high = min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)
        return cls(mean=mean, std=math.sqrt(spread), low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corruption:
    """Noise, blur or gaps in the inputs of one model."""

    what: Perturbation
    statistics: Mapping[str, _Statistics]
    stacked: frozenset[str]
    seed: int

    def __call__(self, feed: Arrays, columns: Arrays, begin: int) -> tuple[Arrays, Arrays]:
        changed = {
            name: self._changed(name, feed[name][None], begin)[0]
            if name in self.stacked  # a whole input, without an axis of samples
            else self._changed(name, feed[name], begin)
            for name in self.statistics
        }
        return {**feed, **changed}, columns

    def _changed(self, name: str, array: Array, begin: int) -> Array:
        known, strength = self.statistics[name], self.what.strength
        if self.what.kind == "blur":
            return _blurred(array, strength)
        made = array.copy()
        for row in range(len(array)):  # one generator a sample: the same for every model and batch
            rng = np.random.default_rng([self.seed, zlib.crc32(name.encode()), begin + row])
            if self.what.kind == "noise":
                noisy = array[row] + strength * known.std * rng.standard_normal(array.shape[1:])
                made[row] = np.clip(noisy, known.low, known.high)
            else:
                made[row] = np.where(rng.random(array.shape[1:]) < strength, known.mean, array[row])
        return made


def _blurred(array: Array, sigma: float) -> Array:
    from scipy.ndimage import gaussian_filter

    sigmas = [0.0 if axis < min(2, array.ndim - 1) else sigma for axis in range(array.ndim)]
    blurred: Array = gaussian_filter(array.astype(np.float32), sigmas, mode="nearest")
    return blurred.astype(array.dtype)


def _length(what: Perturbation, module: Module, data: CalibrationData) -> Change:
    """Other lengths on an axis that the model leaves open, for inputs and all columns that have it, too."""
    axis = what.axis
    lengths = {
        data.arrays[v.name or ""].shape[axis]
        for v in open_inputs(module.graph)
        if v.shape is not None and len(v.shape) > axis and symbol_of(v, axis) is not None
    }
    if not lengths:
        raise _error(
            module, f"`{what.name}`: no input has an axis {axis} of open size, so that lengths cannot change"
        )

    def change(feed: Arrays, columns: Arrays, begin: int) -> tuple[Arrays, Arrays]:
        del begin
        return (
            {name: _resized(array, what, lengths) for name, array in feed.items()},
            {name: _resized(array, what, lengths) for name, array in columns.items()},
        )

    return change


def _resized(array: Array, what: Perturbation, lengths: set[int]) -> Array:
    if array.ndim <= what.axis or array.shape[what.axis] not in lengths:
        return array
    size = array.shape[what.axis]
    positions = np.arange(max(1, round(size * what.strength))) % size
    resized: Array = np.take(array, positions, axis=what.axis)
    return resized


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attack:
    """Steps along the gradient of the loss, within a distance and within the range of the data."""

    what: Perturbation
    gradients: Callable[[Mapping[str, Array], Array], Arrays]
    statistics: Mapping[str, _Statistics] = field(default_factory=dict)

    def __call__(self, feed: Arrays, columns: Arrays, begin: int) -> tuple[Arrays, Arrays]:
        del begin
        strength, steps = self.what.strength, self.what.steps
        step = strength if steps == 1 else 2.5 * strength / steps
        now, labels = dict(feed), columns["label"]
        spare = max(len(feed[name]) for name in self.statistics) - len(labels)
        labels = np.concatenate(
            [labels, labels[-1:].repeat(max(spare, 0), axis=0)]
        )  # of a run that is filled up
        for _ in range(steps):
            slopes = self.gradients(now, labels)
            for name, known in self.statistics.items():
                moved = now[name] + step * np.sign(slopes[name])
                near = np.clip(moved, feed[name] - strength, feed[name] + strength)
                now[name] = np.clip(near, known.low, known.high).astype(feed[name].dtype)
        return now, columns


def _attack(what: Perturbation, module: Module, data: CalibrationData, floats: list[str]) -> Change:
    if "label" not in data.arrays:
        raise UserError(
            f"`{what.name}`: {what.kind} raises the loss of the right answers, and no array is named `label`",
            place=Place(file=data.name),
        )
    return _Attack(
        what=what,
        gradients=dialect_of(module.model).loss_gradients(module),
        statistics={name: _Statistics.of(data.arrays[name]) for name in floats},
    )


def _error(module: Module, message: str) -> UserError:
    return UserError(message, place=Place(file=module.source.name))
