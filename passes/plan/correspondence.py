"""Which constants of two graphs of one network are the same, as exporters rename, transpose, copy and merge them.

Three kinds of evidence, in this order: the name (PyTorch's exporters keep those of parameters that they do not
touch), unless another constant has the contents, as where names are counted; the contents, also transposed (a linear
layer's weight becomes the constant of a MatMul); the parameter that an exporter notes beside a node, or the module that
the node came from (a convolution with a folded norm has neither the old name nor the old contents). What could be two
things is taken for none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.dialect import dialect_of
from prunec.ir.location import module_path, parameters_read
from prunec.ir.module import Module
from prunec.passes.sparsity.layers import find_layers

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A constant of one graph and the same of another.

    Attributes:
        source: name in the one.
        target: name in the other.
        transposed: whether the two axes of a matrix have changed places.
    """

    source: str
    target: str
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class _Constant:
    name: str
    array: Array
    nodes: tuple[onnx_ir.Node, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def contents(self, *, transposed: bool = False) -> tuple[Any, ...]:
        array = np.ascontiguousarray(self.array.T if transposed else self.array)
        return (array.shape, array.dtype.str, blake2b(array.view(np.uint8).data, digest_size=16).digest())

    def is_telling(self) -> bool:
        """Whether the contents are those of no other constant, most likely: not all the same number."""
        return self.array.size > 1 and bool((self.array != self.array.flat[0]).any())

    def agrees(self, other: _Constant) -> bool:
        """Whether the numbers are the same, also transposed."""
        return np.array_equal(self.array, other.array) or np.array_equal(self.array.T, other.array)

    def paths(self) -> set[str]:
        """The modules that read it."""
        return {path for node in self.nodes if (path := module_path(node)) is not None}


def correspond(source: Module, target: Module) -> tuple[Pair, ...]:
    """The pairs of constants that two graphs of one network have in common; one may be in several."""
    return tuple(_Matching(_Side(source), _Side(target)).run())


class _Side:
    """One of the graphs."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.constants = _constants(module)

    @cached_property
    def summed(self) -> dict[str, tuple[int, ...]]:
        """Per weight of a layer the axes that it is summed over."""
        facts = dialect_of(self.module.model).facts(self.module.model)
        layers = find_layers(self.module.model, facts).layers
        return {layer.value.name or "": layer.layout.axes("input") for layer in layers}

    @cached_property
    def contents(self) -> set[tuple[Any, ...]]:
        """The contents of all constants that are telling."""
        return {c.contents() for c in self.constants.values() if c.is_telling()}

    def holds(self, constant: _Constant) -> bool:
        """Whether a telling constant of the other graph is here, also transposed, under whatever name."""
        if not constant.is_telling():
            return False
        turned = len(constant.shape) == 2 and constant.contents(transposed=True) in self.contents
        return turned or constant.contents() in self.contents


def _constants(module: Module) -> dict[str, _Constant]:
    found = {}
    for name, value in module.graph.initializers.items():
        if value.const_value is not None and len(value.const_value.shape) and value.const_value.size:
            nodes = tuple(_readers(value))
            found[name] = _Constant(name, value.const_value.numpy(), nodes)
    return found


def _readers(value: onnx_ir.Value) -> Iterator[onnx_ir.Node]:
    """What reads a constant, past nodes that only hand it on."""
    for node in value.consumers():
        if node.op_type in ("Identity", "Transpose", "DequantizeLinear"):
            yield from _readers(node.outputs[0])
        else:
            yield node


@dataclass(slots=True)
class _Matching:
    source: _Side
    target: _Side
    pairs: dict[tuple[str, str], Pair] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, _Constant]:
        return self.source.constants

    @property
    def targets(self) -> dict[str, _Constant]:
        return self.target.constants

    def run(self) -> Iterable[Pair]:
        for name in self.sources.keys() & self.targets.keys():
            source, target = self.sources[name], self.targets[name]
            if source.agrees(target) or not (self.target.holds(source) or self.source.holds(target)):
                self._take(source, target)
        self._by_contents()
        self._by_parameters()
        self._by_modules()
        return self.pairs.values()

    def _take(self, source: _Constant, target: _Constant) -> None:
        """Note a pair, if the shapes allow it."""
        transposed = source.shape != target.shape
        if transposed and (len(source.shape) != 2 or source.shape[::-1] != target.shape):
            return
        if not transposed and len(source.shape) == 2 and source.shape[0] == source.shape[1]:
            transposed = self._is_turned(source, target)
        pair = Pair(source=source.name, target=target.name, transposed=transposed)
        self.pairs.setdefault((source.name, target.name), pair)

    def _is_turned(self, source: _Constant, target: _Constant) -> bool:
        """Whether a square matrix is the other one transposed: by its contents, else by what is summed over."""
        if np.array_equal(source.array, target.array) or np.array_equal(source.array.T, target.array):
            return not np.array_equal(source.array, target.array)
        axes = self.source.summed.get(source.name), self.target.summed.get(target.name)
        return None not in axes and axes[0] != axes[1]

    def _open(self) -> tuple[list[_Constant], list[_Constant]]:
        """The constants of both sides that have no partner yet."""
        known = {s for s, _ in self.pairs}, {t for _, t in self.pairs}
        return (
            [c for n, c in self.sources.items() if n not in known[0]],
            [c for n, c in self.targets.items() if n not in known[1]],
        )

    def _by_contents(self) -> None:
        open_sources, open_targets = self._open()
        self._same(open_sources, list(self.targets.values()))
        self._same(list(self.sources.values()), open_targets)

    def _same(self, sources: Sequence[_Constant], targets: Sequence[_Constant]) -> None:
        """Pair equal contents; where several are equal, those that the same module reads."""
        by_key: dict[tuple[Any, ...], tuple[list[_Constant], list[_Constant]]] = defaultdict(lambda: ([], []))
        for constant in filter(_Constant.is_telling, sources):
            by_key[constant.contents()][0].append(constant)
        for constant in filter(_Constant.is_telling, targets):
            by_key[constant.contents()][1].append(constant)
            if len(constant.shape) == 2:
                by_key[constant.contents(transposed=True)][1].append(constant)
        for same, others in by_key.values():
            for one in same:
                for other in others:
                    if min(len(same), len(others)) <= 1 or one.paths() & other.paths():
                        self._take(one, other)

    def _by_parameters(self) -> None:
        """By the parameters that an exporter says a node had read."""
        for sources, targets in (self._open(), self._open()[::-1]):
            named = _unique((_plain(s.name), s) for s in sources)
            for target in targets:
                read = {name for node in target.nodes for name in parameters_read(node)}
                fits = [named[name] for name in read & named.keys() if _fits(named[name], target)]
                if len(fits) == 1:
                    self._join(fits[0], target)

    def _by_modules(self) -> None:
        """By the module around the nodes that read a constant, where it has only one of that size."""
        sources, targets = self._open()
        mine, theirs = (
            _unique(((path, tuple(sorted(c.shape))), c) for c in side for path in c.paths())
            for side in (sources, targets)
        )
        for key in mine.keys() & theirs.keys():
            self._take(mine[key], theirs[key])

    def _join(self, one: _Constant, other: _Constant) -> None:
        source, target = (one, other) if self.sources.get(one.name) is one else (other, one)
        self._take(source, target)


def _fits(one: _Constant, other: _Constant) -> bool:
    return one.shape == other.shape or (len(one.shape) == 2 and one.shape[::-1] == other.shape)


def _unique(items: Iterable[tuple[Any, _Constant]]) -> dict[Any, _Constant]:
    """The items whose keys occur once."""
    found: dict[Any, list[_Constant]] = defaultdict(list)
    for key, constant in items:
        found[key].append(constant)
    return {key: same[0] for key, same in found.items() if len(same) == 1}


def _plain(name: str) -> str:
    """A parameter's name as exporters write it into Python code."""
    return re.sub(r"\W", "_", name)
