"""``prunec MODEL -p PASSES``: load a model, run a pipeline on it, write what comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import prunec
from prunec.exporters.target import Export, ExportContext
from prunec.ir.diagnostics import Place, RemarkLog, UserError
from prunec.passes.pipeline import Pipeline, parse_pipeline, read_pipeline
from prunec.passes.plan import Plan
from prunec.tools.data_files import DATA_HELP, calibration_data
from prunec.tools.emit import read_target
from prunec.tools.instruments.options import Watch, watch_options
from prunec.tools.optional_value import OptionalValue, OptionalValues
from prunec.tools.options import seed_option, verbose_option
from prunec.tools.outputs import check_kinds, check_outputs, default_output
from prunec.tools.papers import Papers, paper_options
from prunec.tools.progress import show_progress
from prunec.tools.quantization import compared, render_table
from prunec.tools.remarks import from_passes, origins_in, save_remarks, with_source

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.judging.quantization_table import QuantizationTable
    from prunec.passes.manager import Result


class CompileCommand(OptionalValues):
    """Its usage leaves out its own name, since it is the default."""

    def format_usage(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        formatter: click.HelpFormatter,
    ) -> None:
        """How it is used."""
        formatter.write_usage("prunec", "MODEL -p PASSES [-o OUT] [OPTIONS]")


@click.command("compile", cls=CompileCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("-p", "--passes", metavar="PASSES", help="Pipeline: a file, or passes as text.")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File to write.  [default: MODEL.pruned.onnx, or as the target has it]",
)
@click.option(
    "--emit",
    default="onnx",
    metavar="TARGET",
    help="What to write: onnx, ort or trt, with options in braces; `prunec targets` explains.  [default: onnx]",
)
@click.option(
    "--require-sparse",
    metavar="SHARE",
    help="With --emit trt: fail unless this share of the eligible layers uses sparse kernels.",
)
@click.option("--plan", metavar="FILE", help="Also write what was removed, as JSON.")
@click.option("--replay", metavar="PLAN", help="Remove what an earlier plan removed.")
@click.option(
    "--replay-from",
    metavar="MODEL",
    help="The model that the plan is of, where it is another export of this network.",
)
@click.option("--data", metavar="DATA", help=DATA_HELP)
@click.option(
    "--verify-each/--no-verify",
    "--verify",
    "verify",
    default=True,
    help="Check every pass by running the model.  [default: on]",
)
@seed_option()
@click.option(
    "-R",
    "shown",
    cls=OptionalValue,
    bare="*",
    metavar="PASS",
    help="Show what passes, or these (glob), did and could not do, and why.",
)
@click.option("--remarks", metavar="FILE", help="Also write all remarks, as YAML.")
@verbose_option()
@paper_options
@watch_options
def compile_model(
    model: str,
    passes: str | None,
    output: str | None,
    emit: str,
    require_sparse: str | None,
    plan: str | None,
    replay: str | None,
    replay_from: str | None,
    data: str | None,
    verify: bool,
    seed: int,
    shown: tuple[str, ...],
    remarks: str | None,
    verbose: bool,
    papers: Papers,
    watch: Watch,
) -> None:
    """Run a pipeline of passes on MODEL and write the verified result.

    With --replay and without --passes, the pipeline is that of the plan.
    """
    replayed = _replayed(replay, replay_from, model)
    pipeline = _pipeline(passes, replay, replayed)
    if not model:
        raise UserError("the name of the model is empty", help=["give the path of a model"])
    target = read_target(emit, require_sparse=require_sparse)
    path = default_output(Path(model), target.suffix) if output is None else Path(output)
    outputs = [*target.files(path), *(Path(file) for file in (plan, remarks) if file), *papers.outputs]
    if Path(model).exists():  # if not, loading it says so, and names the closest file
        given = (model, passes, replay, replay_from, data)
        inputs = [*(Path(file) for file in given if file), *papers.inputs]
        check_kinds(Path(model), path, pipeline, target)
        check_outputs(inputs=inputs, outputs=outputs)
    papers.check()
    calibration = calibration_data(pipeline, data)
    options = [*([] if verify else ["--no-verify"]), *(["--data", data] if data else [])]
    instruments = watch.instruments(pipeline, plan=replayed, options=options)
    with show_progress(verbose=verbose) as progress:
        progress(f"loading {model}")
        module = prunec.load(model)
        check_outputs(inputs=module.source.data, outputs=outputs)
        how: dict[str, Any] = {"verify": verify, "seed": seed, "replay": replayed, "progress": progress}
        with _placed_in(replay), papers.where_a_gate_stops(module, pipeline, progress):
            samples = papers.data_for(pipeline, calibration)
            result = prunec.run(module, pipeline, data=samples, instruments=instruments, **how)
        table = compared(module, pipeline, calibration, result, seed=seed, progress=progress)
        evaluation = papers.judged(module, pipeline, result, calibration, progress)
        context = ExportContext(remarks=result.remarks, progress=progress, verify=verify, seed=seed)
        progress(f"writing {path}")
        with _told(result.remarks, shown, remarks, module):
            export = target.write(result.module, path, context)
        if plan is not None:
            result.plan.save(plan)
        papers.write(module, pipeline, result, export, evaluation=evaluation, table=table, progress=progress)
    watch.report(result, pipeline, instruments)
    also = tuple(filter(None, (plan, remarks, papers.report, papers.card)))
    _summarise(pipeline, result, export, table, verify=verify, remarks_shown=bool(shown), also=also)


@contextlib.contextmanager
def _placed_in(plan: str | None) -> Iterator[None]:
    """Let mistakes that have no place of their own name the plan that is being replayed."""
    try:
        yield
    except UserError as error:
        if plan is not None and error.place is None:
            error.place = Place(file=plan)
        raise


def _replayed(replay: str | None, replay_from: str | None, model: str) -> Plan | None:
    """The plan to replay, in terms of the model."""
    if replay is None:
        if replay_from is not None:
            raise UserError("--replay-from says what a plan is of, and --replay is missing")
        return None
    plan = Plan.load(replay)
    return plan if replay_from is None else plan.transfer(prunec.load(replay_from), prunec.load(model))


def _pipeline(passes: str | None, replay: str | None, plan: Plan | None) -> Pipeline:
    """What ``-p`` says, or else the pipeline of the plan to replay."""
    if passes is not None:
        return read_pipeline(passes)
    if plan is None:
        help = [
            "give a file, or text such as -p 'fold-norm, prune-channels{ratio=40%}'",
            "`prunec passes` lists all passes",
        ]
        raise UserError("no passes to run: option -p is missing", help=help)
    return parse_pipeline(plan.pipeline, file=f"{replay}, key 'pipeline'")


@contextlib.contextmanager
def _told(remarks: RemarkLog, shown: Collection[str], file: str | None, module: Module) -> Iterator[None]:
    """Tell all remarks behind what is done inside, also where a gate stops it: what is known stays known."""
    try:
        yield
    finally:
        _tell(remarks, shown, file, module)


def _tell(remarks: RemarkLog, shown: Collection[str], file: str | None, module: Module) -> None:
    """Write the remarks to a file, and those on stderr that are urgent or were asked for."""
    origins = origins_in(module) if shown or file is not None else {}
    if file is not None:
        save_remarks(remarks, Path(file), origins)
    asked = from_passes(remarks, shown)
    for remark in (r for r in remarks if r.urgent or r in asked):
        click.echo(with_source(remark, origins), err=True)
    for glob in shown:
        if not from_passes(remarks, [glob]):
            others = ", ".join(dict.fromkeys(remark.origin for remark in remarks))
            click.echo(f"no remarks of '{glob}'{f'; there are some of {others}' if others else ''}", err=True)


def _summarise(
    pipeline: Pipeline,
    result: Result,
    export: Export,
    table: QuantizationTable | None,
    *,
    verify: bool,
    remarks_shown: bool,
    also: tuple[str, ...],
) -> None:
    """Say what was done, on stderr."""
    from rich.console import Console

    from prunec.tools.summary import Summary, render_summary

    pruning = {pass_.name for pass_ in pipeline.expand() if pass_.contract in ("masked", "sparse")}
    summary = Summary.of(
        result, export=export, verify=verify, remarks_shown=remarks_shown, pruning=pruning, also=also
    )
    console = Console(stderr=True, highlight=False)
    if table is not None:
        console.print(render_table(table), "", crop=False)
    console.print(render_summary(summary), crop=False)
