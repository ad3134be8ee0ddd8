"""Which attributes of the user's modules hold sizes that a cut changed: candidates by number, chosen by trial.

A literal that the cut changed stands in a call that some module made; an attribute of that module, or of the
nearest one around it that has any, that holds the old number may have to get the new one. Layers of one class do
alike, so attributes of one name in modules of one class are tried together: what is tried does not grow with depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import Any

import onnx_ir
from torch import nn

from prunec.ir.fx.proof import Failure
from prunec.ir.fx.signature import CAPTURED
from prunec.ir.fx.sizes import is_size
from prunec.ir.location import module_path, source_of
from prunec.ir.module import Module

Sizes = dict[tuple[str, str], Any]
"""New values of attributes, by path of the module and name."""

MOST_TRIALS = 64
"""Choices of attributes that are tried where all of them together are wrong."""

_EVERYTHING = 2**31
"""Numbers from here on are no sizes: the end of an open slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A number, or a list of numbers, that a cut changed in a call.

    Attributes:
        node: the call.
        path: of the module whose code made the call.
        old: before the cut.
        new: after it.
    """

    node: onnx_ir.Node
    path: str
    old: int | tuple[int, ...]
    new: int | tuple[int, ...]

    def __str__(self) -> str:
        where = source_of(self.node) or self.path
        return f"{where}: `{self.node.op_type.partition('.')[0]}` has {self.old}, needs {self.new}"


def changed_literals(result: Module) -> Iterator[Literal]:
    """The numbers of all calls that are not what they were at the capture, lists entry by entry too."""
    for node in result.graph:
        before: Mapping[str, onnx_ir.Attr] = node.meta.get(CAPTURED) or {}
        path = module_path(node) or ""
        for name, attribute in node.attributes.items():
            if name not in before or before[name].value == attribute.value:
                continue
            old, new = before[name].value, attribute.value
            if isinstance(old, int) and old < _EVERYTHING:
                yield Literal(node=node, path=path, old=old, new=int(new))
            elif not isinstance(old, int) and len(old) == len(new):
                yield Literal(node=node, path=path, old=tuple(old), new=tuple(new))
                for a, b in zip(old, new, strict=True):
                    if a != b and 0 < a < _EVERYTHING:
                        yield Literal(node=node, path=path, old=int(a), new=int(b))


def wanted_sizes(module: nn.Module, literals: Sequence[Literal]) -> Sizes:
    """Attributes that hold an old number, with the new one, where all calls agree on it."""
    wanted: dict[tuple[str, str], set[int | tuple[int, ...]]] = {}
    for literal in literals:
        for holder in holders(module, literal):
            wanted.setdefault(holder, set()).add(literal.new)
        layer = module.get_submodule(literal.path)
        if isinstance(layer, nn.MultiheadAttention) and literal.old == layer.embed_dim:
            # Its calls hold the number of heads times the batch, which no attribute does.
            heads, rest = divmod(int(literal.new), layer.head_dim)  # type: ignore[arg-type]
            if heads and not rest:
                wanted.setdefault((literal.path, "num_heads"), set()).add(heads)
    return {key: values.pop() for key, values in wanted.items() if len(values) == 1}


def holders(module: nn.Module, literal: Literal) -> list[tuple[str, str]]:
    """The attributes that hold a literal's old number: of the calling module, or else of the nearest around it."""
    path = literal.path
    while True:
        found = vars(module.get_submodule(path))
        names = [name for name, held in found.items() if is_size(held) and plain(held) == literal.old]
        if names or not path:
            return [(path, name) for name in names]
        path = path.rpartition(".")[0]


def plain(held: Any) -> Any:
    """A size as it is compared: a list of any kind as a tuple."""
    return tuple(held) if isinstance(held, list | tuple) else held


def choose_sizes(
    module: nn.Module, wanted: Sizes, failure_with: Callable[[Sizes], Failure | None]
) -> Sizes | Failure:
    """The fewest kinds of attributes with which the module is right: another number may be equal by chance.

    Args:
        module: the module as it was.
        wanted: the candidates.
        failure_with: what is wrong with the module if these attributes follow.

    Returns:
        The attributes, or what is wrong with all of them where no choice is right.
    """
    kinds = _kinds(module, wanted)
    first = failure_with(wanted)
    if first is not None:
        tried = islice(_choices(kinds, wanted), MOST_TRIALS)
        right = next((choice for choice in tried if failure_with(_joined(choice)) is None), None)
        if right is None:
            return first
        kinds = list(right)
    for kind in list(kinds):
        rest = [other for other in kinds if other is not kind]
        if failure_with(_joined(rest)) is None:
            kinds = rest
    return _joined(kinds)


def _kinds(module: nn.Module, wanted: Sizes) -> list[Sizes]:
    """Attributes of one name, with the same numbers, in modules of one class."""
    kinds: dict[Any, Sizes] = {}
    for (path, name), new in wanted.items():
        owner = module.get_submodule(path)
        kinds.setdefault((type(owner), name, plain(getattr(owner, name)), new), {})[path, name] = new
    return list(kinds.values())


def _choices(kinds: Sequence[Sizes], wanted: Sizes) -> Iterator[Sequence[Sizes]]:
    """Few kinds and nearly all of them first, and then single attributes and all but one."""
    count = len(kinds)
    numbers = [n for small in range(count // 2 + 1) for n in dict.fromkeys((small, count - small))]
    by_kind = chain.from_iterable(combinations(kinds, n) for n in numbers if n < count)
    singles = [{key: value} for key, value in wanted.items()]
    all_but_one = ([{k: v for k, v in wanted.items() if k != key}] for key in wanted)
    return chain(by_kind, ([single] for single in singles), all_but_one)


def _joined(kinds: Sequence[Sizes]) -> Sizes:
    return {key: value for kind in kinds for key, value in kind.items()}
