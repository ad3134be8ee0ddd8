"""``prunec bench A B ...``: models side by side in ONNX Runtime, and why fewer operations are not less time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

import prunec
from prunec.ir.files import write_text
from prunec.tools.console import show
from prunec.tools.data_files import DATA_HELP, read_samples
from prunec.tools.options import seed_option, verbose_option
from prunec.tools.outputs import check_outputs
from prunec.tools.progress import show_progress

if TYPE_CHECKING:
    from prunec.exporters.bench.results import BenchReport


class _Sizes(click.ParamType[tuple[int, ...]]):
    """Batch sizes, separated by commas."""

    name = "sizes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read ``1,8,64``."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is no list of batch sizes such as 1,8,64", param, ctx)


class _Size(click.ParamType[tuple[str, int]]):
    """A name and a size."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Read ``seq=128``."""
        name, _, number = str(value).rpartition("=")
        if not name or not number.isdecimal() or not int(number):
            self.fail(f"'{value}' is no size such as seq=128", param, ctx)
        return name, int(number)


@click.command("bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1, required=True, metavar="A.onnx [B.onnx ...]")
@click.option("--data", metavar="D", help=f"Real inputs instead of random ones. {DATA_HELP}")
@click.option(
    "--batch", type=_Sizes(), default="1,8,64", show_default=True, help="Batch sizes, in this order."
)
@click.option(
    "--size",
    "sizes",
    type=_Size(),
    multiple=True,
    metavar="NAME=N",
    help="A free size of random inputs: seq=128.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Threads for one op; 0: as many as ONNX Runtime chooses.",
)
@click.option(
    "--providers", metavar="P,Q", default="", help="ONNX Runtime's providers, in order.  [default: CPU]"
)
@click.option(
    "--runs",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Timed runs of each model, at most.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="For each batch size, about.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that one run may take.",
)
@click.option("--profile", is_flag=True, help="Also show where the time of every model goes, layer by layer.")
@click.option("--memory/--no-memory", default=True, help="Measure peak memory.  [default: on]")
@seed_option("Of random inputs.")
@click.option("--json", "json_file", metavar="FILE", help="Also write everything as JSON.")
@verbose_option()
def bench_models(
    models: tuple[str, ...],
    data: str | None,
    batch: tuple[int, ...],
    sizes: tuple[tuple[str, int], ...],
    threads: int,
    providers: str,
    runs: int,
    seconds: float,
    timeout: float,
    profile: bool,
    memory: bool,
    seed: int,
    json_file: str | None,
    verbose: bool,
) -> None:
    """Measure models side by side: latency, throughput, load time, memory; the first is what others are compared with.

    Models take turns, in several rounds with sessions of their own, so that what the machine does meanwhile meets all
    alike. Where a model with fewer multiplications is not faster, it is said why.
    """
    if json_file is not None:
        check_outputs(inputs=[Path(model) for model in models], outputs=[Path(json_file)])
    with show_progress(verbose=verbose) as progress:
        report = prunec.bench(
            models,
            data=None if data is None else read_samples(data),
            batches=batch,
            sizes=dict(sizes),
            threads=threads,
            providers=[name.strip() for name in providers.split(",") if name.strip()],
            runs=runs,
            seconds=seconds,
            timeout=timeout,
            memory=memory,
            profile=profile,
            seed=seed,
            progress=progress,
        )
    show_report(report, profiles=profile)
    if json_file is not None:
        write_text(json_file, json.dumps(report.to_json(), indent=1) + "\n")
        click.echo(f"wrote {json_file}", err=True)


def show_report(report: BenchReport, *, profiles: bool) -> None:
    """Print a report, with its profiles or without."""
    from prunec.tools.bench_tables import render_report

    show(render_report(report, profiles=profiles))
