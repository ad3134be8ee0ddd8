"""Pruning in steps, with training between them: ``for step in schedule(...): train(step.module)``.

After step ``t`` of ``n`` the share ``s_t = s_f c(t / n)`` is gone. ``cubic``, ``c(x) = 1 - (1 - x)^3``, takes much
at first, while there is much to spare, and little at the end (Zhu and Gupta 2017, eq. 1, from ``s_i = 0``);
``linear`` takes the same each time; ``geometric`` the same share of what is left each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from prunec.ir.callables import check_takes, type_of
from prunec.ir.diagnostics import UserError
from prunec.passes.base import Pass
from prunec.passes.pipeline import Pipeline
from prunec.passes.plan import Plan

if TYPE_CHECKING:
    from prunec.ir.fx.entry import Masks, NnModule, Optimizer
    from prunec.passes.manager import Result
    from prunec.passes.plan.positions import Positions

Curve = Literal["cubic", "linear", "geometric"]

_USUAL = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStep:
    """The module after one step of a schedule.

    Attributes:
        number: of the step, from 1.
        module: the user's module, cut in place.
        ratio: share that is gone now, of what there was before the first step.
        result: of this step's run.
        plan: of all steps so far, in positions of the module before the first.
        masks: what is kept zero, or None where the pipeline makes no zeros; kept also behind the last step.
    """

    number: int
    module: NnModule
    ratio: float
    result: Result
    plan: Plan
    masks: Masks | None


def schedule(
    module: NnModule,
    example_inputs: tuple[Any, ...],
    pipeline: str | Pass | Pipeline,
    *,
    ratio: float | None = None,
    steps: int = 5,
    curve: Curve = "cubic",
    optimizer: Optimizer | None = None,
    gradients: Callable[[NnModule], Mapping[str, Any]] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    verify: bool = True,
) -> Iterator[ScheduleStep]:
    """Prune a module little by little; train it between the steps, in any loop.

    Each step captures the module, runs the pipeline with a larger share, and cuts the module in place, so that
    parameters stay the objects that they are. Channels are counted from what there was at first: the last step
    ends where a single run would. Zeros that ``sparsify`` made are kept while the module trains.

    Args:
        module: the module, on any device; in training mode, if training it is what follows.
        example_inputs: as for :func:`prunec.trace`, also ``kwargs`` and ``dynamic_shapes``.
        pipeline: what to run; the passes that take a ``ratio`` get a growing one.
        ratio: share that is gone in the end; None takes what each pass says itself.
        steps: how many.
        curve: how the share grows.
        optimizer: its state is cut along with the module.
        gradients: called before every step, for ``criterion=taylor``:
            ``lambda net: prunec.torch.gradients(net, loss, batches)``.
        verify: check every step by execution.

    Raises:
        UserError: no pass takes a ratio, an argument is out of range or of the wrong kind, or the module, or the
            optimizer's state, cannot be captured or cut; the module is then as the step before left it.

    Example:
        >>> import prunec, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
        >>> for step in prunec.torch.schedule(net, (torch.randn(2, 4),), "prune-channels", ratio=0.5, steps=3):
        ...     print(step.number, f"{step.ratio:.0%}", net[0])   # and train it here
        1 35% Linear(in_features=4, out_features=40, bias=True)
        2 48% Linear(in_features=4, out_features=32, bias=True)
        3 50% Linear(in_features=4, out_features=32, bias=True)
    """
    from prunec.ir.fx.entry import require_trainable

    ratios = _ratios(Pipeline.of(pipeline), ratio, steps, curve)
    _check_gradients(Pipeline.of(pipeline), gradients)
    require_trainable(module, optimizer)
    return _Schedule(
        module=module,
        capture=(example_inputs, kwargs, dynamic_shapes),
        optimizer=optimizer,
        gradients=gradients,
        verify=verify,
    ).run(ratios)


def _ratios(
    pipeline: Pipeline, ratio: float | None, steps: int, curve: Curve
) -> list[tuple[float, Pipeline]]:
    """Per step the share that is gone behind it, and the pipeline that makes it so."""
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"a schedule has at least 1 step, got {steps!r}", help=["steps is a whole number"])
    if ratio is not None and not (isinstance(ratio, Real) and 0 < ratio < 1):
        raise UserError(
            f"the ratio of a schedule lies between 0 and 1 (both excluded), got {ratio!r}",
            help=["half of all channels is ratio=0.5"],
        )
    if curve not in _CURVES:
        raise UserError(f"unknown curve '{curve}'", help=[f"curves: {', '.join(_CURVES)}"])
    if not any(map(_varies, pipeline)):
        raise UserError(
            f"no pass of `{pipeline}` takes a ratio that could grow",
            help=[
                "prune-channels does, and sparsify with pattern=unstructured or pattern=block:RxC",
                "an N:M pattern is made at once: run sparsify, then prunec.torch.keep_masks, and train",
            ],
        )
    for pass_ in filter(_varies, pipeline):
        _check_agreement(pass_, ratio)
    finals = {i: _final(p, ratio) for i, p in enumerate(pipeline) if _varies(p)}
    made = []
    for number in range(1, steps + 1):
        shares = {i: _CURVES[curve](final, number / steps) for i, final in finals.items()}
        passes = [_with_ratio(p, shares[i]) if i in shares else p for i, p in enumerate(pipeline)]
        made.append((next(iter(shares.values())), Pipeline.of(passes)))
    return made


def _with_ratio(pass_: Any, ratio: float) -> Pass:
    changed: Pass = replace(pass_, ratio=ratio)
    return changed


_CURVES: Mapping[str, Callable[[float, float], float]] = {
    "cubic": lambda final, x: final * (1 - (1 - x) ** 3),
    "linear": lambda final, x: final * x,
    "geometric": lambda final, x: 1 - (1 - final) ** x,
}
"""Share that is gone after the part ``x`` of the steps."""


def _varies(pass_: Pass) -> bool:
    """Whether a pass takes a share (an N:M pattern and a target of cost leave none)."""
    pattern = getattr(pass_, "pattern", None)
    free = pattern is None or pattern.takes_ratio
    return free and hasattr(pass_, "ratio") and getattr(pass_, "target", None) is None


def _final(pass_: Pass, ratio: float | None) -> float:
    own: float | None = getattr(pass_, "ratio", None)
    return ratio if ratio is not None else _USUAL if own is None else float(own)


def _check_agreement(pass_: Any, ratio: float | None) -> None:
    """Refuse two answers to how much goes: that of a pass's text, and that of the schedule."""
    usual = next(field.default for field in fields(pass_) if field.name == "ratio")
    if ratio is not None and pass_.ratio not in (usual, ratio):
        raise UserError(
            f"`{pass_}` and ratio={ratio} are two answers to how much goes",
            help=["leave one of them out: without `ratio=` each pass goes up to its own"],
        )


