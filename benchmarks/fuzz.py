"""Random graphs of all registered ops through random pipelines: is what comes out what the plan says?

::

    python benchmarks/fuzz.py --graphs 10000 --json benchmarks/results/fuzz.json --log fuzz.jsonl
    python benchmarks/fuzz.py --seed-from 4711 --graphs 1        # one graph again

Every graph is compiled under a pipeline drawn from its seed, with verification. Beside the verifier's verdict,
the written file is checked by ONNX, replayed from its plan (byte for byte), and run in ONNX Runtime at two batch
sizes if that is open; the original with the removed slices set to zero, made from plan and file by code of its
own (``masking.py``), has to compute the same. docs/coverage.md explains the columns.

Graphs run in processes of ``--batch`` graphs each: one that crashes, or takes more than a minute, is counted and
the next process goes on behind it. ``--log FILE`` keeps a line for each graph; graphs in it are not run again.

The exit code is 1 if any graph fails, or if some registered op that ONNX Runtime has was in no graph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import machine
import processes
from report import Column, Report, add_output_options, new_parser, publish

GOOD = ("ok", "nothing to prune", "not finite", "vacuous")
"""Verdicts with which no check failed."""
GIBIBYTES = 4.0
SIGALRM = 14
WITHOUT_KERNEL = (
    *("CausalConvWithState", "LinearAttention", "Scale", "SwiGLU", "com.microsoft.BiasAdd"),
    *("com.microsoft.BiasSoftmax", "com.microsoft.BiasSplitGelu", "com.microsoft.GatedAdd"),
    *("com.microsoft.GatedRMSNorm", "com.microsoft.GemmFastGelu", "com.microsoft.GroupNorm"),
    *("com.microsoft.MulInteger", "com.microsoft.Pad", "com.microsoft.QLinearReduceMean"),
    *("com.microsoft.ReduceSumInteger", "com.microsoft.ScaledSiLU", "com.microsoft.SkipGroupNorm"),
)
"""Ops that ONNX Runtime runs on a GPU only, or not yet: no graph has them, here or in the test suite. Their rules are
in tests/ir/op_rules.txt."""
ENOUGH = 10000
"""Graphs among which every op has to be."""
COLUMNS = (
    Column(key="opset", title="opset"),
    Column(key="graphs", title="graphs"),
    Column(key="ops", title="ops"),
    Column(key="nodes", title="nodes", format=".1f"),
    Column(key="ok", title="ok"),
    Column(key="nothing", title="nothing to prune"),
    Column(key="vacuous", title="vacuous"),
    Column(key="failures", title="failures"),
    Column(key="removed", title="removed", format=".0%"),
    Column(key="masked", title="masked by hand"),
    Column(key="error", title="error", format=".0e"),
    Column(key="seconds", title="s", format=".2f"),
)

Row = Mapping[str, Any]


class Log:
    """Rows of graphs as they come, and those of an earlier run."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, Lock()
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.rows = {row["seed"]: row for row in map(json.loads, lines)}

    def add(self, row: Row) -> None:
        """Keep a row, and say so if it is a bad one."""
        with self._lock:
            self.rows[row["seed"]] = dict(row)
            if self._path is not None:
                with self._path.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
            if row["verdict"] not in GOOD:
                print(
                    f"{row['verdict']}: {row.get('reason', '')}\n  {row.get('pipeline', '')}\n"
                    f"  python benchmarks/fuzz.py --graphs 1 --seed-from {row['seed']}",
                    file=sys.stderr,
                )


def run_batch(seeds: Sequence[int], log: Log) -> None:
    """Run graphs in processes, each as far as it gets."""
    left = list(seeds)
    while left:
        command = [sys.executable, __file__, "--seeds", ",".join(map(str, left))]
        done = processes.run(
            command, seconds=120.0 * len(left), gibibytes=GIBIBYTES, environment=machine.one_thread()
        )
        rows = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
        for row in rows:
            log.add(row)
        left = left[len(rows) :]
        if left and not (done.code == 0 and not rows):
            log.add({"seed": left.pop(0), **_ended(done)})


def _ended(done: processes.Finished) -> dict[str, Any]:
    """How a process that did not print a row for its graph came to its end."""
    if done.timed_out or done.code == -SIGALRM:
        return {"verdict": "timeout", "reason": "took too long"}
    if done.out_of_memory:
        return {"verdict": "memory", "reason": f"took more than {GIBIBYTES:g} GiB"}
    return {"verdict": "crash", "reason": f"exit code {done.code}: {done.last_words}"}


