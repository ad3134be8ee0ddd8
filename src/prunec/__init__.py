"""prunec: a compiler for pruning neural networks.

::

    import prunec

    module = prunec.load("model.onnx")
    result = prunec.run(module, "fold-norm, prune-channels{ratio=0.4}")
    result.save("model.pruned.onnx")

or, on a module of torch::

    captured = prunec.trace(net, (images,))
    pruned = prunec.run(captured, "prune-channels{ratio=0.4}").to_torch()

What a training loop needs is in :mod:`prunec.torch`.

Importing this package loads nothing heavy; every name below is fetched at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunec.ir.version import VERSION

if TYPE_CHECKING:
    from prunec import torch as torch
    from prunec.exporters.bench.ceiling import ceiling as ceiling
    from prunec.exporters.bench.measure import bench as bench
    from prunec.exporters.bench.results import BenchReport as BenchReport
    from prunec.exporters.export import export as export
    from prunec.exporters.report.card import write_card as write_card
    from prunec.exporters.report.page import write_report as write_report
    from prunec.exporters.report.plot import write_plot as write_plot
    from prunec.exporters.target import Export as Export
    from prunec.ir.diagnostics import PassFailure as PassFailure
    from prunec.ir.diagnostics import PrunecError as PrunecError
    from prunec.ir.diagnostics import Remark as Remark
    from prunec.ir.diagnostics import UserError as UserError
    from prunec.ir.diagnostics import VerificationError as VerificationError
    from prunec.ir.fx.entry import trace as trace
    from prunec.ir.load import load as load
    from prunec.ir.module import Module as Module
    from prunec.ir.save import save as save
    from prunec.passes.base import Pass as Pass
    from prunec.passes.coupling import analyse as analyse
    from prunec.passes.judging.evaluate import Evaluation as Evaluation
    from prunec.passes.judging.evaluate import evaluate as evaluate
    from prunec.passes.judging.quantization_table import QuantizationTable as QuantizationTable
    from prunec.passes.judging.quantization_table import quantization_table as quantization_table
    from prunec.passes.manager import Result as Result
    from prunec.passes.manager import run as run
    from prunec.passes.pipeline import parse_pipeline as parse_pipeline
    from prunec.passes.plan import Plan as Plan
    from prunec.passes.sensitivity.measure import sensitivity as sensitivity
    from prunec.passes.sensitivity.profile import Profile as Profile

__version__ = VERSION

_HOMES = {
    "BenchReport": "prunec.exporters.bench.results",
    "Evaluation": "prunec.passes.judging.evaluate",
    "Export": "prunec.exporters.target",
    "Module": "prunec.ir.module",
    "Pass": "prunec.passes.base",
    "PassFailure": "prunec.ir.diagnostics",
    "Plan": "prunec.passes.plan",
    "PrunecError": "prunec.ir.diagnostics",
    "Profile": "prunec.passes.sensitivity.profile",
    "QuantizationTable": "prunec.passes.judging.quantization_table",
    "Remark": "prunec.ir.diagnostics",
    "Result": "prunec.passes.manager",
    "UserError": "prunec.ir.diagnostics",
    "VerificationError": "prunec.ir.diagnostics",
    "analyse": "prunec.passes.coupling",
    "bench": "prunec.exporters.bench.measure",
    "ceiling": "prunec.exporters.bench.ceiling",
    "evaluate": "prunec.passes.judging.evaluate",
    "export": "prunec.exporters.export",
    "load": "prunec.ir.load",
    "parse_pipeline": "prunec.passes.pipeline",
    "quantization_table": "prunec.passes.judging.quantization_table",
    "run": "prunec.passes.manager",
    "save": "prunec.ir.save",
    "sensitivity": "prunec.passes.sensitivity.measure",
    "trace": "prunec.ir.fx.entry",
    "write_card": "prunec.exporters.report.card",
    "write_plot": "prunec.exporters.report.plot",
    "write_report": "prunec.exporters.report.page",
}

__all__ = [*_HOMES, "__version__", "torch"]


def __getattr__(name: str) -> Any:
    if name == "torch":
        return import_module("prunec.torch")
    if name not in _HOMES:
        raise AttributeError(f"module 'prunec' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
