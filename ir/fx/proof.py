"""Whether a module that was cut in place computes what the program computes.

Both run on the same inputs and draw alike, in evaluation mode and in training mode. What the module is left
with is what it was: its modes, and the contents of its tensors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from prunec.ir.equality import TOLERANCE, coarsest_type, relative_error
from prunec.ir.fx.contents import state_kept
from prunec.ir.fx.draws import drawn_alike, draws
from prunec.ir.fx.feeds import example_feeds
from prunec.ir.fx.lower import lower_switchable
from prunec.ir.fx.signature import signature_of
from prunec.ir.fx.tensors import from_array, to_array
from prunec.ir.module import Module

Failure = Exception | str
"""What is wrong: an error that the module's code raised, or a text."""

IN_TRAINING = "in training mode"
"""Said of a failure that evaluation mode does not have; an error carries it as a note."""

Results = list[Any]
"""The leaves of what a module returns, tensors as arrays."""


class Proof:
    """What a program computes, worked out once, to compare modules with.

    Args:
        result: the program.
        dense: the module before the cut. Whether it runs in training mode says whether it must afterwards.
    """

    def __init__(self, result: Module, dense: nn.Module) -> None:
        self._result = result
        self._program = lower_switchable(result.model)
        self._signature = signature_of(result.model)
        self._tolerance = TOLERANCE[coarsest_type(result)]
        self._leaves = self._inputs(own=False)
        self._trains = _succeeds(self, dense)
        captured = self._signature.training
        # Code that draws in training alone was captured so, and its program draws in evaluation, too.
        evaluates = not (captured and dense.training and self._trains and draws(result.model))
        self._compared = [training for training, said in ((False, evaluates), (True, captured)) if said]

    def failure(self, module: nn.Module) -> Failure | None:
        """How a module differs from the program in one of its modes, None where it does not.

        In a mode that the program says nothing of the module has to run.
        """
        try:
            failure = self._failure_in(module, training=False)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything on sizes that it does not know
            return error
        if failure is not None or not self._trains:
            return failure
        try:
            failure = self._failure_in(module, training=True)
        except Exception as error:  # noqa: BLE001 - as above
            error.add_note(IN_TRAINING)
            return error
        return None if failure is None or self._draws(module) else f"{IN_TRAINING} {failure}"

    def _failure_in(self, module: nn.Module, *, training: bool) -> str | None:
        expected = self._expected.get(training)
        actual = self._run(module, training=training)
        return None if expected is None else self._difference(actual, expected)

    @cached_property
    def _expected(self) -> dict[bool, Results]:
        """By mode (training or not). Where random inputs are none that the model is made for, the example inputs
        are taken instead, here and from here on.
        """
        drawn = self._results()
        if all(_is_finite(leaf) for results in drawn.values() for leaf in results):
            return drawn
        self._leaves = self._inputs(own=True)
        return self._results()

    def _results(self) -> dict[bool, Results]:
        modes = [training for training in self._compared if self._trains or not training]
        return {training: self._run(self._program, training=training) for training in modes}

    def _inputs(self, *, own: bool) -> list[Any]:
        feeds = example_feeds(self._result, seed=1, own=own)
        return [a.example if a.name is None else feeds[a.name] for a in self._signature.arguments]

    def _draws(self, module: nn.Module) -> bool:
        """Whether a module in training draws from Python's generator, of which a capture holds one outcome."""
        first, *others = (self._run(module, training=True, python_seed=seed) for seed in range(8))
        return any(self._difference(other, first) is not None for other in others)

    def _run(self, module: nn.Module, *, training: bool, python_seed: int = 0) -> Results:
        leaves = [from_array(x).clone() if _is_array(x) else x for x in self._leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self._signature.in_spec)
        with torch.no_grad(), state_kept(module), drawn_alike(), _seeded(python_seed):
            made = module.train(training)(*args, **kwargs)
            return [to_array(x) if isinstance(x, torch.Tensor) else x for x in pytree.tree_leaves(made)]

    def _difference(self, actual: Results, expected: Results) -> str | None:
        if len(actual) != len(expected):
            return f"it returns {len(actual)} results, must be {len(expected)}"
        for position, (a, b) in enumerate(zip(actual, expected, strict=True)):
            if not (_is_array(a) and _is_array(b)):
                if _is_array(a) or _is_array(b) or a != b:
                    return f"result {position} is {_said(a)}, must be {_said(b)}"
                continue
            allowed = 0.0 if b.dtype.kind in "iub" else self._tolerance
            if not (off := relative_error(a, b, floor=0.0)) <= allowed:
                return f"result {position} differs by {off:.1e} (relative), allowed is {allowed:.0e}"
        return None


def _succeeds(proof: Proof, module: nn.Module) -> bool:
    """Whether a module runs in training mode: one that returns losses then needs targets, a norm needs batches."""
    try:
        proof._run(module, training=True)
    except Exception:  # noqa: BLE001 - whatever the user's code raises
        return False
    return True


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let Python's generator begin at a seed, and put its state back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape") and not isinstance(leaf, torch.Tensor)


def _is_finite(leaf: Any) -> bool:
    return not _is_array(leaf) or bool(torch.isfinite(from_array(leaf)).all())


def _said(leaf: Any) -> str:
    return f"a tensor of shape {list(leaf.shape)}" if _is_array(leaf) else repr(leaf)
