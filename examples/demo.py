"""What prunec does, on the example, in five commands: ``make demo``."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prunec.tools.prunec import run

HERE = os.path.relpath(Path(__file__).parent)
MODEL, DATA, SLICES = (f"{HERE}/{name}" for name in ("digits.onnx", "digits.npz", "slices.toml"))
OUT = Path("demo-out")
PROFILE, PRUNED, BENCH = OUT / "profile.json", OUT / "digits.pruned.onnx", OUT / "bench.json"
GATE = f"gate{{slices={SLICES}}}"
BUDGET = f"fold-norm, prune-channels{{budget={PROFILE} target=macs:0.35}}, {GATE}"


def steps(seconds: float) -> list[tuple[str, list[str], int]]:
    """What is shown: a line of explanation, a command, and its exit code.

    Args:
        seconds: of measuring latencies at each batch size.
    """
    data = ["--data", DATA]
    ladder = ["--ratios", "0.1..0.7", "-o", str(PROFILE), "--plot", str(OUT / "profile.svg")]
    greedy = ["-p", f"fold-norm, prune-channels{{ratio=60%}}, {GATE}", "-o", str(OUT / "greedy.onnx")]
    compiled = [MODEL, "-p", BUDGET, *data, "-o", str(PRUNED)]
    measured = ["--batch", "1,8", "--seconds", f"{seconds:g}", "--no-memory", "--json", str(BENCH)]
    papers = ["--report", str(OUT / "report.html"), "--card", str(OUT / "card.md"), f"--bench={BENCH}"]
    return [
        (
            "1. How much of each layer can go? Mask a share of it, measure, restore.",
            ["sensitivity", MODEL, *data, *ladder],
            0,
        ),
        (
            "2. Cutting 60 % of every layer is too much, and the gate says for whom.",
            [MODEL, *greedy, *data],
            3,
        ),
        (
            "3. A budget cuts where that does least damage; every pass is verified, and the gate holds.",
            [*compiled, "--plan", str(OUT / "plan.json")],
            0,
        ),
        (
            "4. Fewer operations are not always less time: measure.",
            ["bench", MODEL, str(PRUNED), *measured],
            0,
        ),
        (
            "5. The same compile gives the same file; this time it writes down all that is known.",
            [*compiled, *papers],
            0,
        ),
    ]


def main() -> None:
    """Run the commands and show what they print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of latencies at each batch size (default: %(default)s)"
    )
    seconds = parser.parse_args().seconds
    OUT.mkdir(exist_ok=True)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for explanation, arguments, expected in steps(seconds):
        show(console, explanation, arguments)
        code = run(arguments)
        if code != expected:
            raise SystemExit(f"the command ends with exit code {code}, expected is {expected}")
        if code:
            console.print(f"(exit {code}: no model was written)", style="dim")
    console.print(f"\nOpen {OUT / 'report.html'} in a browser; beside it are profile.svg and card.md.")


def show(console: Console, explanation: str, arguments: Sequence[str]) -> None:
    """Print what comes next, and the command as one would type it."""
    console.print(f"\n{explanation}", style="bold")
    console.print(f"$ prunec {shlex.join(arguments)}", style="cyan", markup=False)


if __name__ == "__main__":
    main()
