"""Latency of a model before and after, in turns, in ONNX Runtime with all optimisations.

::

    python benchmarks/latency.py BEFORE.onnx AFTER.onnx [--runs 50] [--threads 1] [--batch 1]

p50 and p95 in milliseconds, and the speed-up with its 95 % confidence interval from pairs of runs. Where the
interval holds 1, the verdict is ``no difference``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from report import Column, Report, add_output_options, new_parser, publish

COLUMNS = (
    Column(key="model", title="model"),
    Column(key="p50_ms", title="p50 ms", format=".2f"),
    Column(key="p95_ms", title="p95 ms", format=".2f"),
    Column(key="best_ms", title="best ms", format=".2f"),
    Column(key="speedup", title="speed-up", format=".2f"),
    Column(key="interval", title="95 % interval"),
    Column(key="verdict", title="verdict"),
)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="the original model")
    parser.add_argument("after", type=Path, metavar="AFTER", help="what was made of it")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads for one op (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="size of a free batch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: %(default)s)")
    add_output_options(parser)
    options = parser.parse_args()

    from prunec.exporters.latency import Latency, compare_latency
    from prunec.ir.diagnostics import PrunecError

    def cells(path: Path, latency: Latency) -> dict[str, float | str]:
        return {"model": path.name, **{f"{k}_ms": v * 1e3 for k, v in asdict(latency).items()}}

    asked = {name: getattr(options, name) for name in ("runs", "threads", "batch", "seed")}
    try:
        found = compare_latency(options.before, options.after, **asked)
    except PrunecError as error:
        raise SystemExit(error.render()) from error
    verdict = {
        "speedup": found.speedup,
        "interval": f"{found.low:.2f} to {found.high:.2f}",
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
    }
    report = Report(
        benchmark="latency",
        title=f"Latency in ONNX Runtime, batch {options.batch}, {options.threads} threads",
        columns=COLUMNS,
        rows=[cells(options.before, found.a), {**cells(options.after, found.b), **verdict}],
        options=asked,
    )
    publish(report, options)


if __name__ == "__main__":
    main()
