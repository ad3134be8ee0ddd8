"""Norms folded into the linear layers beside them (the algebra stands in ``norm_algebra``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Contract, Outcome, Pass, option

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.base import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldNorm(Pass):
    """Fold norms into the linear layers beside them.

    BatchNormalization goes into the Conv, ConvTranspose, Gemm or MatMul before it, else into those behind it,
    and is gone. Mul, Add, Sub and Div by one constant per channel go into the Conv or ConvTranspose before.
    Of LayerNormalization and its relatives gamma and beta go into the layers behind; the norm stays, with
    gamma 1 and no beta. A weight keeps its initializer's name unless another node uses it too: then that node
    keeps the original.

    In a program of torch it is batch norms that go, into the convolution or linear layer before them, where it was
    captured in evaluation mode. The weights stay parameters, and a layer without a bias gets one; what is trained
    from then on has no batch norms.

    A remark says of every norm what became of it.
    """

    name: ClassVar[str] = "fold-norm"
    contract: ClassVar[Contract] = "same"
    rescales: ClassVar[bool] = True

    only: tuple[str, ...] = option((), help="globs or paths of norm names: fold these alone", metavar="GLOB")
    ignore: tuple[str, ...] = option(
        (), help="globs or paths of norm names: leave these as they are", metavar="GLOB"
    )
    affine: bool = option(True, help="also fold per-channel Mul, Add, Sub and Div right behind a convolution")
    layer_norm: bool = option(True, help="also fold gamma and beta of LayerNorm and RMSNorm")

    def run(self, module: Module, context: Context) -> Outcome:
        """Fold every norm that the options allow and that can be folded."""
        from prunec.passes.folding.folder import NormFolder

        folder = NormFolder(module.model, self, context.remarks)
        changed = folder.run()
        return Outcome(changed=changed, statistics=dict(folder.statistics))