def table(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """One row an opset."""
    for opset in sorted({row["opset"] for row in rows if "opset" in row}):
        yield {"opset": opset, **_totals([row for row in rows if row.get("opset") == opset])}


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    verdicts = Counter(row["verdict"] for row in rows)
    parameters = sum(row.get("parameters", 0) for row in rows)
    return {
        "graphs": len(rows),
        "ops": len({op for row in rows for op in row["ops"]}),
        "nodes": sum(row["nodes"] for row in rows) / len(rows),
        "ok": verdicts["ok"],
        "nothing": verdicts["nothing to prune"],
        "vacuous": verdicts["vacuous"],
        "failures": sum(n for verdict, n in verdicts.items() if verdict not in (*GOOD, "vacuous")),
        "removed": sum(row.get("removed", 0) for row in rows) / max(1, parameters),
        "masked": sum(row.get("masked") == "equal" and row["verdict"] == "ok" for row in rows),
        "error": max(max(row.get("error", 0), row.get("masked_error", 0)) for row in rows),
        "seconds": sum(row["seconds"] for row in rows) / len(rows),
    }


def notes(rows: Sequence[Row], ops: Mapping[str, int], cut: Mapping[str, int]) -> Iterator[str]:
    """Lines beneath the table."""
    verdicts = Counter(row["verdict"] for row in rows)
    whole = [row for row in rows if "ops" in row]
    totals = _totals(whole) if whole else {}
    yield f"{len(rows):,} graphs: " + ", ".join(f"{n:,} {verdict}" for verdict, n in verdicts.most_common())
    if not totals:
        return
    pruned = [row for row in whole if row.get("removed")]
    halves = sum(row["removed"] >= 0.3 * row["parameters"] for row in pruned)
    yield f"{totals['removed']:.0%} of all parameters are removed; {halves:,} graphs lose 30 % or more"
    kinds = Counter(row["masked"] for row in whole if row["verdict"] == "ok")
    yield "masked by hand: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
    rounding = sum(not row.get("rounded", True) for row in whole)
    yield f"equal but for values between two integers: {rounding:,}"
    known = [name for name in ops if name in cut]
    yield f"{len([n for n in ops.values() if n])} of {len(ops)} ops with a rule appear; {len(known)} beside a cut axis"
    rare = sorted(((n, name) for name, n in ops.items() if n), key=lambda item: item[0])[:5]
    yield "rarest: " + ", ".join(f"{name} ({n} graphs)" for n, name in rare)
    yield f"worst relative error: {totals['error']:.1e}; {totals['seconds']:.2f} s a graph"


def _options() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--graphs", type=int, default=10000, help="how many (default: %(default)s)")
    parser.add_argument("--seed-from", type=int, default=0, metavar="SEED", help="of the first (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=50, help="graphs a process (default: %(default)s)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep rows here, and go on from them")
    parser.add_argument("--seeds", help=argparse.SUPPRESS)
    add_output_options(parser)
    return parser.parse_args()


def _report(rows: Sequence[Row], options: argparse.Namespace) -> Report:
    from graph_trial import op_names

    found = Counter(op for row in rows for op in row.get("ops", ()))
    cut = dict(Counter(op for row in rows for op in row.get("cut", ())))
    ops = {name: found[name] for name in sorted(op_names()) if name not in WITHOUT_KERNEL}
    return Report(
        benchmark="fuzz",
        title="Random graphs of all registered ops",
        columns=COLUMNS,
        rows=list(table(rows)),
        options={"seed_from": options.seed_from, "graphs": options.graphs, "ops": ops, "cut": cut},
        notes=list(notes(rows, ops, cut)),
    )


def main() -> None:
    options = _options()
    if options.seeds:
        from graph_trial import print_trials

        print_trials(map(int, options.seeds.split(",")))
        return
    log = Log(options.log)
    seeds = range(options.seed_from, options.seed_from + options.graphs)
    left = [seed for seed in seeds if seed not in log.rows]
    batches = [left[i : i + options.batch] for i in range(0, len(left), options.batch)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(lambda batch: run_batch(batch, log), batches):
            pass
    rows = [log.rows[seed] for seed in seeds]
    report = _report(rows, options)
    publish(report, options)
    missing = [name for name, count in report.options["ops"].items() if not count]
    if missing and options.graphs >= ENOUGH:
        print(f"no graph has {', '.join(missing)}", file=sys.stderr)
    if any(row["verdict"] not in GOOD for row in rows) or (missing and options.graphs >= ENOUGH):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
