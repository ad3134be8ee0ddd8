"""One pipeline on one model in this process: what it removes, what is proven, and what is pinned."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunec.ir.diagnostics import PrunecError
    from prunec.ir.module import Module
    from prunec.passes.manager import Result
    from prunec.passes.survey import PinnedFacts, Survey

PRUNING = "masked"
"""Contract of the passes that remove something."""
REASONS = 2
SMALLEST_SHARE = 0.02
"""A reason that locks a smaller share of the parameters is not worth a word."""


def print_trial(path: Path, pipeline: str) -> None:
    """Print the result as one line of JSON."""
    from prunec.ir.diagnostics import PrunecError

    try:
        row = try_pipeline(path, pipeline)
    except PrunecError as error:
        row = {"verdict": _judge(error, path), "reason": error.message}
    sys.stdout.write(json.dumps(row) + "\n")


def try_pipeline(path: Path, pipeline: str) -> dict[str, Any]:
    """Run a pipeline on a model, and look over what its pruning passes had before them."""
    import prunec

    started = perf_counter()
    module = prunec.load(path)
    result = prunec.run(module, pipeline)
    row: dict[str, Any] = {"verdict": "ok", "seconds": perf_counter() - started}
    row |= _proofs(module, result)
    row |= _kept(module, result, pipeline)
    return row | {"nodes": len(module.graph), "analysis_seconds": analysis_seconds(module)}


def analysis_seconds(module: Module) -> float:
    """CPU seconds from the graph to its channel groups, everything imported."""
    from prunec.ir.facts import infer_facts
    from prunec.passes.coupling import analyse

    started = process_time()
    analyse(module.model, infer_facts(module.model))
    return process_time() - started


def _proofs(before: Module, result: Result) -> dict[str, Any]:
    """What the verifier proved; ``vacuous`` where its inputs saw nothing of the cut."""
    proofs = [verdict for verdict in result.verdicts if verdict.equivalence != "same"]
    if not proofs:
        return {"verdict": "nothing to prune"}
    last = proofs[-1]
    row: dict[str, Any] = {
        "proven": " + ".join(dict.fromkeys(verdict.equivalence for verdict in proofs)),
        "error": max(verdict.error for verdict in result.verdicts),
        "witnesses": last.witnesses,
        "change": _change(before, result.module),
    }
    if row["change"] <= row["error"] and not row["witnesses"]:
        row["verdict"] = "vacuous"
    return row


def _change(before: Module, after: Module) -> float:
    """Largest relative difference of an output that the cut makes."""
    from prunec.ir.equality import relative_error
    from prunec.ir.execute import Runner
    from prunec.passes.verifier.probing import first_run

    expected, feeds, _ = first_run(before, seed=0)
    actual = Runner(after).run(feeds)
    return max(relative_error(actual[name], array) for name, array in expected.items())


def _kept(module: Module, result: Result, pipeline: str) -> dict[str, Any]:
    """What is left of the parameters that pruning found, and of those that a group can remove."""
    survey = _before_pruning(module, pipeline)
    before, after = survey.cost.parameters, result.cost_after.parameters
    row: dict[str, Any] = {
        "parameters": before,
        "parameters_after": after,
        "groups": len(survey.groups),
        "pinned": [_pinned(pinned, before) for pinned in _main_reasons(survey)],
    }
    if before:
        row["kept"] = after / before
    if survey.prunable:
        row["prunable"] = survey.prunable / before
        row["prunable_kept"] = 1 - (before - after) / survey.prunable
    return row


def _before_pruning(module: Module, pipeline: str) -> Survey:
    """The model as the first pruning pass finds it."""
    import prunec
    from prunec.passes.coupling import analyse
    from prunec.passes.pipeline import Pipeline
    from prunec.passes.survey import survey

    first: list[Any] = []
    for item in Pipeline.of(pipeline):
        if item.contract == PRUNING:
            break
        first.append(item)
    prepared = prunec.run(module, Pipeline(passes=tuple(first)), verify=False).module
    return survey(prepared.model, analyse(prepared.model))


def _main_reasons(survey: Survey) -> list[PinnedFacts]:
    """What locks most parameters; axes that are tied to nothing only where there is nothing else."""
    worth = [p for p in survey.pinned if p.locked >= SMALLEST_SHARE * survey.cost.parameters]
    return ([p for p in worth if not p.alone] or worth)[:REASONS]


def _pinned(pinned: PinnedFacts, parameters: int) -> dict[str, Any]:
    return {"reason": pinned.reason, "places": pinned.places, "share": pinned.locked / parameters}


def _judge(error: PrunecError, path: Path) -> str:
    """Whose fault a failure is."""
    from prunec.ir.diagnostics import UserError, VerificationError

    if isinstance(error, VerificationError):
        return "wrong"
    refused = isinstance(error, UserError) and not _opens(path)
    return "refused by ONNX Runtime" if refused else "failed"


def _opens(path: Path) -> bool:
    """Whether ONNX Runtime makes a session of the file itself, with no part of prunec in between."""
    import onnxruntime as ort

    from prunec.ir.runtime import runtime_errors, session_options

    options = session_options(optimize=False, threads=1)
    try:
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except runtime_errors():
        return False
    return True
