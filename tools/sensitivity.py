"""``prunec sensitivity MODEL --data D``: how much a metric loses when a share of each layer's channels goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

import prunec
from prunec.ir.diagnostics import UserError, counted
from prunec.tools.console import show
from prunec.tools.data_files import DATA_HELP, read_samples
from prunec.tools.options import seed_option, unit_option, verbose_option
from prunec.tools.outputs import check_outputs
from prunec.tools.progress import show_progress

if TYPE_CHECKING:
    from prunec.passes.coupling.options import Unit
    from prunec.passes.pruning.importance import Criterion
    from prunec.passes.sensitivity.profile import Profile


@click.command("sensitivity", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--data", metavar="DATA", required=True, help=DATA_HELP)
@click.option(
    "--metric",
    metavar="METRIC",
    help="What is measured.  [default: top1 or rmse, as labels and outputs are, else agreement]",
)
@click.option(
    "--ratios",
    metavar="R,...",
    default="0.2",
    show_default=True,
    help="Shares of a layer's channels to mask: a list such as 0.1,0.3,0.5, or a ladder such as 0.1..0.7.",
)
@click.option(
    "--criterion",
    type=click.Choice(["l1", "l2", "bn-scale", "fpgm", "random"]),
    default="l2",
    show_default=True,
    help="What makes a channel important; the least important ones are masked.",
)
@unit_option()
@click.option("-o", "--output", metavar="FILE", help="The profile, JSON.  [default: MODEL.sensitivity.json]")
@click.option("--plot", metavar="FILE", help="Also draw the profile: .svg or .png.")
@click.option(
    "--executor",
    metavar="WHERE",
    default="threads",
    show_default=True,
    help="Where it runs: threads (all cores), threads:N, or dask://host:port.",
)
@seed_option()
@verbose_option("Show every measurement and its time.")
def measure_sensitivity(
    model: str,
    data: str,
    metric: str | None,
    ratios: str,
    criterion: str,
    unit: str,
    output: str | None,
    plot: str | None,
    executor: str,
    seed: int,
    verbose: bool,
) -> None:
    """Measure how much MODEL loses when a share of one layer's channels goes, layer by layer.

    What is measured is kept in FILE.partial until all of it is there; the same command goes on from it.
    """
    from prunec.exporters.report.plot import check_plot
    from prunec.passes.judging.default import metric_of
    from prunec.passes.sensitivity.executor import parse_executor
    from prunec.passes.sensitivity.journal import partial_path
    from prunec.passes.sensitivity.ratios import parse_ratios

    wanted, where = parse_ratios(ratios), parse_executor(executor)
    path = Path(output) if output else _default_output(Path(model))
    drawn = None if plot is None else Path(plot)
    if drawn is not None:
        check_plot(drawn)
    outputs = [path, *([] if drawn is None else [drawn])]
    if Path(model).exists():
        check_outputs(inputs=[Path(model), Path(data)], outputs=outputs)
    partial = partial_path(path)
    with _kept_in(partial), show_progress(verbose=verbose) as progress:
        progress(f"loading {model}")
        module, samples = prunec.load(model), read_samples(data)
        choice = metric_of(metric, samples, module)
        profile = prunec.sensitivity(
            module,
            samples,
            choice.metric if metric is None else metric,
            ratios=wanted,
            criterion=cast("Criterion", criterion),
            unit=cast("Unit", unit),
            seed=seed,
            executor=where,
            partial=partial,
            progress=progress,
        )
    profile.save(path)
    if drawn is not None:
        prunec.write_plot(profile, drawn)
    if choice.why:
        click.echo(f"{profile.metric} is measured: {choice.why}", err=True)
    _report(profile, outputs)


def _default_output(model: Path) -> Path:
    """``net.sensitivity.json`` beside ``net.onnx``."""
    return model.with_name(f"{model.name.partition('.')[0]}.sensitivity.json")


@contextlib.contextmanager
def _kept_in(partial: Path) -> Iterator[None]:
    """Let whatever ends a sweep say where its measurements are."""
    try:
        yield
    except BaseException as error:
        _say_how_to_go_on(error, partial)
        raise


def _say_how_to_go_on(error: BaseException, partial: Path) -> None:
    """What was measured is not lost, whatever ended the sweep."""
    try:
        count = max(0, len(partial.read_text(encoding="utf-8").splitlines()) - 1)
    except (OSError, UnicodeDecodeError):
        return
    if not count:
        return
    kept = f"{counted(count, 'measurement is', 'measurements are')} kept in {partial}"
    if isinstance(error, UserError):
        error.notes = (*error.notes, kept)
    else:
        click.echo(f"{kept}: the same command goes on from there", err=True)


def _report(profile: Profile, written: list[Path]) -> None:
    """The profile as a table on stdout, and what was written on stderr."""
    from prunec.tools.sensitivity_table import render_profile

    show(render_profile(profile))
    for path in written:
        click.echo(f"wrote {path}", err=True)
