"""Random draws that two programs share, so that what they compute can be compared.

A program that draws random numbers is no function of its inputs, and a draw whose shape was cut gives other numbers
even from the same seed. Draws of independent numbers are therefore replaced by one number for all of their elements,
and decisions by their probability (a dropout that is always on lets everything through); what is left (permutations,
samples of a distribution) has a shape that no cut changes, and gets a seed of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prunec.ir.fx.calls import is_random, target_of
from prunec.ir.fx.modes import is_switched

_FILLS = frozenset(
    {"cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_"}
    | {"rand_like", "randint_like", "randn_like"}
)
"""Operators that draw every element of a tensor for itself, whatever that tensor holds."""


def draws(model: onnx_ir.Model) -> bool:
    """Whether a program draws random numbers even in evaluation mode."""
    return any(is_random(node) and not is_switched(target_of(node)) for node in model.graph)


@contextmanager
def drawn_alike() -> Iterator[None]:
    """What runs inside draws the same as whatever else runs in such a context, with more slots or fewer.

    The state of torch's generator is put back.
    """
    with torch.random.fork_rng(devices=[]), _Alike():
        yield


class _Alike(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
    """Stands in for the random operators of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator; a random one as it is said above."""
        del types
        named = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **named)
        self.count += 1
        torch.manual_seed(self.count)
        name = func._schema.name.partition("::")[2]
        if name in ("bernoulli", "bernoulli_"):
            return _probability(name, args, named)
        if name == "native_dropout":
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        if name not in _FILLS:
            return func(*args, **named)
        one = func(args[0].new_empty(1), *args[1:], **named)
        made = args[0] if name.endswith("_") else func(*args, **named)
        return made.copy_(one)


def _probability(name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> torch.Tensor:
    """What ``bernoulli`` gives on average; without a probability among its arguments the tensor holds those."""
    held = args[0] if name == "bernoulli_" else args[0].clone()
    chance = named.get("p", args[1] if len(args) > 1 else 0.5 if name == "bernoulli_" else held)
    if isinstance(chance, torch.Tensor):
        return torch.Tensor.copy_(held, chance)
    return torch.Tensor.fill_(held, chance)
