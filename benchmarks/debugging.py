"""Seconds of the tools that look into a model: inspecting a large one, reducing a planted miscompile, two more.

::

    python benchmarks/debugging.py [--large swin_t.onnx] [--broken resnet50.onnx] [--runs 3] [--check]

- ``inspect`` shows the overview of the large model: wall-clock and CPU seconds of a fresh process, the least of the
  runs, and of the modules that it imports alone;
- ``reduce`` looks for the smallest part of the other one in which the miscompile of ``planted.py`` is still proven
  wrong, two tries at a time;
- ``bisect`` finds the transform, and the channel group in it, behind which a weight is too narrow;
- ``diff`` compares it with itself after ``fold-norm``.

``result`` is what came out: nodes, or the answer. ``load`` is how many processes wanted to run at the end. Limits are
on CPU seconds, which neighbours on the machine hardly change: without any, on two cores, what takes N CPU seconds takes
no longer than N. ``--check`` fails where one is over its limit.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
from report import Column, Report, add_output_options, new_parser, publish

PLANTED = Path(__file__).with_name("planted.py")
IMPORTS = "import prunec.ir.load, prunec.passes.coupling, prunec.passes.survey, prunec.tools.inspect_tables"
NARROW = (
    "import sys, onnx; "
    "sys.exit(min(t.dims[0] for t in onnx.load(sys.argv[1]).graph.initializer if len(t.dims) == 4) < 64)"
)
COLUMNS = (
    Column(key="command", title="command"),
    Column(key="model", title="model"),
    Column(key="wall_seconds", title="wall s", format=".2f"),
    Column(key="load", title="load", format=".1f"),
    Column(key="cpu_seconds", title="CPU s", format=".2f"),
    Column(key="limit_seconds", title="limit", format=".0f"),
    Column(key="result", title="result"),
    Column(key="verdict", title="verdict"),
)


def inspect(model: Path, runs: int) -> Iterator[dict[str, Any]]:
    """The overview, and what importing costs of it."""
    for command, arguments, limit in (
        ("python -c 'import ...'", [sys.executable, "-c", IMPORTS], None),
        ("prunec inspect", [*processes.PRUNEC, "inspect", str(model)], 2.0),
    ):
        done = [processes.run(arguments, seconds=120) for _ in range(runs)]
        best = min(done, key=lambda run: run.cpu_seconds)
        nodes = re.search(r"([\d,]+) nodes(?: and ([\d,]+) of constants)?", best.output)
        counts = [int(text.replace(",", "")) for text in nodes.groups(default="0")] if nodes else []
        yield {
            **_row(command, model, best, limit),
            "result": f"{sum(counts):,} nodes" if counts else "-",
        }


def reduce(model: Path, folder: Path) -> dict[str, Any]:
    """The search for a small model that is still broken."""
    out = folder / "reduced.onnx"
    test = f"{shlex.quote(sys.executable)} {shlex.quote(str(PLANTED))} {{}}"
    done = processes.run(
        [*processes.PRUNEC, "reduce", str(model), "--test", test, "-o", str(out), "-j", "2"], seconds=900
    )
    found = re.search(r"nodes? reduced to (\d+) in (\d+) tr", done.errors)
    row = {**_row("prunec reduce", model, done, 180.0), "result": done.last_words}
    if found:
        row["result"] = f"{found[1]} nodes after {found[2]} tries"
        row["verdict"] = row["verdict"] if int(found[1]) <= 5 else f"{found[1]} nodes, over 5"
    return row


def bisect(model: Path) -> dict[str, Any]:
    """The search for the first transform, and the first group, that makes a model bad."""
    passes = (
        "canonicalize, fold-norm, prune-channels{ratio=0.3 round-to=1}, prune-channels{ratio=0.3 round-to=1}"
    )
    test = f"{shlex.quote(sys.executable)} -c {shlex.quote(NARROW)} {{}}"
    done = processes.run([*processes.PRUNEC, "bisect", str(model), "-p", passes, "--test", test], seconds=900)
    found = re.findall(r"(?:transform|part) \d+ of \d+", done.output)
    return {**_row("prunec bisect", model, done, None), "result": ", ".join(found) or done.last_words}


def diff(model: Path, folder: Path) -> dict[str, Any]:
    """The comparison of a model with what folding made of it."""
    folded = folder / "folded.onnx"
    processes.run([*processes.PRUNEC, str(model), "-p", "fold-norm", "-o", str(folded)], seconds=300)
    done = processes.run([*processes.PRUNEC, "diff", str(model), str(folded)], seconds=300)
    said = [line for line in done.output.splitlines() if "aligned values" in line]
    return {**_row("prunec diff", model, done, None), "result": said[-1] if said else done.last_words}


def _row(command: str, model: Path, done: processes.Finished, limit: float | None) -> dict[str, Any]:
    late = limit is not None and done.cpu_seconds > limit
    wrong = f"exit {done.code}" if done.code else f"over {limit:.0f} s" if late else "ok"
    return {
        "command": command,
        "model": model.stem,
        "wall_seconds": done.wall_seconds,
        "load": os.getloadavg()[0],
        "cpu_seconds": done.cpu_seconds,
        "limit_seconds": limit,
        "verdict": wrong,
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--large", type=Path, metavar="MODEL", help="model to inspect")
    parser.add_argument("--broken", type=Path, metavar="MODEL", help="model to break, with residual sums")
    parser.add_argument("--runs", type=int, default=3, help="of inspect (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="fail where a number is over its limit")
    add_output_options(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        if options.large is not None:
            rows += inspect(options.large, options.runs)
        if options.broken is not None:
            rows += [reduce(options.broken, Path(scratch)), bisect(options.broken)]
            rows += [diff(options.broken, Path(scratch))]
    report = Report(
        benchmark="debugging",
        title="Tools that look into a model",
        columns=COLUMNS,
        rows=rows,
        options={"runs": options.runs},
    )
    publish(report, options)
    if options.check and any(row["verdict"] != "ok" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
