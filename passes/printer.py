"""The dump: a module as text, with every axis in terms of channel groups.

::

    group g1 size=8 {@c1.weight:0, @c1.bias:0, @c2.weight:1}
    group g2 size=10 {@fc.weight:0} frozen: graph output `logits`
    graph @net {opset=17} (%x: f32[N, 3, 8, 8]) -> (%logits: f32[N, g2:10]) {
      %c2 = Conv(%relu, @c2.weight) : (f32[N, g1:8, 8, 8], f32[g3:8, g1:8, 3, 3] #2:4(axis=1)) -> ...

See :mod:`prunec.passes.coupling.view` for how groups are written, :mod:`prunec.ir.printer` for the rest.
Behind ``#`` stands how sparse a weight is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir

from prunec.ir.atomic import real_target
from prunec.ir.diagnostics import counted
from prunec.ir.dump.file import save_dump
from prunec.ir.files import file_error
from prunec.ir.printer import Annotator, Printer
from prunec.passes.coupling import analyse
from prunec.passes.coupling.groups import Coupling
from prunec.passes.coupling.view import GroupView
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.measure import LayerSparsity, measure_sparsity

if TYPE_CHECKING:
    from prunec.ir.module import Module

LEAST_ZEROS = 0.05
"""Share of zeros from which on it is worth a note."""


def print_module(
    module: Module,
    *,
    coupling: Coupling | None = None,
    groups: bool = True,
    all: bool = False,
    constants: int = 0,
) -> str:
    """A module as text that ends in a line end.

    Args:
        module: the module.
        coupling: its channel groups, where they are at hand already.
        groups: print the groups in front of the graph.
        all: print shape arithmetic and ``Constant`` nodes too.
        constants: elements up to which constants are printed with their contents.
    """
    view, printer = _view_and_printer(module, coupling or analyse(module.model), all=all)
    printer.constants = constants
    lines = [*(group_lines(view) if groups else ()), *printer.lines()]
    return "\n".join(lines) + "\n"


def save_module_dump(module: Module, path: Path, *, coupling: Coupling, inline: int) -> Path | None:
    """Write the dump that loads, with the groups; see :func:`prunec.ir.dump.file.save_dump`.

    Args:
        module: the module.
        path: the file.
        coupling: its channel groups.
        inline: elements up to which a constant is written inline.

    Returns:
        The file of the large constants, if there are any.

    Raises:
        UserError: the file cannot be written.
    """
    view, printer = _view_and_printer(module, coupling, all=True)
    try:
        return save_dump(module, real_target(path), printer=printer, above=group_lines(view), inline=inline)
    except OSError as error:
        raise file_error(path, "cannot write the file", error) from error


def _view_and_printer(module: Module, coupling: Coupling, *, all: bool) -> tuple[GroupView, Printer]:
    view = GroupView.of(coupling)
    layers = {layer.value: layer for layer in find_layers(module.model, coupling.facts).layers}
    annotator = GroupAnnotator(view, layers)
    return view, Printer(model=module.model, facts=coupling.facts, annotator=annotator, all=all)


def group_lines(view: GroupView) -> Iterator[str]:
    """A line for every group; frozen axes that are tied to nothing are counted by reason at the end."""
    for group in view.coupling.groups:
        if group.id not in view.alone:
            yield str(group)
    alone = [g.frozen.text for g in view.coupling.groups if g.id in view.alone and g.frozen is not None]
    for reason, count in Counter(alone).items():
        yield f"// {counted(count, 'axis', 'axes')} of parameters frozen alone: {reason}"


@dataclass(slots=True)
class GroupAnnotator(Annotator):
    """Gives axes their groups, and weights their sparsity.

    Attributes:
        view: where the groups are.
        layers: the sparse layers by their weights.
    """

    view: GroupView
    layers: Mapping[onnx_ir.Value, SparseLayer] = field(default_factory=dict)
    _sparsity: dict[onnx_ir.Value, str] = field(default_factory=dict)

    def axes(self, value: onnx_ir.Value, use: tuple[onnx_ir.Node, int] | None) -> Sequence[str | None]:
        """The groups of every axis that has any and whose size is fixed."""
        numbers = self.view.numbers(value, use)
        dynamic = self.view.coupling.facts.dynamic.get(value, frozenset())
        return [None if a in dynamic else self.view.text(n) for a, n in enumerate(numbers or ())]

    def note(self, value: onnx_ir.Value, use: tuple[onnx_ir.Node, int] | None) -> str:
        """A weight's 2:4 pattern and its share of zeros, where it has them."""
        layer = self.layers.get(value)
        if use is None or layer is None:
            return ""
        if value not in self._sparsity:
            self._sparsity[value] = _text(measure_sparsity(layer))
        return self._sparsity[value]


def _text(found: LayerSparsity) -> str:
    """``#2:4(axis=1)``, with the share of zeros where the pattern does not tell it."""
    text = f" #{found.pattern}" if found.pattern is not None else ""
    exact_half = found.pattern is not None and round(100 * found.zeros) == 50
    return text if found.zeros < LEAST_ZEROS or exact_half else f"{text} #zeros={found.zeros:.0%}"
