"""The models of a bench, each as a file that ONNX Runtime opens by itself, and the inputs that all of them get."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.exporters.amounts import file_size
from prunec.exporters.bench.memory import physical_memory
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.execute import refuse_programs
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds
from prunec.ir.save import save
from prunec.ir.sizes import open_inputs, symbol_of, symbol_sizes
from prunec.passes.calibration.data import HELD_OUT, CalibrationData

Array = NDArray[Any]
Feeds = Mapping[str, Array]

LEAVE_OUT = "leave this batch out with --batch"
COPIES = 3
"""Times the bytes of inputs that it takes to make them: random floats are drawn as doubles first."""
MOST_FEEDS = 8
"""Different batches of real inputs that runs go through in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that takes part.

    Attributes:
        name: what the report calls it.
        module: the model.
        file: where ONNX Runtime reads it from.
        batch: the only batch size that it takes, None where it takes any.
    """

    name: str
    module: Module
    file: Path
    batch: int | None


def open_candidates(models: Sequence[Module | str | os.PathLike[str]], folder: Path) -> list[Candidate]:
    """Load models; modules, and files that are no ONNX files as they stand, are written to a folder first.

    Args:
        models: files, or modules; none more than once is fine, too.
        folder: where files may be written.

    Raises:
        UserError: there is none, no list of them, or one cannot be loaded.
    """
    if not models:
        raise UserError("there is no model to measure", help=["give the paths of one or several"])
    if not isinstance(models, Iterable) or isinstance(models, str):
        raise UserError("this takes a list of models, got a single one", help=["write [model]"])
    modules = [load(model) for model in models]
    stored = [
        not isinstance(model, Module) for model in models
    ]  # a module may have changed since it was loaded
    for module in modules:
        refuse_programs(module.model, module.source.name)
    names = _names([module.source.name for module in modules])
    return [
        Candidate(
            name=name,
            module=module,
            file=_file(module, folder / f"{i}.onnx", stored=is_stored),
            batch=fixed_batch(module),
        )
        for i, (name, module, is_stored) in enumerate(zip(names, modules, stored, strict=True))
    ]


def _names(sources: Sequence[str]) -> list[str]:
    """File names; longer where two files are called alike, numbered where two are the same."""
    short = [Path(source).name for source in sources]
    shared = {
        name for name, count in Counter(Path(source).name for source in set(sources)).items() if count > 1
    }
    names = [s if name in shared else name for s, name in zip(sources, short, strict=True)]
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name] += 1
        names[i] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def _file(module: Module, spare: Path, *, stored: bool) -> Path:
    """The file of a module that was just loaded, if ONNX Runtime can open it; else one written for it."""
    path = module.source.path
    if stored and path is not None and path.suffix == ".onnx" and not module.repairs:
        return path
    save(module, spare)
    return spare


def fixed_batch(module: Module) -> int | None:
    """The only batch size that a model takes; None where the first axis of an input is open."""
    values = [value for value in open_inputs(module.graph) if value.shape]
    if any(symbol_of(value, 0) is not None for value in values):
        return None
    first = values[0].shape[0] if values and values[0].shape else 1
    return first if isinstance(first, int) else 1


def batches_of(candidates: Sequence[Candidate], wanted: Sequence[int]) -> tuple[list[int], list[str]]:
    """The batch sizes that all models take, and a note where these are not those that were asked for.

    Raises:
        UserError: a batch size is below 1, or two models take different ones.
    """
    if bad := [size for size in wanted if size < 1]:
        raise UserError(f"a batch of {bad[0]} is no batch", help=["give sizes such as 1,8,64"])
    fixed: dict[int, str] = {}
    for candidate in candidates:
        if candidate.batch is not None:
            fixed.setdefault(candidate.batch, candidate.name)
    if not fixed:
        return list(dict.fromkeys(wanted)), []
    if len(fixed) > 1:
        notes = [f"{name} takes {size}" for size, name in fixed.items()]
        help = ["export them with a free batch, or with the same one"]
        raise UserError("the models take different batches, so no run compares them", notes=notes, help=help)
    ((size, name),) = fixed.items()
    left = ", ".join(str(other) for other in wanted if other != size)
    return [size], [f"{name} takes a batch of {size} only: {left} not measured"] if left else []


def check_inputs(candidates: Sequence[Candidate]) -> None:
    """See that all models have the inputs of the first.

    Raises:
        UserError: one has not.
    """
    first, *others = candidates
    inputs = sorted(str(value.name) for value in open_inputs(first.module.graph))
    for other in others:
        theirs = sorted(str(value.name) for value in open_inputs(other.module.graph))
        if theirs != inputs:
            raise UserError(
                f"{first.name} and {other.name} take different inputs: {', '.join(inputs)}; and {', '.join(theirs)}",
                help=["compare a model with what was made from it"],
            )


def open_sizes(candidates: Sequence[Candidate]) -> dict[str, int]:
    """The free sizes of the models' inputs other than the batch, with those that random inputs get."""
    return {
        symbol: sizes[symbol]
        for candidate in candidates
        for sizes in [symbol_sizes(candidate.module.graph)]
        for value in open_inputs(candidate.module.graph)
        for axis in range(1, len(value.shape or ()))
        if (symbol := symbol_of(value, axis)) is not None
    }


