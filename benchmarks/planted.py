"""A miscompile that was planted, as a test for ``prunec reduce``: ``python benchmarks/planted.py MODEL``.

Beside pruning every group by half, the pass flips the sign of one branch of every residual sum that two convolutions
make. Exits with 1 where the verifier proves it wrong, and with 0 where it does not or the model cannot be compiled.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir

import prunec
from prunec.ir.module import Module
from prunec.passes.base import Context, Outcome
from prunec.passes.prune_channels import PruneChannels


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipBranch(PruneChannels):
    """Prunes, and breaks residual sums."""

    name: ClassVar[str] = "flip-branch"

    def run(self, module: Module, context: Context) -> Outcome:
        """Prune, then flip the weights of the second convolution of every sum of two."""
        outcome = PruneChannels.run(self, module, context)
        for node in module.graph:
            makers = [value.producer() for value in node.inputs if value is not None]
            if node.op_type == "Add" and all(m is not None and m.op_type == "Conv" for m in makers):
                weight = makers[1].inputs[1] if makers[1] is not None else None
                if weight is not None and weight.const_value is not None:
                    weight.const_value = onnx_ir.tensor(-weight.const_value.numpy(), name=weight.name)
        return outcome


def is_proven_wrong(model: str) -> bool:
    """Whether the verifier sees it."""
    try:
        prunec.run(prunec.load(model), FlipBranch(round_to=1))
    except prunec.VerificationError as error:
        print(error)
        return True
    except prunec.PrunecError:
        return False
    return False


if __name__ == "__main__":
    sys.exit(is_proven_wrong(sys.argv[1]))
