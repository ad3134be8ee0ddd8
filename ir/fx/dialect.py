"""The dialect of captured ``torch`` programs: torch itself infers, runs and trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir
import torch

from prunec.ir.diagnostics import PassFailure, Place, UserError
from prunec.ir.dialect import Array, Blame, Dialect, Executor, LossGradients
from prunec.ir.facts import Facts
from prunec.ir.fx.calls import changes_something
from prunec.ir.fx.contents import changing_tensors, contents_kept
from prunec.ir.fx.draws import drawn_alike, draws
from prunec.ir.fx.evidence import renew_evidence
from prunec.ir.fx.facts import FAILURES, infer_fx_facts
from prunec.ir.fx.feeds import example_feeds
from prunec.ir.fx.gradients import LossGradient
from prunec.ir.fx.lower import lower
from prunec.ir.fx.modes import set_mode
from prunec.ir.fx.signature import STATE, State, signature_of
from prunec.ir.fx.tensors import from_array, to_array
from prunec.ir.module import Module


class AtenDialect(Dialect):
    """See :class:`prunec.ir.dialect.Dialect`."""

    suffix = ".pt2"
    literal_sizes = True
    trains = True

    def facts(self, model: onnx_ir.Model) -> Facts:
        """By running the program on tensors without contents."""
        return infer_fx_facts(model)

    def executor(
        self,
        module: Module,
        *,
        outputs: Iterable[str] | None = None,
        blame: Blame = "pass",
        optimize: bool = False,
    ) -> Executor:
        """The program as a graph module in evaluation mode, which runs as it is written in any case."""
        del optimize
        return FxExecutor(module, outputs=outputs, blame=blame)

    def feeds(
        self, module: Module, *, seed: int = 0, sizes: Mapping[str, int] | None = None
    ) -> dict[str, Array]:
        """Made after the example inputs of the capture."""
        return example_feeds(module, seed=seed, sizes=sizes)

    def own_feeds(self, module: Module, *, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
        """The example inputs of the capture."""
        return example_feeds(module, sizes=sizes, own=True)

    def draws(self, module: Module) -> bool:
        """Whether some operator draws random numbers, dropout and what else follows the mode left out."""
        return draws(module.model)

    def runs_on_examples(self, module: Module) -> bool:
        """Whether it runs on the example inputs of the capture: capturing looks at no numbers, and not at all types."""
        examples = {a.name: a.example for a in signature_of(module.model).arguments if a.name is not None}
        try:
            FxExecutor(module, outputs=None, blame="user").run({n: to_array(t) for n, t in examples.items()})
        except UserError:
            return False
        return True

    def graph_error(self, module: Module) -> str | None:
        """What fx has against the graph."""
        try:
            lower(module.model, copy=False)
        except FAILURES as error:
            return f"torch.fx rejects the graph: {_first_line(error)}"
        return None

    def train_error(self, module: Module, feeds: Mapping[str, Array]) -> str | None:
        """One forward and one backward pass, in evaluation mode: gradients are the same and repeatable."""
        names = [v.name or "" for v in module.graph.outputs]
        trained = lower(module.model, outputs=names)
        set_mode(trained.graph, False, captured=signature_of(module.model).training, every=True)
        trained.recompile()
        try:
            given = {v.name or "": from_array(feeds[v.name or ""]).clone() for v in module.graph.inputs}
            with drawn_alike():
                made = trained(**given)
            floats = [t for t in made.values() if isinstance(t, torch.Tensor) and t.requires_grad]
            if not floats:
                return None
            sum((t * t).sum() if t.dtype.is_floating_point else t.abs().sum() for t in floats).backward()  # type: ignore[union-attr,no-untyped-call,unused-ignore]
        except FAILURES as error:
            return f"the model cannot be trained: {_first_line(error)}"
        return _gradient_error(trained)

    def loss_gradients(self, module: Module) -> LossGradients:
        """By a backward pass of the program in evaluation mode."""
        return LossGradient(module)

    def begin(self, model: onnx_ir.Model) -> None:
        """The contents of tensors that were trained since the capture."""
        renew_evidence(model)

    def adopt(self, value: onnx_ir.Value, like: onnx_ir.Value) -> None:
        """A parameter beside a parameter, with or without a gradient as that one."""
        state: State | None = like.meta.get(STATE)
        if state is not None and value.shape is not None:
            value.meta[STATE] = replace(state, shape=tuple(value.shape.numpy()))

    def remove_unused_nodes(self, model: onnx_ir.Model) -> None:
        """Those whose outputs nothing reads and that write into none of their inputs."""
        outputs = set(model.graph.outputs)
        for node in reversed(list(model.graph)):
            used = any(v in outputs or v.uses() for v in node.outputs)
            if not used and not changes_something(node):
                model.graph.remove(node, safe=True)


def _gradient_error(module: torch.nn.Module) -> str | None:
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if gradient is None:
            continue
        if gradient.shape != parameter.shape:
            return (
                f"the gradient of `{name}` is {list(gradient.shape)}, its parameter {list(parameter.shape)}"
            )
        if not torch.isfinite(gradient).all():
            return f"the gradient of `{name}` is not finite"
    return None


class FxExecutor(Executor):
    """A captured program that is ready to run, in evaluation mode, and drawing alike what it draws at random.

    Args:
        module: the module; its tensors are shared, and hold after every run what they held before it.
        outputs: names of the values to compute; None means the graph's outputs.
        blame: whose mistake it is where the program fails.
    """

    def __init__(self, module: Module, *, outputs: Iterable[str] | None, blame: Blame) -> None:
        self._file = module.source.name
        self._error = UserError if blame == "user" else PassFailure
        self._inputs = [v.name or "" for v in module.graph.inputs]
        self._draws = draws(module.model)
        names = (
            [v.name or "" for v in module.graph.outputs] if outputs is None else list(dict.fromkeys(outputs))
        )
        try:
            self._program = lower(module.model, outputs=names, copy=False)
            set_mode(self._program.graph, False, captured=signature_of(module.model).training, every=True)
            self._program.recompile()
            self._changing = changing_tensors(module.model, self._program)
        except FAILURES as error:
            raise self._failure("torch refuses the program", error) from error

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs, by name.

        Raises:
            UserError or PassFailure: an operator fails (see ``blame``).
        """
        given = {name: from_array(np.array(feeds[name])) for name in self._inputs}
        try:
            drawn = drawn_alike() if self._draws else nullcontext()
            with torch.no_grad(), contents_kept(self._changing), drawn:
                made: dict[str, Any] = self._program(**given)
        except FAILURES as error:
            raise self._failure("the program fails when it runs", error) from error
        return {name: to_array(v) if isinstance(v, torch.Tensor) else np.array(v) for name, v in made.items()}

    def _failure(self, what: str, error: Exception) -> UserError | PassFailure:
        return self._error(f"{what}: {_first_line(error)}", place=Place(file=self._file))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
