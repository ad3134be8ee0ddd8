"""``prunec bisect MODEL -p PASSES --test CMD``: the first transform, and the first part of it, that breaks a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

import prunec
from prunec.ir.diagnostics import PassFailure, Place, UserError
from prunec.ir.formats import is_program
from prunec.ir.fx.entry import onnx_only
from prunec.ir.module import Module
from prunec.passes.base import Pass
from prunec.passes.manager import Result
from prunec.passes.pipeline import Pipeline, read_pipeline
from prunec.passes.plan import Plan
from prunec.tools.data_files import DATA_HELP, calibration_data
from prunec.tools.instruments.bisect_limit import BisectLimit
from prunec.tools.progress import Progress, show_progress
from prunec.tools.reduction.options import command_options
from prunec.tools.reduction.oracle import CommandOracle, Oracle, pattern_of

if TYPE_CHECKING:
    from prunec.passes.calibration.data import CalibrationData


@click.command("bisect", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("-p", "--passes", metavar="PASSES", required=True, help="Pipeline: a file, or passes as text.")
@click.option("--data", metavar="DATA", help=DATA_HELP)
@command_options("Shell command that exits with other than 0 on a bad model; {} is its name.", required=True)
def bisect_model(
    model: str,
    passes: str,
    command: str,
    match: str | None,
    data: str | None,
    timeout: float,
    seed: int,
    verbose: bool,
) -> None:
    """Find the first transform of a pipeline that makes a model bad, by halving.

    Where that transform cuts channel groups or makes zeros, the first group or weight is found as well. What is bad
    is for a command to say, such as a script that compares accuracies.
    """
    if is_program(Path(model)):
        raise onnx_only("`prunec bisect`", model)
    pipeline = read_pipeline(passes)
    oracle = CommandOracle(command=command, match=pattern_of(match), timeout=timeout, jobs=1)
    with show_progress(verbose=verbose) as progress:
        progress(f"loading {model}")
        search = Bisection(
            module=prunec.load(model),
            pipeline=pipeline,
            oracle=oracle,
            seed=seed,
            data=calibration_data(pipeline, data),
            progress=progress,
        )
        culprit = search.run()
    click.echo(str(culprit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """What breaks a model.

    Attributes:
        number: of the transform, from 1.
        count: of all transforms.
        pass_: the transform.
        part: the first part of it that breaks the model, in words; empty where it has no parts.
        place: of that part, from 1, and how many there are.
    """

    number: int
    count: int
    pass_: Pass
    part: str = ""
    place: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        lines = [f"transform {self.number} of {self.count} is the first that breaks it: {self.pass_}"]
        if self.part:
            lines.append(f"part {self.place[0]} of {self.place[1]} of it is the first: {self.part}")
        return "\n".join(lines)


@dataclass(slots=True, kw_only=True)
class Bisection:
    """One search.

    Attributes:
        module: the model.
        pipeline: what is done to it.
        oracle: tells whether a model is bad.
        seed: of the runs.
        data: calibration data.
        progress: takes lines about what is going on.
        tried: how many models were tried.
    """

    module: Module
    pipeline: Pipeline
    oracle: Oracle
    progress: Progress
    seed: int = 0
    data: CalibrationData | None = None
    tried: int = field(default=0, init=False)

    def run(self) -> Culprit:
        """Find what breaks the model.

        Raises:
            UserError: the model is bad before the first transform, or good behind the last.
        """
        place = Place(file=self.module.source.name)
        transforms = [p for p in self.pipeline.expand() if p.contract != "none"]
        if self._is_bad(0):
            help = ["a test must exit with 0 on the input, and with something else on a bad model"]
            raise UserError("the test fails on the input itself", place=place, help=help)
        if not self._is_bad(len(transforms)):
            help = ["run the test by hand on what the pipeline makes; it must exit with other than 0 there"]
            raise UserError("the test does not fail on what the pipeline makes", place=place, help=help)
        number = _first(len(transforms), self._is_bad)
        culprit = Culprit(number=number, count=len(transforms), pass_=transforms[number - 1])
        return self._within(culprit)

    def _within(self, culprit: Culprit) -> Culprit:
        """Find the part of a transform's step that breaks the model."""
        plan = self._compiled(culprit.number).plan
        if not plan.steps or plan.steps[-1].pass_name != culprit.pass_.name:
            return culprit
        *before, step = plan.steps

        def is_bad(count: int) -> bool:
            return self._is_bad(culprit.number, replace(plan, steps=(*before, step.first(count))))

        count = len(step.parts)
        if not is_bad(count):
            return culprit  # a replay does not repeat new values, only what was removed
        part = _first(count, is_bad)
        return replace(culprit, part=step.parts[part - 1], place=(part, count))

    def _is_bad(self, limit: int, replay: Plan | None = None) -> bool:
        """Whether the model is bad behind the first transforms; a pass that fails makes it so."""
        self.tried += 1
        self.progress(f"try {self.tried}: {limit} transforms{' in part' if replay else ''}")
        try:
            module = self._compiled(limit, replay).module
        except PassFailure:
            return True
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            prunec.save(module, path)
            return self.oracle.fails([path])[0]

    def _compiled(self, limit: int, replay: Plan | None = None) -> Result:
        quiet = BisectLimit(limit=limit, echo=_quiet)
        return prunec.run(
            self.module,
            self.pipeline,
            verify=False,
            seed=self.seed,
            replay=replay,
            data=self.data,
            instruments=[quiet],
        )


def _quiet(_line: str) -> None:
    """What a limit lets through is no news here."""


def _first(count: int, is_bad: Callable[[int], bool]) -> int:
    """The least number for which something is bad, which it is not for 0 and is for ``count``."""
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if is_bad(middle) else (middle, bad)
    return bad
