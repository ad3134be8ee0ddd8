"""``prunec bench`` on models against themselves, and on pruned models against their originals.

::

    python benchmarks/bench.py MODEL.onnx ... [--pair DENSE.onnx PRUNED.onnx] [--batch 1,8] [--check]

Each MODEL is measured against itself, ``--repeat`` times: the speed-up must be 1.00 within its own interval, which a
95 % interval allows to fail one time in 20. Each pair is measured as it is. ``promise`` is how much faster a model
would be if time followed multiplications by weights that are not zero; ``why`` are the reasons that the profiler gives
where it is not, those that cost most first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import pin_to_one_core
from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.exporters.bench.results import BenchReport

COLUMNS = (
    Column(key="first", title="model"),
    Column(key="other", title="against"),
    Column(key="batch", title="batch"),
    Column(key="p50_ms", title="p50 ms", format=".3g"),
    Column(key="other_p50_ms", title="its p50 ms", format=".3g"),
    Column(key="promise", title="promise", format=".2f"),
    Column(key="speedup", title="speed-up", format=".3f"),
    Column(key="interval", title="95 % interval"),
    Column(key="verdict", title="verdict"),
    Column(key="why", title="why"),
)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="measured against themselves")
    parser.add_argument(
        "--pair", nargs=2, action="append", type=Path, default=[], metavar=("DENSE", "PRUNED")
    )
    parser.add_argument("--batch", default="1,8", help="batch sizes (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for each batch size (default: %(default)s)"
    )
    parser.add_argument(
        "--repeat", type=int, default=1, help="of models against themselves (default: %(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="fail if models differ from themselves too often"
    )
    add_output_options(parser)
    options = parser.parse_args()
    pin_to_one_core()
    sizes = [int(word) for word in options.batch.split(",")]
    pairs = [
        *((model, model) for model in options.models for _ in range(options.repeat)),
        *map(tuple, options.pair),
    ]
    rows = [row for first, other in pairs for row in measured(first, other, sizes, options.seconds)]
    alike = [row for row in rows if row["first"] == row["other"]]
    wrong = sum(row["verdict"] != "no difference" for row in alike)
    report = Report(
        benchmark="bench",
        title="prunec bench: models against themselves, and pruned ones against their originals; one thread",
        columns=COLUMNS,
        rows=rows,
        options={"batch": sizes, "seconds": options.seconds},
        notes=[
            "speed-up: time of the model over time of the one against it, geometric mean of rounds of new sessions",
            f"of {len(alike)} comparisons of a model with itself {len(alike) - wrong} have 1.00 in their 95 % interval",
        ],
    )
    publish(report, options)
    if options.check and wrong > unlikely(len(alike)):
        raise SystemExit(f"{wrong} of {len(alike)} comparisons of a model with itself found a difference")


def unlikely(count: int) -> int:
    """How many of so many 95 % intervals fail at most, but for one time in a hundred."""
    from scipy.stats import binom

    return int(binom.ppf(0.99, count, 0.05))


def measured(first: Path, other: Path, sizes: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    """One row for each batch size."""
    import prunec

    try:
        report = prunec.bench([first, other], batches=sizes, seconds=seconds, memory=False)
    except prunec.PrunecError as error:
        raise SystemExit(error.render()) from error
    for batch in report.batches:
        yield {"first": first.stem, "other": other.stem, "batch": batch, **cells(report, batch)}


def cells(report: BenchReport, batch: int) -> dict[str, Any]:
    """What a report says about its two models at a batch size."""
    from prunec.exporters.bench.words import promise

    first, other = (report.timing(model.name, batch) for model in report.models)
    ratio = other.ratio
    assert ratio is not None
    promised = promise(*report.models)
    reasons = [r for e in report.explanations if e.batch == batch for r in e.reasons]
    return {
        "p50_ms": first.latency.p50 * 1e3,
        "other_p50_ms": other.latency.p50 * 1e3,
        "promise": promised if abs(promised - 1) > 1e-3 else None,
        "speedup": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "interval": f"{ratio.low:.3f} to {ratio.high:.3f}",
        "verdict": ratio.verdict,
        "why": ", ".join(reason.kind for reason in reasons) or None,
        "reasons": [reason.message for reason in reasons],
    }


if __name__ == "__main__":
    main()
