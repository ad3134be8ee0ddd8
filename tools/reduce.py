"""``prunec reduce MODEL``: the smallest model that still shows a failure."""

from __future__ import annotations

from pathlib import Path

import click

import prunec
from prunec.ir.diagnostics import Place, UserError, counted
from prunec.ir.formats import is_program
from prunec.ir.fx.entry import onnx_only
from prunec.passes.pipeline import read_pipeline
from prunec.tools.outputs import check_outputs
from prunec.tools.progress import show_progress
from prunec.tools.reduction.options import command_options
from prunec.tools.reduction.oracle import CommandOracle, Oracle, PipelineOracle, pattern_of
from prunec.tools.reduction.search import Search


@click.command("reduce", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("-p", "--passes", metavar="PASSES", help="Look for the failure of this pipeline.")
@click.option("-o", "--output", metavar="OUT", help="Model to write.  [default: MODEL.reduced.onnx]")
@click.option(
    "-j", "--jobs", default=2, show_default=True, type=click.IntRange(min=1), help="Tries at a time."
)
@command_options("Or of a shell command that exits with other than 0; {} is the model.", required=False)
def reduce_model(
    model: str,
    passes: str | None,
    command: str | None,
    match: str | None,
    output: str | None,
    jobs: int,
    timeout: float,
    seed: int,
    verbose: bool,
) -> None:
    """Shrink MODEL to the least that still shows a failure: fewer nodes, outputs, channels, smaller inputs.

    The failure is that of a pipeline (--passes), or a command that exits with other than 0 (--test). OUT is
    written whenever something smaller is found; if OUT exists, the search goes on from there.
    """
    if (passes is None) == (command is None):
        raise UserError("give either --passes or --test", help=["prunec reduce --help"])
    if is_program(Path(model)):
        raise onnx_only("`prunec reduce`", model)
    target = Path(output) if output is not None else _default_output(Path(model))
    check_outputs(inputs=[Path(model)], outputs=[target])
    oracle = _oracle(passes, command, match, jobs=jobs, timeout=timeout, seed=seed)
    start = target if target.exists() else Path(model)
    try:
        with show_progress(verbose=verbose) as progress:
            progress(f"trying {start}")
            module = prunec.load(start)
            _check_fails(oracle, start, resumed=start == target)
            search = Search(
                oracle=oracle, save=lambda found: prunec.save(found, target), progress=progress, jobs=jobs
            )
            before = len(module.graph)
            found = search.run(module)
    finally:
        oracle.close()
    if not target.exists():
        prunec.save(found, target)
    click.echo(
        f"{counted(before, 'node')} reduced to {len(found.graph):,} in {counted(search.tried, 'try', 'tries')}; "
        f"wrote {target}",
        err=True,
    )


def _default_output(model: Path) -> Path:
    return model.with_name(f"{model.name.removesuffix('.onnx')}.reduced.onnx")


def _oracle(
    passes: str | None, command: str | None, match: str | None, *, jobs: int, timeout: float, seed: int
) -> Oracle:
    if command is None:
        if match is not None:
            raise UserError("--match goes with --test")
        pipeline = read_pipeline(passes or "")
        if any(pass_.needs_data for pass_ in pipeline.expand()):
            help = ["try a criterion that needs none, or give a command with --test"]
            raise UserError(
                "calibration data do not fit smaller models, and the pipeline needs some", help=help
            )
        return PipelineOracle(pipeline=str(pipeline), seed=seed, jobs=jobs)
    return CommandOracle(command=command, match=pattern_of(match), timeout=timeout, jobs=jobs)


def _check_fails(oracle: Oracle, model: Path, *, resumed: bool) -> None:
    """See that there is a failure to look for, and note its kind; ``resumed``: the model is an earlier search's.

    Raises:
        UserError: the model does not show it.
    """
    if isinstance(oracle, PipelineOracle):
        oracle.sign = oracle.sign_of(model)
        fails, what = bool(oracle.sign), "the pipeline"
        help = "to look for wrong results instead of an error, give a command with --test"
    else:
        fails, what = oracle.fails([model]) == [True], "the test"
        help = "a test must exit with other than 0 where the failure is there"
    if not fails:
        help = "the search would go on from this file; to begin again, remove it" if resumed else help
        raise UserError(f"{what} does not fail on this model", place=Place(file=str(model)), help=[help])
