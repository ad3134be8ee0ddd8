"""Stop a pipeline whose model is not good enough on the user's samples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Context, Contract, Outcome, Pass, option

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.judging.evaluate import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Pass):
    """Judge the module as it stands by a file of slices, and stop if a threshold does not hold.

    The module runs on the samples of `--data`, and so does the model that the pipeline began with, against which
    drops are measured. Thresholds are judged by 95 % intervals over the samples: one fails if even the favourable
    end is beyond it; what the samples do not decide is told, and fails only where the file says
    `undecided = "fail"`. A pipeline that is stopped writes nothing (exit 3). docs/judging.md has the file.
    """

    name: ClassVar[str] = "gate"
    contract: ClassVar[Contract] = "none"

    slices: str = option(
        dataclasses.MISSING, help="file of slices and their thresholds (TOML)", metavar="FILE"
    )
    metric: str = option(
        "",
        help="what is measured where the file names nothing; by default `top1` or `rmse` as labels and "
        "outputs are, or without labels `agreement`",
    )

    @property
    def needs_data(self) -> bool:
        """Always: models are judged on samples."""
        return True

    @property
    def fits_data(self) -> bool:
        """Never: every sample judges."""
        return False

    def check(self, module: Module, data: CalibrationData | None) -> None:
        """See that the file can be read, its slices have samples and labels, and thresholds fit their metric."""
        from prunec.ir.diagnostics import Place, UserError
        from prunec.passes.judging.default import metric_of
        from prunec.passes.judging.evaluate import checked_slices
        from prunec.passes.judging.metrics import parse_metric
        from prunec.passes.judging.slice_file import read_slices

        file = read_slices(self.slices)
        if self.metric:
            parse_metric(self.metric)
        if not file.has_thresholds:
            help = ["give slices a min, a max-drop or a min-size"]
            raise UserError("no threshold is in this file", place=Place(file=self.slices), help=help)
        if data is not None:
            metric = metric_of(self.metric or file.metric, data, module).metric
            checked_slices(file, data, metric, module)

    def run(self, module: Module, context: Context) -> Outcome:
        """Measure, and raise a GateError where a threshold does not hold."""
        from prunec.passes.judging.evaluate import evaluate
        from prunec.passes.judging.slice_file import read_slices

        file = read_slices(self.slices)
        found = evaluate(
            module,
            context.data or {},
            self.metric or None,
            reference=context.original,
            slices=file,
            seed=context.seed,
            blame="pass",
        )
        self._tell(found, context)
        found.require(undecided=file.undecided == "fail", file=self.slices)
        statuses = [check.status for row in found.rows for check in row.checks]
        undecided = f", {count} undecided" if (count := statuses.count("undecided")) else ""
        held = statuses.count("holds")
        context.remarks.passed(
            self.name, f"{held} of {len(statuses)} thresholds of {self.slices} hold{undecided}"
        )
        return Outcome(changed=False, statistics={"slices": len(found.rows)})

    def _tell(self, found: Evaluation, context: Context) -> None:
        for row in found.rows:
            dense = "" if row.dense is None else f", the dense model {row.dense:.4g}"
            context.remarks.analysis(
                self.name, f"`{row.name}` ({row.size:,} samples): {row.metric} {row.value:.4g}{dense}"
            )
            for check in row.checks:
                if check.status == "undecided":
                    context.remarks.missed(
                        self.name,
                        f"`{row.name}` ({row.size:,} samples): {row.metric} {check.why}",
                        reason="too few samples to decide",
                        help="give more samples of this slice",
                        urgent=True,
                    )
        if found.why:
            context.remarks.analysis(self.name, f"{found.metric} is measured: {found.why}")
