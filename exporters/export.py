"""``prunec.export``: a module, or what a pipeline made of one, as an artefact for a runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prunec.exporters.registry import make_target
from prunec.exporters.target import Export, ExportContext, Target
from prunec.ir.diagnostics import RemarkLog
from prunec.ir.dialect import ATEN
from prunec.ir.fx.entry import onnx_only
from prunec.ir.module import Module, require_module
from prunec.passes.manager import Result


def export(
    source: Module | Result,
    target: str | Target,
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    seed: int = 0,
    **options: Any,
) -> Export:
    """Write a module for a runtime.

    Args:
        source: the module, or the result of ``prunec.run``; what the target has to say goes to its remarks.
        target: ``onnx``, ``ort``, ``trt``, the name of another installed target, or such a name with options in
            braces.
        path: the artefact's file; some targets write others beside it (``Export.files``).
        verify: compare the artefact with the module by running both, as far as this machine can.
        seed: of the inputs that they are compared on.
        **options: of the target, with underscores: ``precision="fp16"``.

    Raises:
        UserError: there is no such target or option, a package is missing, or a file cannot be written.
        GateError: a threshold among the options does not hold.
        VerificationError: the artefact computes something else than the module.

    Example:
        >>> import prunec
        >>> result = prunec.run(prunec.load("examples/digits.onnx"), "prune-channels{ratio=0.3}")
        >>> print(*result.export("ort", "digits.ort.onnx", level="basic").files)
        digits.ort.onnx digits.ort.onnx.json
    """
    made = make_target(target, options)
    made.check()
    remarks = source.remarks if isinstance(source, Result) else RemarkLog()
    module = source.module if isinstance(source, Result) else source
    require_module(module)
    if made.onnx_only and ATEN in module.graph.opset_imports:
        raise onnx_only(f"target `{made.name}`", module.source.name)
    return made.write(module, Path(path), ExportContext(remarks=remarks, verify=verify, seed=seed))
