"""What the pass manager costs a compile when nothing watches it.

::

    python benchmarks/overhead.py MODEL ... [--pairs 9] [--check]

``run`` is ``prunec.run`` without instruments, ``by hand`` the same passes, analyses, costs and verifications called
one after the other; the two alternate in one process on one core, and seconds are those of the CPU. ``run / by
hand`` is the median over the pairs, with the range of its middle half. ``bookkeeping`` is what is left of one run
without its passes, verifications, analyses and costs, as a share of it: the manager alone, measured inside the run,
where no neighbour on the machine gets between two measurements.

``--check`` fails unless the bookkeeping is under 1 %.
"""

from __future__ import annotations

import machine

machine.pin_to_one_core()

from collections.abc import Callable, Sequence  # noqa: E402  (threads are chosen before numpy is imported)
from contextlib import ExitStack  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median, quantiles  # noqa: E402
from time import process_time  # noqa: E402
from typing import Any  # noqa: E402
from unittest.mock import patch  # noqa: E402

import prunec  # noqa: E402
from prunec.ir.diagnostics import RemarkLog  # noqa: E402
from prunec.ir.module import Module  # noqa: E402
from prunec.passes import verifier  # noqa: E402
from prunec.passes.analyses import Analyses  # noqa: E402
from prunec.passes.base import Context, Pass  # noqa: E402
from prunec.passes.pipeline import Pipeline  # noqa: E402
from report import Column, Report, add_output_options, new_parser, publish  # noqa: E402

PIPELINE = "fold-norm, prune-channels{ratio=0.5}"
LIMIT = 0.01
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="nodes", title="nodes"),
    Column(key="by_hand_seconds", title="by hand CPU s", format=".3f"),
    Column(key="run_seconds", title="run CPU s", format=".3f"),
    Column(key="ratio", title="run / by hand", format=".3f"),
    Column(key="middle", title="middle half"),
    Column(key="bookkeeping_ms", title="bookkeeping ms", format=".1f"),
    Column(key="bookkeeping", title="of a run", format=".2%"),
    Column(key="verdict", title="verdict"),
)


def by_hand(module: Module, passes: Sequence[Pass]) -> None:
    """What the manager does, without it."""
    module = module.clone()
    analyses, remarks = Analyses(module), RemarkLog()
    analyses.cost()
    for pass_ in passes:
        before = module.clone()
        outcome = pass_.run(module, Context(analyses=analyses, remarks=remarks))
        if not outcome.changed:
            continue
        analyses.keep_only(outcome.preserved)
        verifier.verify(
            pass_.name,
            before,
            module,
            analyses=analyses,
            step=outcome.step,
            predicted=outcome.predicted,
            options=outcome.options,
        )
    analyses.cost()


@dataclass(slots=True)
class Clock:
    """Adds up the CPU seconds of some functions; what one of them calls of the others counts once.

    Attributes:
        seconds: so far.
        depth: how many of the functions are running.
    """

    seconds: float = 0.0
    depth: int = 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with this clock running."""

        def inner(*arguments: Any, **options: Any) -> Any:
            self.depth += 1
            started = process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.depth -= 1
                self.seconds += 0.0 if self.depth else process_time() - started

        return inner


def bookkeeping(module: Module, passes: Sequence[Pass]) -> tuple[float, float]:
    """CPU seconds of a run less those of its passes, verifications, analyses and costs; and of all of it."""
    clock = Clock()
    worked = [*((type(pass_), "run") for pass_ in passes), (verifier, "verify")]
    worked += [(Module, "clone"), *((Analyses, name) for name in ("facts", "coupling", "cost"))]
    with ExitStack() as patches:
        for owner, name in dict.fromkeys(worked):
            patches.enter_context(patch.object(owner, name, clock.timed(getattr(owner, name))))
        started = process_time()
        prunec.run(module, Pipeline(passes=tuple(passes)))
        whole = process_time() - started
    return whole - clock.seconds, whole


def measure(path: Path, pairs: int) -> dict[str, Any]:
    """Compare both ways on one model."""
    module = prunec.load(path)
    pipeline = prunec.parse_pipeline(PIPELINE)
    passes = list(pipeline)
    ways = {"run": lambda: prunec.run(module, pipeline), "hand": lambda: by_hand(module, passes)}
    seconds: dict[str, list[float]] = {"run": [], "hand": []}
    for pair in range(pairs + 1):
        for name in sorted(ways, reverse=bool(pair % 2)):
            started = process_time()
            ways[name]()
            seconds[name].append(process_time() - started)
    warm = {name: values[1:] for name, values in seconds.items()}
    ratios = [run / hand for run, hand in zip(warm["run"], warm["hand"], strict=True)]
    left = [bookkeeping(module, passes) for _ in range(pairs)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "model": path.stem,
        "nodes": len(module.graph),
        "by_hand_seconds": median(warm["hand"]),
        "run_seconds": median(warm["run"]),
        "ratio": median(ratios),
        "middle": f"{low:.3f} to {high:.3f}",
        "bookkeeping_ms": 1000 * median(own for own, _ in left),
        "bookkeeping": (share := median(own / whole for own, whole in left)),
        "verdict": "ok" if share < LIMIT else f"over {LIMIT:.0%}",
    }


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="models")
    parser.add_argument("--pairs", type=int, default=9, help="runs of each way (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="fail where the manager costs more")
    add_output_options(parser)
    options = parser.parse_args()
    report = Report(
        benchmark="overhead",
        title=f"The pass manager on one core; {PIPELINE}, verified, nothing watches",
        columns=COLUMNS,
        rows=[measure(model, options.pairs) for model in options.models],
        options={"pairs": options.pairs},
        notes=[f"limit: {LIMIT:.0%} of a run"],
    )
    publish(report, options)
    if options.check and any(row["verdict"] != "ok" for row in report.rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