def _check_gradients(pipeline: Pipeline, gradients: object) -> None:
    """See before the first step that there is a function where a pass asks for gradients."""
    how = "gradients=lambda net: prunec.torch.gradients(net, loss, batches)"
    if gradients is not None and not callable(gradients):
        raise UserError(
            f"a schedule takes a function that collects gradients before every step, got {type_of(gradients)}",
            help=[how],
        )
    if gradients is not None:
        check_takes("`gradients`", gradients, ["net"])
    for pass_ in (inner for item in pipeline for inner in item.expand()):
        if pass_.needs_gradients and gradients is None:
            raise UserError(f"`{pass_}` needs gradients, and none are given", help=[how])


@dataclass(slots=True, kw_only=True)
class _Schedule:
    """What lasts from step to step."""

    module: NnModule
    capture: tuple[Any, Any, Any]
    optimizer: Optimizer | None
    gradients: Callable[[NnModule], Mapping[str, Any]] | None
    verify: bool
    masks: Masks | None = None

    def run(self, ratios: list[tuple[float, Pipeline]]) -> Iterator[ScheduleStep]:
        from prunec.passes.plan.positions import Positions

        plan, positions = None, Positions()
        for number, (ratio, pipeline) in enumerate(ratios, start=1):
            result = self._cut(pipeline, plan)
            plan = _continued(plan, result.plan, positions)
            yield ScheduleStep(
                number=number,
                module=self.module,
                ratio=ratio,
                result=result,
                plan=plan,
                masks=self.masks,
            )

    def _cut(self, pipeline: Pipeline, plan: Plan | None) -> Result:
        """One step: judge, cut the module, and keep its zeros."""
        from prunec.ir.fx.entry import on_cpu, require_trainable, trace
        from prunec.passes.manager import run
        from prunec.passes.training.masks import keep_masks

        require_trainable(self.module, self.optimizer)
        found = None if self.gradients is None else self.gradients(self.module)
        with on_cpu(self.module, self.capture[:2]) as (inputs, kwargs):
            dynamic = self.capture[2]
            captured = trace(self.module, inputs, kwargs, dynamic_shapes=dynamic)
            result = run(captured, pipeline, gradients=found, earlier=plan, verify=self.verify)
            if self.optimizer is not None:
                result.plan.require_no_orders()
            self._apply(result)
        if self.optimizer is not None:
            result.apply_to_optimizer(self.optimizer, self.module)
        self.masks = keep_masks(self.module, result.plan) if any(s.masks for s in result.plan.steps) else None
        return result

    def _apply(self, result: Result) -> None:
        """Cut the module; where that fails it is as it was, its zeros too."""
        if self.masks is not None:
            self.masks.remove()
        try:
            result.apply_to(self.module)
        except BaseException:
            if self.masks is not None:
                self.masks.hold()
            raise


def _continued(plan: Plan | None, new: Plan, positions: Positions) -> Plan:
    """The plan of all steps so far; positions are those before the first."""
    steps = tuple(positions.to_original(step) for step in new.steps)
    for step in steps:
        positions.record(step)
    if plan is None:
        return replace(new, steps=steps)
    return replace(plan, pipeline=f"{plan.pipeline}, {new.pipeline}", steps=(*plan.steps, *steps))
