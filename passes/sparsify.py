"""The pass ``sparsify``: zeros in weights, in a pattern that runtimes have kernels for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.ir.diagnostics import UserError
from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import within
from prunec.passes.permute_channels import PermuteChannels
from prunec.passes.sparsity.patterns import NM, PatternOption
from prunec.passes.text.option_types import Ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prunec.ir.module import Module
    from prunec.passes.plan import WeightMask
    from prunec.passes.sparsity.criteria import Criterion
    from prunec.passes.sparsity.layer import SparseLayer

DEFAULT_RATIO = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsify(Pass):
    """Set weights to zero in a pattern: 2:4 for sparse tensor cores, any N:M, blocks, or the least important.

    An N:M pattern runs along the input channels, for each output channel and kernel position: the axis that
    TensorRT reads. `block:RxC` are blocks of R output channels by C input channels; `block` is `block:4x4`.
    No shape changes.
    """

    name: ClassVar[str] = "sparsify"
    contract: ClassVar[Contract] = "sparse"
    planned: ClassVar[bool] = True

    pattern: PatternOption = option(NM(2, 4), help="where zeros stand; N:M keeps N of every M input channels")
    criterion: Literal["magnitude", "wanda", "sparsegpt"] = option(
        "magnitude",
        help="what makes a weight worth keeping; `wanda` and `sparsegpt` need `--data`, and `sparsegpt` also "
        "updates the weights that stay",
    )
    ratio: Ratio | None = option(
        None,
        help="share of the weights that go, 50 % where it is not given (not with N:M, which has its own)",
        check=within(0, 1, closed="left"),
    )
    scope: Literal["local", "global"] = option(
        "local",
        help="take the share from every layer, or rank the weights of all layers together (not with N:M)",
    )
    layers: Literal["profitable", "eligible", "all"] = option(
        "profitable",
        help="with 2:4 take the layers that gain from sparse tensor cores, those that can run on them, or all; "
        "a pattern that they do not read takes all",
    )
    permute: bool = option(
        False, help="first put the input channels into an order in which N:M keeps more (`permute-channels`)"
    )
    ignore: tuple[str, ...] = option(
        (), help="leave layers alone whose node or weight has such a name (globs or paths)"
    )
    only: tuple[str, ...] = option(
        (), help="take only layers whose node or weight has such a name (globs or paths)"
    )
    strict: bool = option(False, help="fail where the pattern does not divide the channels of a layer")

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.scope == "global" and self.needs_data:
            raise UserError(
                f"criterion {self.criterion} compares the weights of one layer, not of all ('scope=global')",
                help=["leave `scope` out, or take `criterion=magnitude`"],
            )
        if self.pattern.takes_ratio:
            if self.permute:
                raise UserError(
                    f"option 'permute' is for N:M patterns, and pattern is {self.pattern}",
                    help=["leave `permute` out, or take an N:M pattern"],
                )
            return
        for name, given in (("ratio", self.ratio is not None), ("scope=global", self.scope == "global")):
            if given:
                raise UserError(
                    f"pattern {self.pattern} leaves no room for option '{name}'",
                    help=[f"leave `{name}` out, or take `pattern=unstructured` or `pattern=block:RxC`"],
                )

    def expand(self) -> tuple[Pass, ...]:
        """With ``permute`` a ``permute-channels`` of the same pattern and names, and this pass without."""
        if not isinstance(self.pattern, NM) or not self.permute:
            return (self,)
        order = PermuteChannels(for_=self.pattern, ignore=self.ignore, only=self.only)
        return (order, replace(self, permute=False))

    @property
    def needs_data(self) -> bool:
        """Whether the criterion looks at activations."""
        return self.criterion != "magnitude"

    def run(self, module: Module, context: Context) -> Outcome:
        """Choose the weights that stay, or take the masks of the plan being replayed, and make zeros."""
        from prunec.passes.plan import Step
        from prunec.passes.sparsity.choice import LayerChoice, replayed
        from prunec.passes.sparsity.criteria import load_criterion

        given: Mapping[str, WeightMask] = {}
        if context.replay is not None:
            layers, given = replayed(context.replay, context.analyses.layers())
        else:
            choice = LayerChoice(
                origin=self.name,
                pattern=self.pattern,
                layers=self.layers,
                ignore=self.ignore,
                only=self.only,
                strict=self.strict,
            )
            layers = choice.take(context)
        if not layers:
            return Outcome(changed=False)
        masks = self._apply(layers, load_criterion(self.criterion).open(module, layers, context), given)
        self._report(layers, masks, context)
        return Outcome(
            changed=True,
            preserved=frozenset({"cost"}),
            step=Step(pass_name=self.name, masks=masks),
            statistics={"layers": len(masks), "zeros": sum(mask.zeros for mask in masks)},
        )

    def _apply(
        self, layers: Sequence[SparseLayer], criterion: Criterion, given: Mapping[str, WeightMask]
    ) -> tuple[WeightMask, ...]:
        """Sparsify layer by layer; each is done before the next is looked at."""
        from prunec.passes.plan import WeightMask
        from prunec.passes.sparsity.choice import shares, unfolded

        share = DEFAULT_RATIO if self.ratio is None else self.ratio
        masks = []
        for layer, ratio in zip(
            layers, shares(layers, criterion, self.pattern, share, self.scope), strict=True
        ):
            name = layer.value.name or ""
            old = given.get(name)
            choice = criterion.choose(layer, self.pattern, ratio=ratio, keep=unfolded(layer, old))
            updated = choice.weights is not None
            if choice.weights is None:
                layer.mask(choice.keep)
            else:
                layer.write(choice.weights)
            pattern = str(self.pattern) if old is None else old.pattern
            keep = layer.layout.fold(choice.keep)
            masks.append(WeightMask.of(name, keep, pattern=pattern, updated=updated))
        return tuple(masks)

    def _report(self, layers: Sequence[SparseLayer], masks: Sequence[WeightMask], context: Context) -> None:
        for layer, mask in zip(layers, masks, strict=True):
            share = mask.zeros / layer.tensor.size
            context.remarks.passed(
                self.name,
                f"layer `{layer.name}` becomes {mask.pattern}: {mask.zeros:,} weights go ({share:.0%})",
                node=layer.node.name,
                numbers=(("weights", layer.tensor.size), ("zeros", mask.zeros)),
            )
