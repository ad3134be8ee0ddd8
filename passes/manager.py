"""Runs a pipeline over a module: analyses cached, every transform verified, every decision on record."""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import GateError, RemarkLog, RemarkWarning, UserError
from prunec.passes.base import Context, Outcome, Pass
from prunec.passes.instruments import Instrument, Stage
from prunec.passes.plan import Plan, Step, require_plan
from prunec.passes.plan.positions import Positions
from prunec.passes.registry import BUILT_IN, Registry
from prunec.passes.result import Result as Result
from prunec.passes.result import Timing as Timing
from prunec.passes.uncut import UncutRecord

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.analyses import Analyses
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.calibration.required import Data
    from prunec.passes.cost import Cost
    from prunec.passes.pipeline import Pipeline
    from prunec.passes.pruning.gradients import Gradients
    from prunec.passes.verifier import Verdict

Progress = Callable[[str], None]
"""Called with a line such as ``prune-channels (2 of 3)`` whenever something new begins."""


def run(
    module: Module,
    pipeline: str | Pass | Pipeline,
    *,
    verify: bool = True,
    seed: int = 0,
    replay: Plan | None = None,
    data: Data | None = None,
    gradients: Mapping[str, Any] | None = None,
    earlier: Plan | None = None,
    progress: Progress | None = None,
    instruments: Sequence[Instrument] = (),
    in_place: bool = False,
) -> Result:
    """Run a pipeline over a copy of a module (weights are shared, not copied).

    Args:
        module: the input; it stays as it is.
        pipeline: pipeline text such as ``"fold-norm, prune-channels{ratio=0.4}"``, one pass, or a parsed
            pipeline.
        verify: check every transform by execution; see :mod:`prunec.passes.verifier`.
        seed: for random criteria and for probe inputs.
        replay: take every removal from this plan instead of choosing.
        data: calibration data for passes that need some: arrays named as the graph inputs, first axis =
            samples; there may be others (a ``label``).
        gradients: for passes that judge by gradients (``criterion=taylor``): per weight an array of its shape, as
            :func:`prunec.torch.gradients` collects them.
        earlier: what was cut from the module before this run; the shares that passes take then count from the
            sizes before all of it (a schedule that comes to 50 % in five runs).
        progress: told what begins.
        instruments: what watches the run (see :mod:`prunec.passes.instruments`).
        in_place: work on the module itself; after an error it is as the pass that failed left it.

    Raises:
        UserError: the pipeline text is wrong, the plan, the data or the gradients do not fit the module, or a
            pass needs some and there are none.
        PassFailure: a pass failed, or (VerificationError) the verifier proved it wrong.
        GateError: a gate stopped the pipeline; its ``result`` is what was made so far.

    Example:
        >>> import prunec
        >>> result = prunec.run(prunec.load("examples/digits.onnx"), "prune-channels{ratio=0.3}")
        >>> result.cost_after.parameters < result.cost_before.parameters
        True
    """
    from prunec.ir.dialect import ATEN
    from prunec.ir.module import require_module
    from prunec.passes.calibration.required import checked_data
    from prunec.passes.pipeline import Pipeline
    from prunec.passes.pruning.needed import checked_gradients

    parsed = Pipeline.of(pipeline)
    if isinstance(pipeline, str):
        parsed.check_has_passes()
    require_module(module)
    for plan in (replay, earlier):
        if plan is not None:
            require_plan(plan)
    if ATEN in module.graph.opset_imports:
        parsed.check_takes_programs(module.source.name)
    result = _Run(
        module=module if in_place else module.clone(),
        original=module.clone() if in_place else module,
        pipeline=parsed,
        verify=verify,
        seed=seed,
        replay=replay,
        data=checked_data(module, parsed, data),
        gradients=checked_gradients(module, parsed, gradients, replayed=replay is not None),
        earlier=earlier,
        progress=progress or (lambda _: None),
        instruments=instruments,
    ).run()
    for remark in result.remarks:
        if remark.urgent:
            warnings.warn(str(remark), RemarkWarning, stacklevel=2)
    return result


