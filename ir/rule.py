"""How the axes of an op's operands are coupled: one einsum-like line over *factors*.

A rule names, for every axis of every input and output, the factors that the axis is the product of::

    n (g c) *s, (g o) c *k, (g o) -> n (g o) *t        a convolution with groups

Axes that share a factor share an index space. ``(g c)`` is an axis that is a product, outermost factor first;
``*s`` stands for as many axes as the operand has left; ``1`` is an axis of size one that couples to nothing;
``-`` is an operand that takes no part. What cannot be said by factors (a slice, a concatenation) is an
:class:`IndexMap`. The idea is that of sharding rules in OpenXLA's Shardy and PyTorch's DTensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

Term = tuple[str, ...]
"""The factors of one axis, outermost first; empty for an axis that couples to nothing."""

Operand = tuple[Term, ...]
"""One term for every axis of an operand."""

Index = NDArray[np.int64]


class RuleError(ValueError):
    """A rule does not fit the shapes of a node; says which axis and which sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexMap:
    """Data movement along one axis: slot ``j`` of the output axis holds slot ``index[j]`` of the input axis.

    Attributes:
        input: position of the input.
        axis: axis of that input.
        output: position of the output.
        output_axis: axis of that output.
        index: for every slot of the output axis the input slot it holds, or -1 where it holds something else.
    """

    input: int
    axis: int
    output: int
    output_axis: int
    index: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """An axis that must keep its size and order, and why.

    Attributes:
        operand: ``("in", i)`` or ``("out", j)``.
        axis: the axis.
        reason: a line for people, such as ``"spatial axis of Conv"``.
    """

    operand: tuple[str, int]
    axis: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """An axis that packs pieces of different sizes one behind the other, which no product of factors says.

    Attributes:
        operand: ``("in", i)`` or ``("out", j)``; its term for the axis is empty.
        axis: the axis.
        factor: the factor that the pieces share, such as attention heads.
        index: for every slot of the axis the slot of the factor that it belongs to.
    """

    operand: tuple[str, int]
    axis: int
    factor: str
    index: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The coupling of one node.

    Attributes:
        inputs: per input the terms of its axes; None where the input is absent or no tensor of data (a shape,
            say).
        outputs: per output the terms of its axes.
        sizes: size of every factor.
        reduced: factors that the op sums, averages, normalises or ranks over.
        fixed: factors that must keep their size, with the reason.
        maps: data movement that factors cannot express.
        pins: axes that must stay as they are.
        packed: axes whose slots belong to a factor piece by piece.
    """

    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]
    sizes: Mapping[str, int]
    reduced: frozenset[str] = frozenset()
    fixed: Mapping[str, str] = field(default_factory=dict)
    maps: tuple[IndexMap, ...] = ()
    pins: tuple[Pin, ...] = ()
    packed: tuple[Packing, ...] = ()

    def operands(self) -> Iterator[tuple[str, int, Operand]]:
        """Every operand that takes part, as (``"in"`` or ``"out"``, position, terms)."""
        for side, operands in (("in", self.inputs), ("out", self.outputs)):
            for position, operand in enumerate(operands):
                if operand is not None:
                    yield side, position, operand

    def __str__(self) -> str:
        sides = (", ".join(_operand_text(o) for o in side) for side in (self.inputs, self.outputs))
        text = " -> ".join(sides)
        text += f" reduce {' '.join(sorted(self.reduced))}" if self.reduced else ""
        return text + (f" fixed {' '.join(sorted(self.fixed))}" if self.fixed else "")


def _operand_text(operand: Operand | None) -> str:
    if operand is None:
        return "-"
    return " ".join(t[0] if len(t) == 1 else f"({' '.join(t)})" if t else "1" for t in operand) or "()"


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed rule text, not yet fitted to a node."""

    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]


_TOKEN = re.compile(r"\(([^()]*)\)|(\*?\w+)")


@cache
def parse_template(text: str) -> Template:
    """Parse a rule text such as ``"n k, m k, m -> n m"``.

    Raises:
        RuleError: the text is not a rule.
    """
    left, arrow, right = text.partition("->")
    sides = [side.split(",") for side in (left, right)]
    if not arrow or any(
        _TOKEN.sub("", operand).strip() not in ("", "-") for side in sides for operand in side
    ):
        raise RuleError(f"not a rule: {text!r}")
    return Template(*(tuple(map(_parse_operand, side)) for side in sides))


def _parse_operand(text: str) -> Operand | None:
    if text.strip() == "-":
        return None
    tokens = [(m.group(1), m.group(2)) for m in _TOKEN.finditer(text)]
    return tuple(tuple(group.split()) if name is None else (name,) for group, name in tokens)


