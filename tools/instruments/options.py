"""The options of a compile that only watch it, and the instruments that they stand for."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunec.ir.diagnostics import UserError, nearest
from prunec.tools.console import WIDE, show
from prunec.tools.optional_value import OptionalValue

if TYPE_CHECKING:
    from prunec.passes.instruments import Instrument
    from prunec.passes.manager import Result
    from prunec.passes.pipeline import Pipeline
    from prunec.passes.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the user wants to see of a compile.

    Attributes:
        print_ir_before: globs of pass names before which the graph is printed.
        print_ir_after: globs of pass names behind which it is printed.
        print_ir_after_change: print what each pass changed, as a diff.
        dump_dir: folder for numbered dumps.
        time_passes: show where the time went.
        stats: show what passes counted.
        bisect_limit: run no more than this many transforms.
        reproducer: keep what is needed to replay a failure.
    """

    print_ir_before: tuple[str, ...] = ()
    print_ir_after: tuple[str, ...] = ()
    print_ir_after_change: bool = False
    dump_dir: str | None = None
    time_passes: bool = False
    stats: bool = False
    bisect_limit: int | None = None
    reproducer: bool = True

    def instruments(
        self, pipeline: Pipeline, *, plan: Plan | None, options: Sequence[str]
    ) -> list[Instrument]:
        """The instruments for one run.

        Args:
            pipeline: what will run.
            plan: what it replays, if it does.
            options: further words of the command line that a replay of a failure needs.

        Raises:
            UserError: a glob matches no pass of the pipeline, or the dump folder cannot be used.
        """
        for glob in (*self.print_ir_before, *self.print_ir_after):
            check_glob(glob, pipeline)
        return list(self._made(plan, options))

    def _made(self, plan: Plan | None, options: Sequence[str]) -> Iterator[Instrument]:
        if self.bisect_limit is not None:
            from prunec.tools.instruments.bisect_limit import BisectLimit

            yield BisectLimit(limit=self.bisect_limit)
        if self.reproducer:
            from prunec.tools.instruments.reproducer import Reproducer

            yield Reproducer(parent=Path(), command=["prunec", *sys.argv[1:]], options=options, plan=plan)
        if self.dump_dir is not None:
            from prunec.tools.instruments.dump_folder import DumpFolder

            yield DumpFolder.open(Path(self.dump_dir))
        if self.print_ir_before or self.print_ir_after or self.print_ir_after_change:
            from prunec.tools.instruments.print_ir import PrintIR

            changes = self.print_ir_after_change
            yield PrintIR(before=self.print_ir_before, after=self.print_ir_after, changes=changes)
        if self.time_passes:
            from prunec.tools.instruments.times import PeakMemory

            yield PeakMemory()

    def report(self, result: Result, pipeline: Pipeline, instruments: Sequence[Instrument]) -> None:
        """Show times and counters, on stderr."""
        from prunec.tools.instruments.times import PeakMemory, render_times, time_tree

        memory = [instrument for instrument in instruments if isinstance(instrument, PeakMemory)]
        parts = [render_times(time_tree(pipeline, result.timings, instrument.peaks)) for instrument in memory]
        counted = sorted(result.statistics.items()) if self.stats else []
        show(*parts, *(f"{number:>10,} {name}" for name, number in counted), width=WIDE, stderr=True)


def check_glob(glob: str, pipeline: Pipeline) -> None:
    """See that a glob means a pass.

    Raises:
        UserError: it matches no pass of the pipeline.
    """
    from fnmatch import fnmatchcase

    names = list(dict.fromkeys(inner.name for inner in pipeline.expand()))
    if not any(fnmatchcase(name, glob) for name in names):
        likely = nearest(glob, names)
        meant = f" (did you mean '{likely}'?)" if likely else ""
        raise UserError(
            f"no pass of the pipeline is called '{glob}'{meant}", help=[f"its passes: {', '.join(names)}"]
        )


def watch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a :class:`Watch`, which it receives as ``watch``."""

    @functools.wraps(command)
    def watched(**values: Any) -> Any:
        own = {name: values.pop(name) for name in Watch.__dataclass_fields__ if name in values}
        return command(watch=Watch(**own), **values)

    for option in reversed(_OPTIONS):
        watched = option(watched)
    return watched


_OPTIONS = (
    click.option(
        "--print-ir-before",
        cls=OptionalValue,
        bare="*",
        metavar="PASS",
        help="Print the graph before every pass, or these (glob).",
    ),
    click.option(
        "--print-ir-after",
        cls=OptionalValue,
        bare="*",
        metavar="PASS",
        help="Print the graph behind every pass, or these (glob).",
    ),
    click.option("--print-ir-after-change", is_flag=True, help="Print what every pass changed, as a diff."),
    click.option("--dump-dir", metavar="DIR", help="Write a numbered dump after every pass."),
    click.option("--time-passes", is_flag=True, help="Show where the time went."),
    click.option("--stats", is_flag=True, help="Show what the passes counted."),
    click.option(
        "--bisect-limit",
        metavar="N",
        type=click.IntRange(min=0),
        help="Run only the first N transforms of the pipeline.",
    ),
    click.option(
        "--reproducer/--no-reproducer",
        default=True,
        help="Leave a folder that replays a failure.  [default: on]",
    ),
)
