"""What a compile writes for people: ``--report`` and ``--card``, and what goes into them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunec.ir.diagnostics import GateError, PrunecError, UserError
from prunec.tools.optional_value import OptionalValue

if TYPE_CHECKING:
    from prunec.exporters.report.evidence import Evidence
    from prunec.exporters.target import Export
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.gate import Gate
    from prunec.passes.judging.evaluate import Evaluation
    from prunec.passes.judging.quantization_table import QuantizationTable
    from prunec.passes.manager import Progress, Result
    from prunec.passes.pipeline import Pipeline

MEASURE = "measure"
"""What a bare ``--bench`` stands for."""
BATCHES = (1, 8)
SECONDS = 3.0
"""Of each batch size, about, where latencies are measured for a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """What is to be written for people.

    Attributes:
        report: the page, or None.
        card: the model card, or None.
        card_fields: TOML file with what only people know, or None.
        bench: files of ``prunec bench --json``, the last of which counts, or ``MEASURE``.
    """

    report: str | None = None
    card: str | None = None
    card_fields: str | None = None
    bench: tuple[str, ...] = ()

    @property
    def outputs(self) -> list[Path]:
        """The files that are written."""
        return [Path(path) for path in (self.report, self.card) if path]

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        given = [self.card_fields, *(path for path in self.bench if path != MEASURE)]
        return [Path(path) for path in given if path]

    def check(self) -> None:
        """Find mistakes before any work is done.

        Raises:
            UserError: an option lacks another, jinja2 is not installed, or a file that is read is wrong.
        """
        if self.card_fields is not None and self.card is None:
            raise UserError("--card-fields is for a model card", help=["add --card FILE.md"])
        if not self.outputs:
            if self.bench:
                raise UserError("--bench is for a report or a model card", help=["add --report FILE.html"])
            return
        from prunec.exporters.report.evidence import read_document
        from prunec.exporters.report.fields import CardFields
        from prunec.exporters.report.page import environment

        environment()
        CardFields.of(self.card_fields)
        if self.bench and self.bench[-1] != MEASURE:
            read_document("bench", self.bench[-1])

    def data_for(self, pipeline: Pipeline, data: CalibrationData | None) -> CalibrationData | None:
        """The samples that passes get: none where only the papers look at them, which is no mistake then."""
        return data if not self.outputs or any(inner.needs_data for inner in pipeline.expand()) else None

    def judged(
        self,
        module: Module,
        pipeline: Pipeline,
        result: Result,
        data: CalibrationData | None,
        progress: Progress,
    ) -> Evaluation | None:
        """The metric of the result: that of the pipeline's last gate, on its slices, where there is one.

        Where the samples do not allow it there is a remark: the model itself is done.
        """
        if data is None or not self.outputs:
            return None
        from prunec.passes.judging.evaluate import Slices, evaluate

        progress("judging the result")
        gate = _last_gate(pipeline)
        metric = None if gate is None else gate.metric or None
        slices: Slices = () if gate is None else gate.slices
        try:
            return evaluate(result.module, data, metric, reference=module, slices=slices, seed=result.seed)
        except UserError as error:
            reason = error.message
            result.remarks.missed("report", "the result is not judged", reason=reason, urgent=True)
            return None

    @contextlib.contextmanager
    def where_a_gate_stops(self, module: Module, pipeline: Pipeline, progress: Progress) -> Iterator[None]:
        """Where a gate stops a compile, write them about the model that was stopped, which is not written itself.

        The gate's error goes on in any case; where they cannot be written, a note on it says why.

        Args:
            module: the model before.
            pipeline: what runs.
            progress: told what begins.
        """
        try:
            yield
        except GateError as error:
            if self.outputs and error.result is not None:
                self._describe(error, module, pipeline, progress)
            raise

    def _describe(self, error: GateError, module: Module, pipeline: Pipeline, progress: Progress) -> None:
        made = {"evaluation": error.evaluation, "table": None, "progress": progress}
        written = " and ".join(map(str, self.outputs))
        try:
            self.write(module, pipeline, error.result, None, **made)
        except PrunecError as failure:
            where = f"{failure.place}: " if failure.place else ""
            error.notes = (*error.notes, f"what was stopped is not described: {where}{failure.message}")
        else:
            error.help = (*error.help, f"what was stopped is described in {written}")

    def write(
        self,
        module: Module,
        pipeline: Pipeline,
        result: Result,
        export: Export | None,
        *,
        evaluation: Evaluation | None,
        table: QuantizationTable | None,
        progress: Progress,
    ) -> None:
        """Write them.

        Args:
            module: the model before.
            pipeline: what made the result.
            result: of the compile.
            export: what was written; None where a gate stopped it.
            evaluation: of the result, or None.
            table: dense, pruned, quantised and both, where that was measured.
            progress: told what begins.

        Raises:
            UserError: the latencies are of another model, or a file cannot be written.
        """
        if not self.outputs:
            return
        from prunec.exporters.report.card import render_card
        from prunec.exporters.report.evidence import Evidence, FileFacts
        from prunec.exporters.report.fields import CardFields
        from prunec.exporters.report.page import render_report
        from prunec.ir.files import write_text

        evidence: Evidence = Evidence.of(
            result,
            output=None if export is None else FileFacts.of(export.files[0], size=export.size),
            evaluation=evaluation,
            profile=_first(pipeline, "budget"),
            bench=self._bench(module, export, progress),
            quantization=table,
        )
        if self.report is not None:
            progress(f"writing {self.report}")
            write_text(self.report, render_report(evidence))
        if self.card is not None:
            progress(f"writing {self.card}")
            write_text(self.card, render_card(evidence, CardFields.of(self.card_fields)))

    def _bench(self, module: Module, export: Export | None, progress: Progress) -> Any:
        """Latencies before and after: measured now, read from a file, or none, as of a model that is not written."""
        if not self.bench or export is None:
            return None
        if self.bench[-1] != MEASURE:
            return self.bench[-1]
        import prunec

        models = (module.source.name, str(export.files[0]))
        return prunec.bench(models, batches=BATCHES, seconds=SECONDS, memory=False, progress=progress)


def _last_gate(pipeline: Pipeline) -> Gate | None:
    """The gate that judges last, or None."""
    from prunec.passes.gate import Gate

    gates = [inner for inner in pipeline.expand() if isinstance(inner, Gate)]
    return gates[-1] if gates else None


def _first(pipeline: Pipeline, option: str) -> Any:
    """The value of the first pass that has an option of that name and a value for it, or None."""
    found: Iterator[Any] = (getattr(inner, option, None) for inner in pipeline.expand())
    return next((value for value in found if value), None)


def paper_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of :class:`Papers`, which it receives as ``papers``."""

    @functools.wraps(command)
    def given(**values: Any) -> Any:
        own = {name: values.pop(name) for name in Papers.__dataclass_fields__ if name in values}
        return command(papers=Papers(**own), **values)

    for option in reversed(_OPTIONS):
        given = option(given)
    return given


_OPTIONS = (
    click.option("--report", metavar="HTML", help="Also write a page on all that was done and measured."),
    click.option("--card", metavar="MD", help="Also write a model card."),
    click.option("--card-fields", metavar="TOML", help="With --card: what only people know about the model."),
    click.option(
        "--bench",
        cls=OptionalValue,
        bare=MEASURE,
        metavar="JSON",
        help="With --report: show latencies, measured now or read from `prunec bench --json`.",
    ),
)