def fit(
    template: Template,
    input_shapes: Sequence[tuple[int, ...] | None],
    output_shapes: Sequence[tuple[int, ...] | None],
    *,
    known: Mapping[str, int] | None = None,
    reduced: Sequence[str] = (),
    fixed: Mapping[str, str] | None = None,
) -> Rule:
    """Fit a template to the shapes of a node: expand ``*x``, solve the factor sizes.

    Args:
        template: the parsed rule text; operands that the node lacks are left out, later ones stay.
        input_shapes: per input its shape, or None where absent.
        output_shapes: likewise for outputs.
        known: sizes that the shapes alone do not tell (such as a group count).
        reduced: factors reduced over; ``"*k"`` means all that ``*k`` expands to.
        fixed: factors that must keep their size, with the reason.

    Raises:
        RuleError: a rank or size contradicts the rule.
    """
    inputs = tuple(map(_expand, _pad(template.inputs, len(input_shapes)), input_shapes))
    outputs = tuple(map(_expand, _pad(template.outputs, len(output_shapes)), output_shapes))
    shapes = [*input_shapes, *output_shapes]
    sizes = _solve(dict(known or {}), [(o, s) for o, s in zip([*inputs, *outputs], shapes, strict=True) if o])
    return Rule(
        inputs=tuple(_drop_ones(o, s, sizes) for o, s in zip(inputs, input_shapes, strict=True)),
        outputs=tuple(_drop_ones(o, s, sizes) for o, s in zip(outputs, output_shapes, strict=True)),
        sizes=sizes,
        reduced=frozenset(name for r in reduced for name in _expansions(r, sizes)),
        fixed={name: why for f, why in (fixed or {}).items() for name in _expansions(f, sizes)},
    )


def _pad(operands: tuple[Operand | None, ...], count: int) -> list[Operand | None]:
    return [operands[i] if i < len(operands) else None for i in range(count)]


def _expand(operand: Operand | None, shape: tuple[int, ...] | None) -> Operand | None:
    """Replace ``*s`` by ``s0 s1 ...``, numbered from the right so that ranks align like broadcasting."""
    if operand is None or shape is None:
        return None
    stars = [i for i, term in enumerate(operand) if term and term[0].startswith("*")]
    rest = len(shape) - (len(operand) - len(stars))
    if rest < 0 or (rest and not stars):
        raise RuleError(
            f"an operand of rank {len(shape)} does not fit {_operand_text(operand)!r} of its rule"
        )
    if not stars:
        return operand
    at, name = stars[0], operand[stars[0]][0][1:]
    return (*operand[:at], *((f"{name}{rest - 1 - i}",) for i in range(rest)), *operand[at + 1 :])


def _expansions(name: str, sizes: Mapping[str, int]) -> list[str]:
    if not name.startswith("*"):
        return [name] if name in sizes else []  # the node may lack the operand that has it
    return [factor for factor in sizes if re.fullmatch(re.escape(name[1:]) + r"\d+", factor)]


def _solve(sizes: dict[str, int], operands: list[tuple[Operand, tuple[int, ...] | None]]) -> dict[str, int]:
    axes = [(t, n) for operand, shape in operands for t, n in zip(operand, shape or (), strict=True) if t]
    for term, size in axes:
        if len(term) == 1:
            sizes[term[0]] = max(size, sizes.get(term[0], 1))
    for _ in range(3):  # products with one unknown factor; chains of them are never longer than this
        for term, size in axes:
            unknown = [f for f in term if f not in sizes]
            if len(unknown) == 1:
                sizes[unknown[0]] = size // max(1, prod(sizes[f] for f in term if f in sizes))
    for term, size in axes:
        expected = prod(sizes.get(f, 1) for f in term)
        if size not in (1, expected):
            if not size:
                raise RuleError(
                    "nothing is left of an axis at the sizes that were tried (a kernel longer than its input?)"
                )
            raise RuleError(
                f"an axis has size {size} where {expected} was expected ({_operand_text((term,))!r} of its rule)"
            )
    return sizes


def _drop_ones(
    operand: Operand | None, shape: tuple[int, ...] | None, sizes: Mapping[str, int]
) -> Operand | None:
    """An axis of size 1 couples to nothing: it is broadcast, or there is nothing to remove. Likewise a factor
    of size 1.
    """
    if operand is None or shape is None:
        return None
    return tuple(
        tuple(f for f in term if sizes[f] > 1) if size > 1 else ()
        for term, size in zip(operand, shape, strict=True)
    )
