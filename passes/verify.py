"""Check the module as it stands, on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunec.passes.base import Context, Contract, Outcome, Pass

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Pass):
    """Check that the module is valid ONNX, that its shapes are consistent, and that it runs with finite
    outputs.

    Every transform is verified anyway unless verification is switched off; this pass checks the module as it
    stands at this point of the pipeline, also with `--no-verify`.
    """

    name: ClassVar[str] = "verify"
    contract: ClassVar[Contract] = "none"

    def run(self, module: Module, context: Context) -> Outcome:
        """Raise a VerificationError unless the module holds up."""
        import numpy as np

        from prunec.ir.diagnostics import VerificationError
        from prunec.ir.dialect import dialect_of
        from prunec.passes.verifier.probing import first_run

        error = dialect_of(module.model).graph_error(module)
        if error is not None:
            raise VerificationError(error, code="V010")
        outputs, _, _ = first_run(module, context.seed, blame="pass")
        bad = [n for n, a in outputs.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
        if bad:
            raise VerificationError(f"output `{bad[0]}` is not finite on probe inputs", code="V014")
        context.remarks.passed(self.name, f"shapes are consistent and {len(outputs)} outputs are finite")
        return Outcome(changed=False)
