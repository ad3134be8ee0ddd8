"""Cached analyses of one module; the manager drops those that a pass did not preserve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from prunec.ir.diagnostics import Place, Remark, UserError

if TYPE_CHECKING:
    from prunec.ir.facts import Facts
    from prunec.ir.module import Module
    from prunec.passes.cost import Cost
    from prunec.passes.coupling.groups import Coupling
    from prunec.passes.coupling.options import CouplingOptions
    from prunec.passes.sparsity.eligibility import Eligibility
    from prunec.passes.sparsity.layer import SparseLayers

T = TypeVar("T")


@dataclass(slots=True)
class Analyses:
    """What is known about a module, computed at first use.

    Attributes:
        module: the module that the results are about.
        usual: how the passes at work look at the coupling, so that nothing else asks for it in another way.
        seconds: spent so far on each analysis by itself, by name.
    """

    module: Module
    usual: CouplingOptions | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _results: dict[tuple[str, object], Any] = field(default_factory=dict)

    def facts(self) -> Facts:
        """Shapes and known numbers."""
        from prunec.ir.dialect import dialect_of

        return self._cached(("facts", None), lambda: dialect_of(self.module.model).facts(self.module.model))

    def coupling(self, options: CouplingOptions | None = None) -> Coupling:
        """Channel groups."""
        from prunec.passes.coupling import analyse
        from prunec.passes.coupling.options import CouplingOptions

        options = options or CouplingOptions()
        return self._cached(
            ("coupling", options), lambda: analyse(self.module.model, self.facts(), options=options)
        )

    def cost(self) -> Cost:
        """Parameters, bytes and multiply-accumulates."""
        from prunec.passes.cost import measure

        return self._cached(("cost", None), lambda: measure(self.module.model, self.coupling(self.usual)))

    def layers(self) -> SparseLayers:
        """Sparse layers: weights that may hold zeros in a pattern."""
        from prunec.passes.sparsity.layers import find_layers

        return self._cached(("layers", None), lambda: find_layers(self.module.model, self.facts()))

    def eligibility(self) -> tuple[Eligibility, ...]:
        """Which contractions sparse tensor cores can run, in graph order, and why others not."""
        from prunec.passes.sparsity.eligibility import assess

        return self._cached(
            ("eligibility", None), lambda: assess(self.module.model, self.facts(), self.layers())
        )

    def check_operands(self) -> None:
        """Refuse a graph in which operands contradict an op, which no runtime runs.

        Raises:
            UserError: there is such an op.
        """
        from prunec.ir.inference import find_contradiction
        from prunec.passes.coupling.axes import node_label

        if (found := find_contradiction(self.module.model, self.facts())) is not None:
            place = Place(file=self.module.source.name, node=node_label(found[0]))
            raise UserError(found[1], place=place, help=["the model contradicts itself; export it again"])

    def misdeclared(self) -> list[Remark]:
        """A remark for every output that is declared with sizes that it does not have; ONNX Runtime tolerates it."""
        from prunec.ir.inference import find_misdeclared

        found = find_misdeclared(self.module.graph, self.facts())
        return [
            Remark(kind="analysis", origin="load", message=message, node=value.name, urgent=True)
            for value, message in found
        ]

    def keep_only(self, preserved: frozenset[str]) -> None:
        """Forget all results but those of the named analyses."""
        self._results = {key: value for key, value in self._results.items() if key[0] in preserved}

    def _cached(self, key: tuple[str, object], compute: Callable[[], T]) -> T:
        if key not in self._results:
            others, started = sum(self.seconds.values()), perf_counter()
            self._results[key] = compute()
            # What this analysis asked of others is on their account already.
            own = perf_counter() - started - (sum(self.seconds.values()) - others)
            self.seconds[key[0]] = self.seconds.get(key[0], 0.0) + own
        result: T = self._results[key]
        return result