@dataclass(slots=True, kw_only=True)
class _Run:
    """The state of one run."""

    module: Module
    original: Module
    pipeline: Pipeline
    verify: bool
    seed: int
    replay: Plan | None
    data: CalibrationData | None
    gradients: Gradients | None
    earlier: Plan | None
    progress: Progress
    instruments: Sequence[Instrument]
    remarks: RemarkLog = field(default_factory=RemarkLog)
    verdicts: list[Verdict] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    statistics: Counter[str] = field(default_factory=Counter)
    steps: list[Step] = field(default_factory=list)
    positions: Positions = field(default_factory=Positions)
    changed: bool = False

    def run(self) -> Result:
        passes = self.pipeline.expand()
        record = UncutRecord(passes)
        analyses = self._begin(passes)
        cost_before = analyses.cost()
        replayed = deque(self.replay.steps if self.replay else ())
        for number, pass_ in enumerate(passes, start=1):
            stage = Stage(number=number, passes=passes, analyses=analyses, seed=self.seed)
            step = self._next_step(passes[number - 1 :], replayed)
            if not all(instrument.allows(stage) for instrument in self.instruments):
                continue
            self.progress(f"{pass_.name} ({number} of {len(passes)})")
            context = Context(
                analyses=analyses,
                remarks=self.remarks,
                seed=self.seed,
                replay=step,
                data=self.data,
                original=self.original,
                gradients=self.gradients and self.gradients.at(self.positions),
                earlier=() if self.earlier is None else (*self.earlier.steps, *self.steps),
                uncut=record.open(number, self.module),
            )
            try:
                record.close(number, self._watched(stage, context))
            except GateError as error:
                error.result = self._result(analyses, cost_before)
                raise
        if replayed:
            rest = replayed[0].pass_name
            raise UserError(
                f"the plan has a step of `{rest}` that no pass of the pipeline replays",
                help=[
                    "run the pipeline that made it: plan.pipeline, or on the command line --replay without -p"
                ],
            )
        return self._result(analyses, cost_before)

    def _begin(self, passes: Sequence[Pass]) -> Analyses:
        """Make the module ready for these passes, and say what is odd about what was given."""
        from prunec.ir.control import make_names_unique
        from prunec.ir.dialect import dialect_of
        from prunec.passes.analyses import Analyses

        dialect_of(self.module.model).begin(self.module.model)
        masks = any(pass_.contract == "masked" for pass_ in passes)
        if masks and self.module.model.functions and self._inlined():
            self._changed()
        make_names_unique(self.module.graph, self.module.opset(""))
        usual = next((p.coupling_options for p in passes if p.coupling_options is not None), None)
        analyses = Analyses(self.module, usual)
        self.progress("analysis")
        self.remarks.remarks.extend(self.module.repairs)
        analyses.check_operands()
        self.remarks.remarks.extend(analyses.misdeclared())
        self._note_unused_data(passes)
        self._note_other_source()
        return analyses

    def _result(self, analyses: Analyses, cost_before: Cost) -> Result:
        """What was made so far."""
        return Result(
            module=self.module,
            plan=self._plan(),
            remarks=self.remarks,
            verdicts=tuple(self.verdicts),
            cost_before=cost_before,
            timings=tuple(self.timings),
            changed=self.changed,
            statistics=dict(self.statistics),
            seed=self.seed,
            data=None if self.data is None else self.data.name,
            _analyses=analyses,
        )

    def _inlined(self) -> bool:
        from prunec.passes.inlining import inline_calls

        return inline_calls(self.module, self.remarks, verify=self.verify, seed=self.seed)

    def _changed(self) -> None:
        """The module is no longer what its file holds."""
        self.changed = True
        self.module.source = self.module.source.changed()

    def _note_unused_data(self, passes: Sequence[Pass]) -> None:
        """Say so where calibration data are given and nothing looks at them."""
        if self.data is not None and not any(pass_.needs_data for pass_ in passes):
            self.remarks.missed(
                "data",
                f"the calibration data ({self.data.name}) are not used",
                reason="no pass of the pipeline looks at data",
                help=f"these do, some with certain options: {', '.join(_readers_of_data())}",
                urgent=True,
            )

    def _note_other_source(self) -> None:
        """Say so where a plan was made from another file; it may still fit (the network after fine-tuning)."""
        if self.replay is None or self.replay.source_sha256 in (None, self.module.source.original.sha256):
            return
        self.remarks.analysis(
            "replay",
            f"the plan was made from another file ('{self.replay.source_name}'): matched by name and shape",
        )

    def _next_step(self, passes: Sequence[Pass], replayed: deque[Step]) -> Step | None:
        """The step of the plan that the first of ``passes`` repeats; an empty one where it is a later pass's,
        or the plan has no more: then the pass decided nothing.
        """
        pass_ = passes[0]
        if self.replay is None or not pass_.planned:
            return None
        if replayed and replayed[0].pass_name == pass_.name:
            return self.positions.to_current(replayed.popleft())
        if replayed and all(later.name != replayed[0].pass_name for later in passes):
            named = replayed[0].pass_name
            raise UserError(
                f"the plan's next step is of `{named}`, the pipeline's next pass is `{pass_.name}`"
            )
        return Step(pass_name=pass_.name)

    def _watched(self, stage: Stage, context: Context) -> Outcome:
        """One pass, with every instrument called around it."""
        if any(instrument.keeps_before for instrument in self.instruments):
            stage = replace(stage, before=self.module.clone())
        for instrument in self.instruments:
            instrument.before_pass(stage)
        try:
            outcome = self._run_pass(stage.pass_, context)
        except BaseException as error:
            for instrument in self.instruments:
                instrument.failed(stage, error)
            raise
        for instrument in self.instruments:
            instrument.after_pass(stage, outcome)
        return outcome

    def _run_pass(self, pass_: Pass, context: Context) -> Outcome:
        before = self.module.clone() if self.verify and pass_.contract != "none" else None
        spent, started = dict(context.analyses.seconds), perf_counter()
        outcome = pass_.run(self.module, context)
        finished = checked = perf_counter()
        if outcome.changed:
            self._changed()
            context.analyses.keep_only(outcome.preserved)
            if before is not None:
                self.progress(f"verify {pass_.name}")
                self._verify(pass_, before, outcome, context)
                checked = perf_counter()
        if outcome.step is not None and not outcome.step.is_empty:
            self.steps.append(self.positions.to_original(outcome.step))
            self.positions.record(self.steps[-1])
        self.statistics.update({f"{pass_.name}.{name}": n for name, n in outcome.statistics.items()})
        self.timings.append(
            Timing(
                pass_name=pass_.name,
                seconds=finished - started,
                verify_seconds=checked - finished,
                analyses={a: s - spent.get(a, 0.0) for a, s in context.analyses.seconds.items()},
            )
        )
        return outcome

    def _verify(self, pass_: Pass, before: Module, outcome: Outcome, context: Context) -> None:
        from prunec.passes.verifier import verify
        from prunec.passes.verifier.advice import advised

        with advised(pass_, before):
            verdict = verify(
                pass_.name,
                before,
                self.module,
                analyses=context.analyses,
                step=outcome.step,
                predicted=outcome.predicted,
                options=outcome.options,
                repaired=outcome.repaired,
                quantised=pass_.contract == "quantised",
                data=self.data,
                fitted=any(other.fits_data for other in self.pipeline.expand()),
                seed=self.seed,
            )
        self.verdicts.append(verdict)

    def _plan(self) -> Plan:
        source, steps = self.module.source.original, tuple(self.steps)
        text = self.pipeline.text(every=True)
        return Plan(source_name=source.name, source_sha256=source.sha256, pipeline=text, steps=steps)


def _readers_of_data() -> list[str]:
    """Names of the built-in passes that may look at data."""
    registry = Registry(table=BUILT_IN)
    return [name for name in registry.names() if registry.load(name).needs_data is not Pass.needs_data]
