"""Passes across two frameworks: ours inside pipelines of ``onnx_ir``, theirs inside ours.

::

    onnx_ir.passes.Sequential(CommonSubexpressionEliminationPass(), OnnxIrPass(FoldNorm()))(model)
    prunec.run(module, ["fold-norm", from_onnx_ir(CommonSubexpressionEliminationPass())])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir
from onnx_ir.passes import InPlacePass, PassBase, PassResult

from prunec.ir.diagnostics import PassFailure, PrunecError
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.passes.base import Context, Contract, Outcome, Pass
from prunec.passes.calibration.required import Data
from prunec.passes.manager import run
from prunec.passes.pipeline import Pipeline


class OnnxIrPass(InPlacePass):
    """One of our passes, or a whole pipeline, as an ``onnx_ir`` pass.

    A model that prunec would not load is refused with ``PreconditionError``. A pass that fails, or that the
    verifier proves wrong, raises its ``PassFailure``; ``Sequential`` and ``PassManager`` wrap that in their
    ``PassError``. The model is then as the failed pass left it.

    Args:
        pass_: a pass, a pipeline, or its text.
        verify: check every transform by execution.
        seed: for random criteria and for probe inputs.
        data: calibration data for passes that need some.
    """

    def __init__(
        self,
        pass_: Pass | Pipeline | str,
        *,
        verify: bool = True,
        seed: int = 0,
        data: Data | None = None,
    ) -> None:
        super().__init__()
        self.pipeline = Pipeline.of(pass_)
        self.verify = verify
        self.seed = seed
        self.data = data

    def requires(self, model: onnx_ir.Model) -> None:
        """Refuse what is no valid model, and put its nodes in order."""
        load(model)

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Run the pipeline on the model itself."""
        module = Module(model)
        result = run(module, self.pipeline, verify=self.verify, seed=self.seed, data=self.data, in_place=True)
        return PassResult(module.model, modified=result.changed)

    def __str__(self) -> str:
        return str(self.pipeline)


def from_onnx_ir(pass_: PassBase) -> Pass:
    """An ``onnx_ir`` pass as one of ours, verified to compute the same.

    Its name is that of its class, ``RemoveUnusedNodesPass`` becomes ``remove-unused-nodes``. It has no
    options and is found under that name only here: the text of a pipeline cannot name it.

    Raises:
        PassFailure: (when it runs) the pass raised an exception, whatever it was.
    """

    @dataclass(frozen=True, slots=True, kw_only=True)
    class FromOnnxIr(Pass):
        __doc__ = type(pass_).__doc__

        name: ClassVar[str] = _kebab(type(pass_).__name__)
        contract: ClassVar[Contract] = "same"

        def run(self, module: Module, context: Context) -> Outcome:
            del context
            try:
                result = pass_(module.model)
            except PrunecError:
                raise
            except Exception as error:
                # Another package's pass may fail in any way; the user has to know whose it is.
                kind = type(pass_).__qualname__
                raise PassFailure(f"onnx_ir pass `{kind}` failed: {type(error).__name__}: {error}") from error
            module.model = result.model
            return Outcome(changed=result.modified)

    return FromOnnxIr()


def _kebab(name: str) -> str:
    """``RemoveUnusedNodesPass`` -> ``remove-unused-nodes``."""
    boundary = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    words = re.sub(boundary, "-", name.removesuffix("Pass").strip("_"))
    return words.lower() or "pass"
