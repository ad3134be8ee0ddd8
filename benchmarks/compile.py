"""What a whole compile costs: ``prunec MODEL -p PASSES`` in a fresh process, with and without verification.

::

    python benchmarks/compile.py MODEL ... [--runs 3] [--pipeline TEXT] [--check]

Wall-clock seconds, CPU seconds of all threads and peak memory of the process that ran in the median time.
The columns behind them take one more run apart, in a fresh interpreter without the command line: imports,
loading, each pass, its verification, writing.

``--check`` fails unless every compile takes under 10 s with verification and under 2 s without: limits for
a ResNet-50.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import processes
from models import ModelFile, add_model_options, chosen_models
from report import Column, Report, add_output_options, new_parser, publish

PIPELINE = "fold-norm, prune-channels{ratio=0.5 round-to=1}, verify"
LIMITS = {True: 10.0, False: 2.0}
SECONDS = 600
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="verify", title="verify"),
    Column(key="wall_seconds", title="wall s", format=".2f"),
    Column(key="cpu_seconds", title="CPU s", format=".2f"),
    Column(key="peak_mib", title="peak MiB", format=".0f"),
    Column(key="file_mib", title="file MiB", format=".0f"),
    Column(key="breakdown", title="where the time goes"),
    Column(key="outcome", title="outcome"),
)


def breakdown(model: Path, pipeline: str, output: Path, *, verify: bool) -> dict[str, float]:
    """Seconds of every phase of a compile in this process, in order."""
    marks = [("start", perf_counter())]

    def mark(name: str) -> None:
        marks.append((name, perf_counter()))

    import prunec

    prunec.load, prunec.run, prunec.save  # noqa: B018 - resolving the names imports what they need
    mark("import")
    module = prunec.load(model)
    mark("load")
    result = prunec.run(module, pipeline, verify=verify)
    run = perf_counter() - marks[-1][1]
    mark("run")
    result.save(output)
    mark("write")
    phases = {name: later - earlier for (_, earlier), (name, later) in pairwise(marks)}
    passes: dict[str, float] = {}
    for timing in result.timings:
        passes[timing.pass_name] = timing.seconds
        if timing.verify_seconds > 1e-4:
            passes[f"verify {timing.pass_name}"] = timing.verify_seconds
    rest = {"analysis, cost": run - sum(passes.values())}
    return {"import": phases["import"], "load": phases["load"], **passes, **rest, "write": phases["write"]}


def compile_once(model: Path, pipeline: str, folder: Path, *, verify: bool) -> processes.Finished:
    """One run of the command line."""
    command = [*processes.PRUNEC, str(model), "-p", pipeline, "-o", str(folder / "out.onnx")]
    command += ["--verify" if verify else "--no-verify"]
    return processes.run(command, seconds=SECONDS)


def row_of(file: ModelFile, options: argparse.Namespace, *, verify: bool) -> dict[str, Any]:
    """Measure one model."""
    model = file.path()
    row: dict[str, Any] = {"model": file.name, "verify": "on" if verify else "off"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [compile_once(model, options.pipeline, folder, verify=verify) for _ in range(options.runs)]
        failed = next((run for run in runs if run.code), None)
        if failed is not None:
            return row | {"outcome": f"exit {failed.code}: {failed.last_words}"}
        assert (folder / "out.onnx").stat().st_size > 0
        median = sorted(runs, key=lambda run: run.wall_seconds)[len(runs) // 2]
        command = [sys.executable, __file__, "--breakdown", str(model), "--pipeline", options.pipeline]
        command += [] if verify else ["--no-verify"]
        phases = json.loads(processes.run(command, seconds=SECONDS).output.splitlines()[-1])
    return row | {
        "wall_seconds": median.wall_seconds,
        "cpu_seconds": median.cpu_seconds,
        "peak_mib": median.peak_bytes / 2**20,
        "file_mib": model.stat().st_size / 2**20,
        "phases": phases,
        "breakdown": ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in phases.items()),
        "outcome": "ok" if median.wall_seconds < LIMITS[verify] else f"over {LIMITS[verify]:.0f} s",
    }


def main() -> None:
    parser = new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument(
        "--runs", type=int, default=3, help="processes to take the median of (default: %(default)s)"
    )
    parser.add_argument("--pipeline", default=PIPELINE, help="what to run (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 unless the limits hold")
    parser.add_argument("--breakdown", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    parser.add_argument("--no-verify", action="store_true", help=argparse.SUPPRESS)
    add_output_options(parser)
    options = parser.parse_args()
    if options.breakdown is not None:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "out.onnx"
            phases = breakdown(options.breakdown, options.pipeline, output, verify=not options.no_verify)
        print(json.dumps(phases))
        return
    rows = [row_of(f, options, verify=verify) for f in chosen_models(options) for verify in (True, False)]
    report = Report(
        benchmark="compile",
        title=f"prunec MODEL -p '{options.pipeline}'",
        columns=COLUMNS,
        rows=rows,
        options={"runs": options.runs, "pipeline": options.pipeline},
        notes=["limits: 10 s with verification, 2 s without"],
    )
    publish(report, options)
    if options.check and any(row["outcome"] != "ok" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