def size_notes(candidates: Sequence[Candidate], inputs: Inputs) -> list[str]:
    """What was assumed about sizes that nobody gave.

    Raises:
        UserError: a size is given that no input has.
    """
    free = open_sizes(candidates)
    if unknown := [name for name in inputs.sizes if name not in free]:
        have = ", ".join(free) or "none"
        raise UserError(
            f"no input has a free size `{unknown[0]}`", help=[f"free sizes beside the batch: {have}"]
        )
    assumed = {name: size for name, size in free.items() if name not in inputs.sizes}
    if not assumed or inputs.data is not None:
        return []
    told = ", ".join(f"{name}={size}" for name, size in assumed.items())
    return [
        f"sizes that the model leaves open: {told}; give those of production with --size, or real inputs with --data"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Where the inputs of all models come from.

    Attributes:
        data: real samples; None: random numbers.
        sizes: of random inputs, by name of a free dimension.
        seed: of random numbers.
    """

    data: CalibrationData | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0


def feeds_of(candidate: Candidate, batch: int, inputs: Inputs) -> list[Feeds]:
    """The inputs of a model at a batch size: random, or batches of real ones; alike for all models.

    Raises:
        UserError: the data do not fit the model, or a batch not this machine's memory.
    """
    needed = COPIES * batch * _sample_bytes(candidate, inputs)
    try:
        if needed > physical_memory():
            raise MemoryError
        return _feeds(candidate, batch, inputs)
    except MemoryError as error:
        message = f"a batch of {batch:,} needs about {file_size(needed)} of memory to make its inputs alone"
        raise UserError(message, place=Place(file=candidate.name), help=[LEAVE_OUT]) from error


def _sample_bytes(candidate: Candidate, inputs: Inputs) -> int:
    """Bytes of the inputs of one sample."""
    if inputs.data is not None:
        return sum(array[:1].nbytes for array in inputs.data.arrays.values())
    feeds = probe_feeds(candidate.module, sizes=inputs.sizes)
    return sum(array.nbytes for array in feeds.values()) // (candidate.batch or 1)


def _feeds(candidate: Candidate, batch: int, inputs: Inputs) -> list[Feeds]:
    if inputs.data is None:
        return [probe_feeds(candidate.module, seed=inputs.seed, batch=batch, sizes=inputs.sizes)]
    try:
        bound = _repeated(inputs.data, batch).bind(candidate.module, batch=batch)
    except UserError as error:
        error.notes = (*error.notes, f"the model is {candidate.name}")
        raise
    return [bound[run] for run in range(min(MOST_FEEDS, bound.samples // bound.batch))]


def _repeated(data: CalibrationData, batch: int) -> CalibrationData:
    """The data, as often as it takes to fill whole batches."""
    needed = round(batch / HELD_OUT)
    if data.count >= needed:
        return data
    rows = np.arange(needed) % data.count
    return CalibrationData.of({name: array[rows] for name, array in data.arrays.items()}, name=data.name)
