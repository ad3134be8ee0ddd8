"""Local functions in the place of their calls, ahead of passes that cut."""

from __future__ import annotations

from prunec.ir.diagnostics import RemarkLog
from prunec.ir.module import Module
from prunec.passes.cleanup import inline_functions
from prunec.passes.verifier.compare import compare_outputs


def inline_calls(module: Module, remarks: RemarkLog, *, verify: bool, seed: int) -> bool:
    """Put local functions in the place of their calls: a function's layers can only be cut call by call.

    Returns:
        Whether there were any.
    """
    before = module.clone() if verify else None
    if not (count := inline_functions(module.model, ruled=False)):
        return False
    remarks.passed("inline", f"{count} local functions are inlined, so that what is in them can be pruned")
    if before is not None:
        compare_outputs("inline", before, module, seed=seed)
    return True
