"""``prunec diff A B``: what is different between two models, and where they begin to compute something else."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import prunec
from prunec.ir.diagnostics import GateError, PrunecError, counted
from prunec.tools.console import WIDE, show
from prunec.tools.data_files import DATA_HELP, read_samples
from prunec.tools.options import seed_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunec.ir.diff import Alignment, Difference, Divergence
    from prunec.passes.calibration.data import CalibrationData

SHOWN = 30
"""Rows of a table without ``--all``."""
TOLERANCE = 1e-4


@click.command("diff", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a")
@click.argument("b")
@click.option("--run/--no-run", default=True, help="Run both on the same inputs.  [default: on]")
@click.option("--data", metavar="DATA", help=f"{DATA_HELP}  [default: random inputs]")
@seed_option("Of random inputs.")
@click.option(
    "--tolerance",
    default=TOLERANCE,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Relative error up to which values agree.",
)
@click.option("--fail-above", type=click.FloatRange(min=0), help="Exit with 3 if an output differs by more.")
@click.option("--all", "everything", is_flag=True, help="Show every difference.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def diff_models(
    a: str,
    b: str,
    run: bool,
    data: str | None,
    seed: int,
    tolerance: float,
    fail_above: float | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Show what is different between the models A and B.

    Nodes are aligned by names, and where those differ by structure. Both models run on the same inputs (the first
    samples of --data, or random ones), and the values at which they begin to differ are named.
    """
    if data is not None and not run:
        raise click.UsageError("--data and --no-run contradict each other")
    samples = None if data is None else read_samples(data)
    report = _Report.of(
        a, b, run=run or fail_above is not None, samples=samples, seed=seed, tolerance=tolerance
    )
    if as_json:
        click.echo(json.dumps(report.json(), indent=1, ensure_ascii=False))
    else:
        show(*_parts(report, None if everything else SHOWN), width=WIDE)
    report.gate(fail_above)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """All that is known about two models.

    Attributes:
        alignment: of their main graphs.
        inside: aligned nodes of bodies, whose numbers are compared where they leave the node that holds them.
        differences: that can be read off the graphs.
        values: compared values, in the order of A; None where the models did not run.
        why_not: why they did not.
        tolerance: relative error up to which values agree.
    """

    alignment: Alignment
    inside: int
    differences: Sequence[Difference]
    values: Sequence[Divergence] | None
    why_not: str = ""
    tolerance: float

    @classmethod
    def of(
        cls, a: str, b: str, *, run: bool, samples: CalibrationData | None, seed: int, tolerance: float
    ) -> _Report:
        """Load two models and compare them."""
        from prunec.ir.diff import align, differences, diverge
        from prunec.ir.probes import probe_feeds

        first, second = prunec.load(a), prunec.load(b)
        given = None if samples is None else samples.bind(first, every=True)[0]
        alignment = align(first.graph, second.graph)
        found = list(differences(first.model, second.model, alignment))
        values, why_not = None, "they were not run"
        if run:
            try:
                feeds = given or probe_feeds(first, seed=seed)
                values = diverge(first, second, alignment, feeds, tolerance=tolerance)
            except PrunecError as error:
                why_not = error.message
        return cls(
            alignment=alignment,
            inside=sum(node.graph is not first.graph for node in alignment.nodes),
            differences=found,
            values=values,
            why_not=why_not,
            tolerance=tolerance,
        )

    @property
    def outputs(self) -> list[Divergence]:
        """The graph outputs among the compared values."""
        return [value for value in self.values or () if value.is_output]

    @property
    def begins(self) -> list[Divergence]:
        """The values at which a difference begins."""
        return [value for value in self.values or () if value.begins]

    def gate(self, limit: float | None) -> None:
        """Raise where an output is further away than the user allows."""
        if limit is None:
            return
        if not self.outputs:
            raise GateError(f"no output could be compared: {self.why_not or 'none is aligned'}")
        worst = max(self.outputs, key=lambda value: math.inf if value.error is None else value.error)
        if worst.error is None or worst.error > limit:
            how = "has another shape" if worst.error is None else f"differs by {worst.error:.1e}"
            raise GateError(f"output `{worst.name}` {how}, at most {limit:g} is allowed")

    def json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        aligned = self.alignment
        return {
            "aligned": len(aligned.nodes),
            "inside_bodies": self.inside,
            "only_a": len(aligned.only_a),
            "only_b": len(aligned.only_b),
            "differences": [
                {"kind": d.kind, "name": d.name, "a": d.a, "b": d.b, "error": d.error}
                for d in self.differences
            ],
            "values": None if self.values is None else [_value_json(value) for value in self.values],
            "not_run": self.why_not if self.values is None else None,
        }


def _value_json(value: Divergence) -> dict[str, Any]:
    error = value.error if value.error is None or math.isfinite(value.error) else "inf"
    facts = {"output": value.is_output, "begins": value.begins}
    return {"name": value.name, "error": error, "shapes": list(map(list, value.shapes)), **facts}


def _parts(report: _Report, rows: int | None) -> Iterator[RenderableType]:
    aligned = report.alignment
    only = [len(nodes) for nodes in (aligned.only_a, aligned.only_b)]
    yield f"{counted(len(aligned.nodes), 'node')} aligned, {only[0]:,} only in A, {only[1]:,} only in B"
    if report.differences:
        kinds = Counter(difference.kind for difference in report.differences)
        yield f"differences: {', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}"
        yield _difference_table(report.differences[:rows])
        yield from _rest(len(report.differences), rows)
    else:
        yield "the graphs are the same"
    yield ""
    yield from _numbers(report, rows)


def _numbers(report: _Report, rows: int | None) -> Iterator[RenderableType]:
    if report.values is None:
        yield f"numbers are not compared: {report.why_not}"
        return
    yield _value_table("output", report.outputs)
    if report.inside:
        yield (
            f"numbers of {counted(report.inside, 'node')} inside bodies are compared where they leave the node that "
            "holds them"
        )
    begins = report.begins
    if not begins:
        all = (
            "the one aligned value agrees"
            if len(report.values) == 1
            else f"all {len(report.values):,} aligned values agree"
        )
        yield f"{all} to {report.tolerance:g}"
        return
    differ = sum(_differs(value, report.tolerance) for value in report.values)
    yield f"{differ:,} of {len(report.values):,} aligned values differ; it begins at"
    yield _value_table("value", begins[:rows])
    yield from _rest(len(begins), rows)


def _differs(value: Divergence, tolerance: float) -> bool:
    return value.error is None or value.error > tolerance


def _rest(count: int, rows: int | None) -> Iterator[str]:
    if rows is not None and count > rows:
        yield f"... and {count - rows:,} more (show them with --all)"


def _difference_table(found: Sequence[Difference]) -> RenderableType:
    rows = [
        (d.kind, d.name, d.a or "-", d.b or "-", "" if d.error is None else f"{d.error:.1e}") for d in found
    ]
    return _table(("", "name", "A", "B", "error"), rows)


def _value_table(title: str, values: Sequence[Divergence]) -> RenderableType:
    rows = []
    for value in values:
        node = value.node
        maker = "graph input" if node is None else f"{node.op_type} {node.name or ''}".strip()
        shapes = [f"[{', '.join(map(str, shape))}]" for shape in value.shapes]
        error = " and ".join(shapes) if value.error is None else f"{value.error:.1e}"
        rows.append((value.name, maker, error))
    return _table((title, "made by", "error"), rows)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
