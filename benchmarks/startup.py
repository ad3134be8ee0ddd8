"""How fast ``prunec`` answers when there is nothing to compute.

::

    python benchmarks/startup.py [--runs 10] [--seconds 0.3]

Median wall-clock and CPU seconds of fresh processes: ``import prunec``, the help, the list of passes, and a
mistake in a pipeline. An empty Python process is measured in the same run; ``over python`` is the
wall-clock time as a multiple of that.

Exits with 1 if one of the commands imports torch, onnx, onnx_ir or onnxruntime, ends with another exit code
than it should, or takes longer than ``--seconds``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from statistics import median
from typing import Any

import processes
from report import Column, Report, add_output_options, new_parser, publish

HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "scipy", "sympy")
FORBIDDEN = frozenset({"torch", "onnx", "onnx_ir", "onnxruntime"})
COLUMNS = (
    Column(key="command", title="command"),
    Column(key="wall_seconds", title="wall s", format=".3f"),
    Column(key="cpu_seconds", title="CPU s", format=".3f"),
    Column(key="over_python", title="over python", format=".1f"),
    Column(key="heavy", title="heavy imports"),
    Column(key="outcome", title="outcome"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something to start.

    Attributes:
        name: what the table calls it.
        arguments: of Python.
        code: exit code that it must end with.
    """

    name: str
    arguments: tuple[str, ...]
    code: int = 0


def _prunec(*arguments: str) -> tuple[str, ...]:
    return (*processes.PRUNEC[1:], *arguments)


EMPTY = Command(name="python -c pass", arguments=("-c", "pass"))
COMMANDS = (
    Command(name="import prunec", arguments=("-c", "import prunec")),
    Command(name="prunec --help", arguments=_prunec("--help")),
    Command(name="prunec passes", arguments=_prunec("passes")),
    Command(
        name="prunec net.onnx -p 'prune-chanels'",
        arguments=_prunec("net.onnx", "-p", "prune-chanels"),
        code=2,
    ),
    Command(name="prunec net.onnx -p 'verify {'", arguments=_prunec("net.onnx", "-p", "verify {"), code=2),
)


def heavy_imports(command: Command) -> list[str]:
    """The heavy packages that a command imports."""
    done = processes.run([sys.executable, "-X", "importtime", *command.arguments], seconds=60)
    names = {match[1] for match in re.finditer(r"^import time:.*\|\s*([\w.]+)$", done.errors, re.MULTILINE)}
    return [name for name in HEAVY if name in names]


def measure(command: Command, runs: int, limit: float) -> dict[str, Any]:
    """Start a command several times."""
    done = [processes.run([sys.executable, *command.arguments], seconds=60) for _ in range(runs)]
    heavy = heavy_imports(command)
    wall = median(run.wall_seconds for run in done)
    wrong = [f"exit {run.code}, not {command.code}" for run in done if run.code != command.code][:1]
    wrong += [f"imports {name}" for name in heavy if name in FORBIDDEN]
    wrong += [f"over {limit} s"] * (wall > limit)
    return {
        "command": command.name,
        "wall_seconds": wall,
        "cpu_seconds": median(run.cpu_seconds for run in done),
        "heavy": " ".join(heavy) or "none",
        "outcome": ", ".join(wrong) or "ok",
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--runs", type=int, default=10, help="processes a command (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="time limit of each (default: %(default)s)"
    )
    add_output_options(parser)
    options = parser.parse_args()
    rows = [measure(command, options.runs, options.seconds) for command in (EMPTY, *COMMANDS)]
    for row in rows:
        row["over_python"] = row["wall_seconds"] / rows[0]["wall_seconds"]
    report = Report(
        benchmark="startup",
        title="Fresh processes with nothing to compute",
        columns=COLUMNS,
        rows=rows,
        options={"runs": options.runs, "seconds_limit": options.seconds},
    )
    publish(report, options)
    if any(row["outcome"] != "ok" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
