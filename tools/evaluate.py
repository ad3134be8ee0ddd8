"""``prunec eval A B ... --data D``: how good models are on samples, slice by slice, and whether that is enough."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import prunec
from prunec.ir.diagnostics import GateError, Place
from prunec.tools.data_files import DATA_HELP, read_samples
from prunec.tools.outputs import check_outputs, write_output
from prunec.tools.progress import show_progress

if TYPE_CHECKING:
    from prunec.passes.judging.evaluate import Evaluation
    from prunec.passes.judging.metrics import Metric
    from prunec.passes.judging.slices import SliceFile

PIPE_WIDTH = 120
"""Columns where the output is no terminal."""


@click.command("eval", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1, required=True, metavar="A.onnx [B.onnx ...]")
@click.option("--data", metavar="DATA", required=True, help=DATA_HELP)
@click.option("--slices", metavar="FILE", help="Slices of the samples and what is demanded of them (TOML).")
@click.option(
    "--metric",
    metavar="M",
    help="top1, top5, f1, mae, rmse, perplexity, agreement, cosine, or module:function.  [default: that of the "
    "slices; top1; without labels agreement]",
)
@click.option(
    "--against",
    metavar="DENSE",
    help="Model that drops are measured against.  [default: A, where there are others]",
)
@click.option("--json", "json_file", metavar="FILE", help="Also write everything as JSON.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="For all that is random."
)
@click.option("-v", "--verbose", is_flag=True, help="Show every step and its time.")
def evaluate_models(
    models: tuple[str, ...],
    data: str,
    slices: str | None,
    metric: str | None,
    against: str | None,
    json_file: str | None,
    seed: int,
    verbose: bool,
) -> None:
    """Measure models on samples of yours, as a whole and slice by slice.

    With several models the first is the dense one: the others are measured against it, sample by sample. A threshold of
    --slices fails (exit 3) only if even the favourable end of its 95 % interval is beyond it.
    """
    if against is None and len(models) > 1:
        against, models = models[0], models[1:]
    if json_file is not None:
        inputs = [Path(file) for file in (*models, against, data, slices) if file]
        check_outputs(inputs=inputs, outputs=[Path(json_file)])
    file = None if slices is None else _read_slices(slices)
    chosen = None if metric is None else _parse_metric(metric)
    with show_progress(verbose=verbose) as progress:
        samples = read_samples(data)
        reference = None
        if against is not None:
            progress(f"loading {against}")
            reference = prunec.load(against)
        found = []
        for model in models:
            progress(f"evaluating {model}")
            module = prunec.load(model)
            found.append(
                prunec.evaluate(module, samples, chosen, reference=reference, slices=file or (), seed=seed)
            )
    show_evaluations(found)
    if json_file is not None:
        _write_json(Path(json_file), found)
    if file is not None:
        _require(found, file)


def _read_slices(path: str) -> SliceFile:
    from prunec.passes.judging.slice_file import read_slices

    return read_slices(path)


def _parse_metric(text: str) -> Metric:
    from prunec.passes.judging.metrics import parse_metric

    return parse_metric(text, file="--metric")


def show_evaluations(found: Sequence[Evaluation]) -> None:
    """Print evaluations, one table each."""
    from rich.console import Console

    from prunec.tools.evaluate_tables import render_evaluation

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for number, result in enumerate(found):
        if number:
            console.print()
        console.print(render_evaluation(result))


def _write_json(path: Path, found: Sequence[Evaluation]) -> None:
    import onnxruntime as ort

    content = {
        "schema": "prunec.evaluations/1",
        "versions": {"prunec": prunec.__version__, "onnxruntime": ort.__version__},
        "evaluations": [result.to_json() for result in found],
    }
    write_output(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    click.echo(f"wrote {path}", err=True)


def _require(found: Sequence[Evaluation], file: SliceFile) -> None:
    """See that every threshold of the file holds for every model.

    Raises:
        GateError: one does not.
    """
    several = len(found) > 1
    failures = [
        f"{result.model}: {line}" if several else line
        for result in found
        for line in result.failures(undecided=file.undecided == "fail")
    ]
    if failures:
        more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        raise GateError(f"{failures[0]}{more}", place=Place(file=file.source.file), notes=failures[1:])
