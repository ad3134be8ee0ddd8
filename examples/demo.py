"""Prune the example through the Python API and measure what came of it: ``make demo``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import prunec
from prunec.exporters.latency import Comparison, compare_latency
from prunec.ir.execute import run_model

HERE = Path(__file__).parent
OUT = Path("demo-out")
PRUNED = OUT / "digits.pruned.onnx"
NEXT = (
    "prunec inspect examples/digits.onnx",
    "prunec examples/digits.onnx -p 'fold-norm, prune-channels{ratio=60%}' -o demo-out/60.onnx -R",
    f"prunec examples/digits.onnx --replay {OUT}/plan.json -o {OUT}/again.onnx",
)
PROVEN = {
    "same": "the outputs stay equal",
    "masked": "the outputs equal those with the removed weights set to zero instead",
    "masked-kept-statistics": "the same, where a statistic over channels is taken over the kept ones",
}


def main() -> None:
    """Prune, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=1000, help="timed runs of each model (default: %(default)s)"
    )
    runs = parser.parse_args().runs
    console = Console(width=100, highlight=False)

    original = prunec.load(HERE / "digits.onnx")
    pipeline = (HERE / "passes.txt").read_text()
    with console.status("pruning and verifying"):
        result = prunec.run(original, pipeline)
    OUT.mkdir(exist_ok=True)
    result.save(PRUNED)
    result.plan.save(OUT / "plan.json")

    held_out = np.load(HERE / "digits.npz")
    pruned = prunec.load(PRUNED)  # from here on the files are compared, not what is in memory
    with console.status("measuring"):
        images, labels = held_out["image"], held_out["label"]
        accuracy = [100 * accuracy_of(model, images, labels) for model in (original, pruned)]
        latency = compare_latency(original, pruned, runs=runs, feeds={"image": images[:1]})
    console.print(table_of(result, accuracy, latency, pruned))
    report(console, result, latency, len(labels))


def accuracy_of(model: prunec.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images [n, 1, 8, 8] that ONNX Runtime classifies right."""
    logits = run_model(model, {"image": images}, optimize=True)["logits"]
    return float((logits.argmax(axis=1) == labels).mean())


def table_of(
    result: prunec.Result, accuracy: list[float], latency: Comparison, pruned: prunec.Module
) -> Table:
    """One row a quantity: before, after, and the change."""
    table = Table(title="digits.onnx, pruned by passes.txt")
    table.add_column("")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    before, after = result.cost_before, result.cost_after
    sizes = (result.module.source.size or 0, pruned.source.size or 0)
    change = f"{accuracy[1] - accuracy[0]:+.2f} points" if accuracy[0] != accuracy[1] else "none"
    table.add_row("held-out accuracy", *(f"{value:.2f} %" for value in accuracy), change)
    table.add_row("parameters", *cells(before.parameters, after.parameters))
    table.add_row("multiply-accumulates", *cells(before.macs, after.macs))
    table.add_row("file size", *cells(*sizes, lambda size: f"{size / 1000:.0f} kB"))
    spread = f"{latency.speedup:.2f}x [{latency.low:.2f}, {latency.high:.2f}]"
    table.add_row(
        "latency, batch 1", *(f"{1e6 * x.p50:.0f} µs" for x in (latency.a, latency.b)), escape(spread)
    )
    return table


def cells(before: int, after: int, form: Callable[[int], str] = "{:,}".format) -> tuple[str, str, str]:
    """Two numbers and the change from one to the other."""
    return form(before), form(after), f"{100 * (after - before) / before:+.1f} %"


def report(console: Console, result: prunec.Result, latency: Comparison, images: int) -> None:
    """What the numbers are worth, what was verified, where the output is, what to do next."""
    console.print(
        f"Accuracy: {images} images that were not trained on. Latency: medians of {latency.runs} runs each, "
        f"in turns,\nONNX Runtime on {latency.threads} CPU thread; the change is the speed-up with its 95 % "
        "confidence interval.\n"
    )
    console.print("Verified by running the model before and after each pass on random inputs:")
    for verdict in result.verdicts:
        error = (
            f"largest relative difference {verdict.error:.0e}" if verdict.error else "no difference at all"
        )
        console.print(f"  {verdict.pass_name}: {PROVEN[verdict.equivalence]} ({error})", soft_wrap=True)
    console.print(f"\nWritten: {PRUNED} (the model), {OUT / 'plan.json'} (what was removed)\n")
    console.print("Try next (the command is in .venv/bin):")
    for command in NEXT:
        console.print(f"  {command}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
