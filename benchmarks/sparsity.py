"""Sparsity: whether masks are valid, and what making them costs.

::

    python benchmarks/sparsity.py FOLDER               # every measurement, over the models of a folder
    python benchmarks/sparsity.py FOLDER --measure valid-masks

Each row is one measurement of one subject: its value, the limit that it has to keep (``<`` or ``>`` a
number), and what other tools need for the same. ``--check`` fails unless every limit is kept.

``valid-masks``: ``sparsify{layers=all}`` on every model; the share of the masks that follow 2:4 as the
verifier counts it, on axes that it reads off the ops' specifications, by the op that reads the weight.
``magnitude``: CPU seconds of ``sparsify{layers=all}`` on one core, with the search for layers, without files and
verification; the fastest of several runs.
``permutation``: the search for an order of columns on a random 64 x 128 matrix (apex's efficacy: 0 % is the given
order, 100 % unstructured pruning of each row), and ``permute-channels`` on whole models: CPU seconds, efficacy
over all groups, and the largest relative error of the outputs against those before.
``data-aware``: 2:4 of the digits example without training: mean error of layer outputs and accuracy on test data
(``criteria.py`` has the table).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import process_time
from typing import TYPE_CHECKING, Any

import machine
from criteria import compare
from models import ModelFile, add_model_options, chosen_models
from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.base import Pass
    from prunec.passes.manager import Result

PIPELINE = "sparsify{layers=all}"
COLUMNS = (
    Column(key="measurement", title="measurement"),
    Column(key="subject", title="of"),
    Column(key="value", title="value", format=".3g"),
    Column(key="unit", title="unit"),
    Column(key="limit", title="limit"),
    Column(key="of", title="over"),
    Column(key="peer", title="other tools"),
    Column(key="verdict", title="verdict"),
)

Row = dict[str, Any]
Measurement = Callable[[Sequence[ModelFile], argparse.Namespace], Iterator[Row]]


def row(
    measurement: str, subject: str, value: float, unit: str, limit: str | None = None, **more: object
) -> Row:
    """One row; ``limit`` is ``<`` or ``>`` and a number, ``>=100`` holds at 100 too."""
    kept = limit is None or _keeps(value, limit)
    verdict = "ok" if kept else "misses the limit"
    return {
        "measurement": measurement, "subject": subject, "value": value, "unit": unit, "limit": limit,
        "verdict": verdict, **more,
    }  # fmt: skip


def _keeps(value: float, limit: str) -> bool:
    if limit.startswith(">="):
        return value >= float(limit[2:])
    bound = float(limit[1:])
    return value < bound if limit[0] == "<" else value > bound


# -- valid masks -------------------------------------------------------------------


@dataclass(slots=True)
class _Count:
    """Masks of one op."""

    masks: int = 0
    valid: int = 0
    models: set[str] = field(default_factory=set)


def valid_masks(files: Sequence[ModelFile], options: argparse.Namespace) -> Iterator[Row]:
    """One row for each op that reads masked weights."""
    import prunec
    from prunec.ir.diagnostics import PrunecError

    del options
    counts: dict[str, _Count] = defaultdict(_Count)
    for file in files:
        try:
            result = prunec.run(prunec.load(file.path()), PIPELINE, verify=False)
        except PrunecError:
            continue  # some models of a folder are there because they cannot be loaded
        for op, valid in _masks_of(result):
            counts[op].masks += 1
            counts[op].valid += valid
            counts[op].models.add(file.name)
    for op, count in sorted(counts.items()):
        over = f"{count.masks:,} masks in {len(count.models)} models"
        yield row("valid masks", op, 100 * count.valid / count.masks, "%", ">=100", of=over)


def _masks_of(result: Result) -> Iterator[tuple[str, bool]]:
    """For every mask and every op that reads the weight, the op and whether the weight is 2:4 to it."""
    from prunec.passes.verifier.sparse import broken_places, constants_of
    from prunec.passes.verifier.weight_axes import readings

    constants = constants_of(result.module.graph)
    for mask in (mask for step in result.plan.steps for mask in step.masks):
        value, array = constants[mask.name]
        for reading in readings(value, array):
            nonzero = array != reading.zero.astype(array.dtype)
            valid = reading.axes is not None and not broken_places(mask.pattern, nonzero, reading.axes)
            yield reading.node.op_type, valid


# -- seconds -------------------------------------------------------------------------

MAGNITUDE: Mapping[str, tuple[str, str]] = {
    "resnet50": ("<0.5", "onnxsim 15 s (wrong axis)"),
    "vit_b_16": ("<1", "onnxsim 51 s"),
}
"""By architecture the limit in seconds, and what others need."""


def magnitude(files: Sequence[ModelFile], options: argparse.Namespace) -> Iterator[Row]:
    """One row for each architecture that has a limit."""
    import prunec
    from prunec.passes.sparsify import Sparsify

    for file in files:
        name = _architecture(file)
        if name in MAGNITUDE:
            limit, peer = MAGNITUDE[name]
            module = prunec.load(file.path())
            _touch(module)
            seconds = min(_seconds(module, Sparsify(layers="all")) for _ in range(options.runs))
            yield row("magnitude 2:4", file.name, seconds, "CPU s", limit, peer=peer)


def _architecture(file: ModelFile) -> str:
    return file.name.removeprefix("tv_").removesuffix("_shared").removesuffix("_dynamo")


def _touch(module: Module) -> None:
    """Have all weights in memory: reading the file is not what is measured."""
    for value in module.graph.initializers.values():
        if value.const_value is not None:
            value.const_value.numpy().copy()


def _seconds(module: Module, pass_: Pass) -> float:
    """CPU seconds of the pass on a fresh copy of a module whose facts are known."""
    from prunec.ir.diagnostics import RemarkLog
    from prunec.passes.analyses import Analyses
    from prunec.passes.base import Context

    copy = module.clone()
    context = Context(analyses=Analyses(copy), remarks=RemarkLog())
    context.analyses.facts()
    started = process_time()
    pass_.run(copy, context)
    return process_time() - started


# -- permutation ---------------------------------------------------------------------

PERMUTED: Mapping[str, str | None] = {"resnet50": "<30", "vit_b_16": None}
"""By architecture the limit in seconds."""
MATRICES = 5


def permutation(files: Sequence[ModelFile], options: argparse.Namespace) -> Iterator[Row]:
    """Rows for the matrix, then for each architecture."""
    import prunec
    from prunec.passes.permute_channels import PermuteChannels

    del options
    yield from _matrix_rows()
    for file in files:
        name = _architecture(file)
        if name in PERMUTED:
            module = prunec.load(file.path())
            _touch(module)
            yield row("permutation", file.name, _seconds(module, PermuteChannels()), "CPU s", PERMUTED[name])
            result = prunec.run(module, "permute-channels")
            if not result.changed:
                continue
            found = f"{len(result.plan.steps[0].orders)} groups"
            efficacy = result.statistics["permute-channels.efficacy"]
            yield row("permutation", file.name, efficacy, "% efficacy", ">0", of=found)
            yield row("permutation", file.name, result.verdicts[0].error, "relative error", "<1e-5", of=found)


def _matrix_rows() -> Iterator[Row]:
    """The mean efficacy and the longest time over several random matrices."""
    import numpy as np

    from prunec.passes.sparsity.permutation import efficacy, find_order

    found, seconds = [], []
    for seed in range(MATRICES):
        matrix = np.random.default_rng(seed).standard_normal((64, 128)).astype(np.float32)
        started = process_time()
        order = find_order(matrix, 2, 4, seed=seed)
        seconds.append(process_time() - started)
        found.append(efficacy(matrix, order, 2, 4))
    subject, over = "random 64 x 128", f"{MATRICES} matrices"
    yield row(
        "permutation", subject, sum(found) / MATRICES, "% efficacy", ">=36", of=over, peer="apex (CPU) 35.5 %"
    )
    yield row("permutation", subject, max(seconds), "CPU s", "<0.5", of=over, peer="apex (CPU) 60.7 s")


# -- calibration data --------------------------------------------------------------


def data_aware(files: Sequence[ModelFile], options: argparse.Namespace) -> Iterator[Row]:
    """What ``sparsegpt`` is worth on the digits example, which has data; whatever models are given."""
    del files, options
    found = compare()
    best = next(r for r in found.rows if r["criterion"] == "sparsegpt")
    for other, limit in (("magnitude", ">40"), ("wanda", ">15")):
        below = 100 * best[f"below_{other}"]
        subject = f"{best['model']}, sparsegpt below {other}"
        yield row("layer error", subject, below, "%", limit, of=f"{best['layers']} layers, test data")
    assert found.dense is not None
    lost = 100 * (found.dense - best["accuracy"])
    yield row("accuracy lost", f"{best['model']}, sparsegpt", lost, "points", "<0.5", of="450 test images")


MEASUREMENTS: Mapping[str, Measurement] = {
    "valid-masks": valid_masks,
    "magnitude": magnitude,
    "permutation": permutation,
    "data-aware": data_aware,
}


def main() -> None:
    parser = new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument(
        "--measure", action="append", choices=list(MEASUREMENTS), help="only this (repeatable)"
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each model (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every limit is kept")
    add_output_options(parser)
    options = parser.parse_args()
    files, found = chosen_models(options), machine.facts()
    machine.pin_to_one_core()
    rows = [r for name in options.measure or MEASUREMENTS for r in MEASUREMENTS[name](files, options)]
    report = Report(
        benchmark="sparsity",
        title="Sparsity on one core",
        columns=COLUMNS,
        rows=rows,
        options={"runs": options.runs, "pipeline": PIPELINE},
        machine=found,
    )
    publish(report, options)
    if options.check and any(r["verdict"] != "ok" for r in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
