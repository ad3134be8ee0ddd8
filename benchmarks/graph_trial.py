"""One random graph through one random pipeline, and every check that can be made of the result."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from agreement import Graph, MismatchError, Runs, difference, fit, interface, left_out
from masking import masked_model

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.manager import Result

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

SECONDS = 60
"""After which a graph counts as one that hangs."""

NOT_FINITE = "not finite"
"""Verdict where the pass ``verify`` refuses a pruned model whose outputs are no numbers, such as the variance of the
one channel that is left. Until then it equals its reference."""
UNCHECKED = ("SimplifiedLayerNormalization", "EyeLike", "Crop")
"""Ops that ONNX's checker does not know, or whose shape inference ends the process behind unknown shapes."""


def print_trials(seeds: Iterable[int]) -> None:
    """Print a line of JSON for each seed; the process ends where one takes too long or fails in an unknown way."""
    for seed in seeds:
        signal.alarm(SECONDS)
        sys.stdout.write(json.dumps(try_seed(seed)) + "\n")
        sys.stdout.flush()
    signal.alarm(0)


def try_seed(seed: int) -> dict[str, Any]:
    """The row of one graph."""
    from prunec.ir.diagnostics import PrunecError, VerificationError

    started = perf_counter()
    graph, prefix, pruning = Graph.of(seed), *random_pipeline(seed)
    row: dict[str, Any] = {
        "seed": seed,
        "opset": graph.proto.opset_import[0].version,
        "dynamic": graph.dynamic,
        "nodes": len(graph.proto.graph.node),
        "ops": sorted({_op_name(node.domain, node.op_type) for node in graph.proto.graph.node}),
        "pipeline": ", ".join(filter(None, (prefix, pruning))),
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            row |= _check(graph, prefix, pruning, Path(folder))
        except VerificationError as error:
            row |= {"verdict": NOT_FINITE if error.code == "V014" else "wrong", "reason": error.message}
        except PrunecError as error:
            row |= {"verdict": "failed", "reason": error.message}
        except MismatchError as error:
            row |= {"verdict": error.kind, "reason": str(error)}
    return row | {"seconds": perf_counter() - started}


def random_pipeline(seed: int) -> tuple[str, str]:
    """What comes before the pruning, and the pruning."""
    rng = np.random.default_rng([seed, 21])

    def one(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    options = {
        "ratio": one(0.2, 0.35, 0.5, 0.75, 0.9),
        "scope": one("local", "local", "global"),
        "criterion": one("l1", "l2", "bn-scale", "fpgm", "random"),
        "unit": one("head", "head-dim"),
        "round-to": one(1, 1, 1, 2, 4),
        "allow-io": one("false", "true"),
    }
    prune = "prune-channels{" + " ".join(f"{name}={value}" for name, value in options.items()) + "}"
    prefix = one("", "", "canonicalize", "fold-norm", "canonicalize, fold-norm")
    pruning = one(prune, prune, f"repeat{{times=2}}({prune})")
    return prefix, pruning + one("", "", "", ", fold-norm", ", verify")


def _check(graph: Graph, prefix: str, pruning: str, folder: Path) -> dict[str, Any]:
    """All checks; MismatchError at the first that fails."""
    import prunec

    source, target = folder / "in.onnx", folder / "out.onnx"
    onnx.save(graph.proto, source)
    module = prunec.load(source)
    result = prunec.run(module, ", ".join(filter(None, (prefix, pruning))), seed=graph.seed)
    result.save(target)
    _check_replay(graph, module, result, target)
    pruned = onnx.load(target)
    _check_file(graph.proto, pruned)
    prepared = module if not prefix else prunec.run(module, prefix, verify=False).module
    row = _summary(result) | {"cut": _cut_ops(prepared, result.module)}
    row |= _compare(graph, _proto_of(prepared, folder), pruned, result)
    row["verdict"] = _verdict(row, result)
    return row


def _summary(result: Result) -> dict[str, Any]:
    proofs = [verdict for verdict in result.verdicts if verdict.equivalence != "same"]
    return {
        "parameters": result.cost_before.parameters,
        "removed": result.cost_before.parameters - result.cost_after.parameters,
        "proven": sorted({verdict.equivalence for verdict in proofs}),
        "error": max((verdict.error for verdict in result.verdicts), default=0.0),
        "rounded": all(verdict.rounded and not verdict.borderline for verdict in result.verdicts),
        "witnesses": sum(verdict.witnesses for verdict in proofs),
    }


def _verdict(row: Mapping[str, Any], result: Result) -> str:
    if not result.plan.steps or not row["cut"]:  # a layer that nobody reads may go
        return "nothing to prune"
    return "vacuous" if row["change"] <= row["error"] and not row["witnesses"] else "ok"


def _check_replay(graph: Graph, module: Module, result: Result, target: Path) -> None:
    """The plan, written and read, gives the same file byte for byte, whatever the seed."""
    import prunec
    from prunec.passes.plan import Plan

    plan = Plan.from_json(result.plan.to_json())
    pipeline = result.plan.pipeline
    again = prunec.run(module, pipeline, verify=False, seed=graph.seed + 1, replay=plan)
    copy = target.with_name("again.onnx")
    again.save(copy)
    if copy.read_bytes() != target.read_bytes():
        raise MismatchError("replay", "the replayed plan gives another file")


def _check_file(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    if any(node.op_type in UNCHECKED for node in before.graph.node):
        return
    errors = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    try:
        onnx.checker.check_model(before, full_check=True)
    except errors:
        return
    try:
        onnx.checker.check_model(after, full_check=True)
    except errors as error:
        raise MismatchError("invalid", str(error).splitlines()[0]) from error


def _proto_of(module: Module, folder: Path) -> onnx.ModelProto:
    from prunec.ir.save import save

    save(module, folder / "prepared.onnx")
    return onnx.load(folder / "prepared.onnx")


def _cut_ops(before: Module, after: Module) -> list[str]:
    """Ops some of whose values have another shape."""
    from prunec.ir.facts import infer_facts

    old = {value.name: shape for value, shape in infer_facts(before.model).shapes.items()}
    new = {value.name: shape for value, shape in infer_facts(after.model).shapes.items()}
    changed = {name for name, shape in new.items() if old.get(name, shape) != shape}
    return sorted(
        {
            _op_name(node.domain, node.op_type)
            for node in after.graph
            if any(v is not None and v.name in changed for v in (*node.inputs, *node.outputs))
        }
    )


def _compare(
    graph: Graph, prepared: onnx.ModelProto, pruned: onnx.ModelProto, result: Result
) -> dict[str, Any]:
    """Run the files in ONNX Runtime: the preparation changes nothing, the pruning what the plan says.

    Shapes of outputs stay as they were, unless caches may shrink.
    """
    masked = masked_model(prepared, result.plan)
    models = {"original": graph.proto, "prepared": prepared, "pruned": pruned}
    run = Runs(graph, models | ({"masked": masked} if masked is not None else {}))
    row: dict[str, Any] = {"masked": "statistics" if masked is None else "equal", "masked_error": 0.0}
    resized = interface(pruned) != interface(graph.proto)
    if resized and "allow-io=false" in result.plan.pipeline:
        raise MismatchError("shapes", "inputs or outputs have other types")
    for batch in (2, 3) if graph.dynamic else (2,):
        feeds = graph.feeds(batch=batch)
        original, smaller = run("original", feeds), run("pruned", fit(feeds, pruned))
        if not resized and [a.shape for a in smaller.values()] != [a.shape for a in original.values()]:
            raise MismatchError("shapes", f"outputs have other shapes at a batch of {batch}")
        if batch == 2:
            row["change"] = 1.0 if resized else difference(smaller, original)
    run.same("prepared", "original")
    if masked is None or resized:
        return row | {"masked": "statistics" if masked is None else "interface"}
    reference = run("masked", graph.feeds())
    if not all(np.isfinite(a).all() for a in reference.values() if a.dtype.kind == "f"):
        return row | {"masked": "not finite"}
    row["masked_error"] = max(
        run.same("pruned", "masked", batch) for batch in ((2, 3) if graph.dynamic else (2,))
    )
    return row


def _op_name(domain: str, op_type: str) -> str:
    return f"{domain}.{op_type}".lstrip(".")


def op_names() -> Iterator[str]:
    """All ops of prunec's own that have a rule and not just a reason to be left alone, and that graphs may hold."""
    import onnx_ir

    from prunec.ir.ops.refused import Refused
    from prunec.ir.registry import OPS, find_op

    find_op(onnx_ir.node("Relu", []))  # fills the registry
    own = ((key, op) for key, op in OPS.items() if key[0] in ("", "com.microsoft"))
    names = (_op_name(*key) for key, op in own if not isinstance(op, Refused))
    return (name for name in names if name not in left_out())
