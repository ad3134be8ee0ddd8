"""Masked equivalence on every model of a folder: what the verifier proves about a pruned model.

::

    python benchmarks/equivalence.py FOLDER ... [--pipeline TEXT] [--seconds 120] [--gibibytes 8] [--check]

Every model is loaded, pruned and verified in a process of its own under limits of time and memory.
``error`` is the largest relative difference between the pruned model and the original with the removed
slices set to zero, over all outputs and all transforms. ``change`` is the relative difference between the
pruned model and the original as it was: where it is no larger than the error, the probe inputs saw nothing
of the cut, and the verdict is ``vacuous``. A model that ``INDEX.json`` beside it lists as one that ONNX
Runtime does not run has to get a clear error instead.

``--check`` fails unless all models are proven (or refused as listed).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import processes
from models import ModelFile, add_model_options, chosen_models
from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.ir.module import Module

PIPELINE = "prune-channels{ratio=0.5 round-to=1}"
REFUSED = 2
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="verdict", title="verdict"),
    Column(key="kept", title="kept", format=".3f"),
    Column(key="error", title="error", format=".1e"),
    Column(key="change", title="change", format=".1e"),
    Column(key="witnesses", title="witnesses"),
    Column(key="seconds", title="s", format=".2f"),
    Column(key="peak_mib", title="peak MiB", format=".0f"),
    Column(key="reason", title="reason"),
)


def prove(path: Path, pipeline: str) -> dict[str, Any]:
    """Prune and verify one model in this process."""
    import prunec

    module = prunec.load(path)
    started = perf_counter()
    result = prunec.run(module, pipeline)
    row: dict[str, Any] = {"seconds": perf_counter() - started, "verdict": "nothing removed"}
    if result.cost_before.parameters:
        row["kept"] = result.cost_after.parameters / result.cost_before.parameters
    if result.verdicts:
        row["verdict"] = " + ".join(dict.fromkeys(verdict.equivalence for verdict in result.verdicts))
        row["error"] = max(verdict.error for verdict in result.verdicts)
        row["batch"] = result.verdicts[-1].batch
        row["change"] = change(module, result.module, row["batch"])
        row["witnesses"] = result.verdicts[-1].witnesses
        if row["change"] <= row["error"] and not row["witnesses"]:
            row["verdict"] = "vacuous"
    missed = [remark.reason for remark in result.remarks if remark.kind == "missed" and remark.reason]
    return row | {"reason": missed[0]} if missed and not result.verdicts else row


def change(before: Module, after: Module, batch: int) -> float:
    """Largest relative difference of an output that the cut makes."""
    from prunec.ir.execute import Runner, probe_feeds
    from prunec.passes.verifier.compare import relative_error

    feeds = probe_feeds(before, batch=batch)
    expected, actual = Runner(before).run(feeds), Runner(after).run(feeds)
    return max(relative_error(actual[name], array) for name, array in expected.items())


def row_of(file: ModelFile, options: argparse.Namespace, *, runs: bool) -> dict[str, Any]:
    """Prune and verify one model in a process of its own.

    Args:
        file: the model.
        options: limits and pipeline.
        runs: whether ONNX Runtime is known to run it.
    """
    path = file.path()
    command = [sys.executable, __file__, "--one", str(path), "--pipeline", options.pipeline]
    done = processes.run(command, seconds=options.seconds, gibibytes=options.gibibytes)
    row: dict[str, Any] = {
        "model": file.name,
        "seconds": done.wall_seconds,
        "peak_mib": done.peak_bytes / 2**20,
    }
    if done.timed_out:
        return row | {"verdict": "time limit", "reason": f"not finished after {options.seconds:.0f} s"}
    if done.code == 0:
        found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
        return row | found
    verdict = "refused, as listed" if done.code == REFUSED and not runs else f"exit {done.code}"
    return row | {
        "verdict": verdict,
        "reason": done.last_words.replace(f"{path}: ", "").removeprefix("error: "),
    }


def is_good(row: Mapping[str, Any]) -> bool:
    """Whether a model is proven, has nothing that could be removed, or was rightly refused."""
    return str(row["verdict"]).startswith(("masked", "same", "nothing", "refused"))


def runnable(file: ModelFile) -> bool:
    """Whether a list beside the model says that ONNX Runtime runs it; True where there is no list."""
    index = file.source.parent / "INDEX.json"
    if not index.exists():
        return True
    states = {entry["name"]: entry.get("ort_run", "ok") for entry in json.loads(index.read_text())}
    return bool(states.get(file.name, "ok") == "ok")


def prove_here(path: Path, pipeline: str) -> None:
    """Print the result for one model as JSON; exit as ``prunec`` does where that fails."""
    from prunec.ir.diagnostics import PrunecError

    try:
        print(json.dumps(prove(path, pipeline)))
    except PrunecError as error:
        print(error.render(), file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def main() -> None:
    parser = new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument("--pipeline", default=PIPELINE, help="what to run (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=120, help="time limit a model (default: %(default)s)"
    )
    parser.add_argument(
        "--gibibytes", type=float, default=8, help="memory limit a model (default: %(default)s)"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 unless every model is proven")
    parser.add_argument("--one", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    add_output_options(parser)
    options = parser.parse_args()
    if options.one is not None:
        prove_here(options.one, options.pipeline)
        return
    rows = []
    for file in chosen_models(options):
        rows.append(row_of(file, options, runs=runnable(file)))
        print(f"{file.name}: {rows[-1]['verdict']}", file=sys.stderr)
    counts = Counter("proven" if "error" in row else row["verdict"] for row in rows)
    report = Report(
        benchmark="equivalence",
        title=f"Masked equivalence after {options.pipeline}",
        columns=COLUMNS,
        rows=rows,
        options={k: getattr(options, k) for k in ("pipeline", "seconds", "gibibytes")},
        notes=[", ".join(f"{count} {what}" for what, count in counts.most_common())],
    )
    publish(report, options)
    if options.check and not all(is_good(row) for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
