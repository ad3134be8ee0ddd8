"""What happens to every model of a folder: is it pruned, is the result proven, and what stays and why.

::

    python benchmarks/zoo.py FOLDER ... [--seconds 60] [--gibibytes 4] [--title TEXT]
    python benchmarks/zoo.py FOLDER --json benchmarks/results/zoo.json --markdown docs/coverage.md

Three pipelines run on every model, each in a process of its own on one core, under limits of time and memory:
``prune-channels`` at ratios 0.3 and 0.5, and at 0.5 behind ``canonicalize, fold-norm``. Of the three, the row
of a model shows the worst verdict and the largest error, time and memory; docs/coverage.md explains the
columns. ``INDEX.json`` beside the models may say of each whether ONNX Runtime runs it (``ort_run``) and
where its weights come from (``weights``: ``trained`` or not).

``--markdown PAGE`` brings the tables of a page up to date, which it takes from stored results (``--json``).

The exit code is 1 if a model that ONNX Runtime runs does not compile, or any model crashes or hangs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import machine
import processes
from models import ModelFile, add_model_options, chosen_models
from report import Column, Report, new_parser, refresh

PIPELINES = {
    "0.3": "prune-channels{ratio=0.3 round-to=1}",
    "0.5": "prune-channels{ratio=0.5 round-to=1}",
    "0.5 folded": "canonicalize, fold-norm, prune-channels{ratio=0.5}",
}
REFUSED = "refused by ONNX Runtime"
INTOLERABLE = ("crash", "timeout", "memory", "wrong")
VERDICTS = (*INTOLERABLE, "failed", "vacuous", REFUSED, "ok", "nothing to prune")
"""The worst first."""
COMPILED = ("ok", "nothing to prune")
GOAL = 0.7
"""Share of its prunable parameters that a trained model may keep at ratio 0.5."""
LARGE = 1000
"""Nodes from which on a graph tells how the analysis grows with it."""
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="nodes", title="nodes"),
    Column(key="verdict", title="verdict"),
    Column(key="kept_shares", title="kept"),
    Column(key="prunable", title="prunable", format=".0%"),
    Column(key="prunable_shares", title="kept of it"),
    Column(key="groups", title="groups"),
    Column(key="proven", title="proven"),
    Column(key="error", title="error", format=".0e"),
    Column(key="seconds", title="s", format=".1f"),
    Column(key="peak_mib", title="MiB", format=".0f"),
    Column(key="why", title="what pins most, or why it failed"),
)


def row_of(file: ModelFile, options: argparse.Namespace, listed: Mapping[str, Any]) -> dict[str, Any]:
    """Run all pipelines on one model.

    Args:
        file: the model.
        options: the limits.
        listed: what ``INDEX.json`` says of it.
    """
    runs = {name: _trial(file.path(), pipeline, options) for name, pipeline in PIPELINES.items()}
    runnable = listed.get("ort_run", "ok") == "ok"
    for run in runs.values():
        if run["verdict"] == "failed" and not runnable:
            run["verdict"] = REFUSED
    worst = min((run["verdict"] for run in runs.values()), key=VERDICTS.index)
    failing = [name for name, run in runs.items() if run["verdict"] == worst]
    shown = next((run for run in reversed(runs.values()) if "nodes" in run), {})
    return {
        "model": file.name,
        "verdict": worst if worst in COMPILED or len(failing) == len(runs) else f"{worst} ({failing[0]})",
        "outcome": worst,
        "runnable": runnable and worst != REFUSED,
        "trained": listed.get("weights") == "trained",
        "kept_shares": _shares(runs.values(), "kept"),
        "prunable_shares": _shares(runs.values(), "prunable_kept"),
        "proven": " / ".join(dict.fromkeys(run["proven"] for run in runs.values() if "proven" in run))
        or None,
        **{key: shown.get(key) for key in ("nodes", "prunable", "groups", "analysis_seconds")},
        **{key: _largest(runs.values(), key) for key in ("error", "seconds", "peak_mib")},
        "why": _failure(runs[failing[0]]) or _reasons(shown),
        "runs": runs,
    }


def _trial(path: Path, pipeline: str, options: argparse.Namespace) -> dict[str, Any]:
    """One pipeline in a process of its own."""
    command = [sys.executable, __file__, "--one", str(path), "--pipeline", pipeline]
    done = processes.run(command, seconds=options.seconds, gibibytes=options.gibibytes)
    row: dict[str, Any] = {"seconds": done.wall_seconds, "peak_mib": done.peak_bytes / 2**20}
    if done.timed_out:
        return row | {"verdict": "timeout", "reason": f"not finished after {options.seconds:g} s"}
    if done.out_of_memory:
        return row | {"verdict": "memory", "reason": f"took more than {options.gibibytes:g} GiB"}
    if done.code:
        return row | {"verdict": "crash", "reason": f"exit code {done.code}: {done.last_words}"}
    found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    return row | found


def _shares(runs: Iterable[Mapping[str, Any]], key: str) -> str | None:
    """A share of every run, in the order of the pipelines."""
    shares = [format(run[key], ".2f") if key in run else "-" for run in runs]
    return None if set(shares) == {"-"} else " / ".join(shares)


def _largest(runs: Iterable[Mapping[str, Any]], key: str) -> float | None:
    return max((run[key] for run in runs if key in run), default=None)


def _failure(run: Mapping[str, Any]) -> str | None:
    return run.get("reason")


def _reasons(run: Mapping[str, Any]) -> str:
    """What pins most parameters, with the shares that it locks."""
    return "; ".join(
        f"{pinned['share']:.0%}: {pinned['reason']}"
        + (f" (and {pinned['places'] - 1} more such)" if pinned["places"] > 1 else "")
        for pinned in run.get("pinned", ())
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines that say how it went."""
    runnable = [row for row in rows if row["runnable"]]
    outcomes = Counter(row["outcome"] for row in rows)
    compiled = sum(row["outcome"] in COMPILED for row in runnable)
    yield f"{compiled} of the {len(runnable)} models that ONNX Runtime runs compile"
    yield ", ".join(f"{outcomes[verdict]} {verdict}" for verdict in VERDICTS)
    yield from _trained([row for row in runnable if row["trained"]])
    for key, what, unit in (("seconds", "slowest", "s"), ("peak_mib", "largest memory", "MiB")):
        yield _record(rows, itemgetter(key), what, unit)
    known = [row for row in rows if row["analysis_seconds"] is not None]
    yield _record(known, itemgetter("analysis_seconds"), "longest analysis", "CPU s")
    yield _record(
        [row for row in known if row["nodes"] >= LARGE],
        lambda row: row["analysis_seconds"] / row["nodes"] * 5000,
        f"analysis per 5,000 nodes, graphs of {LARGE:,} nodes or more, at most",
        "CPU s",
    )


def _trained(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many trained models get smaller."""
    if not rows:
        return
    for key, what in (("prunable_kept", "prunable parameters"), ("kept", "parameters")):
        smaller = sum(row["runs"]["0.5"].get(key, 1) <= GOAL for row in rows)
        yield f"{smaller} of {len(rows)} trained models lose at least {1 - GOAL:.0%} of their {what} at ratio 0.5"


def _record(
    rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float], what: str, unit: str
) -> str:
    """The row with the largest value, in words."""
    if not rows:
        return f"{what}: -"
    row = max(rows, key=value)
    return f"{what}: {value(row):,.{0 if unit == 'MiB' else 2}f} {unit} ({row['model']})"


def listed_facts(file: ModelFile) -> Mapping[str, Any]:
    """What ``INDEX.json`` beside a model says of it; nothing where there is none."""
    index = file.source.parent / "INDEX.json"
    entries = json.loads(index.read_text()) if index.exists() else []
    return next((entry for entry in entries if entry["name"] == file.name), {})


def is_good(row: Mapping[str, Any]) -> bool:
    """Whether a model compiles, or was refused as one that does not run anyway."""
    return row["outcome"] in COMPILED or row["outcome"] == REFUSED


def _report(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace, facts: machine.Facts) -> Report:
    return Report(
        benchmark="zoo",
        title=options.title,
        columns=COLUMNS,
        rows=rows,
        options={"pipelines": PIPELINES, "seconds": options.seconds, "gibibytes": options.gibibytes},
        notes=list(summary(rows)),
        machine=facts,
    )


def _options() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument("--seconds", type=float, default=60, help="time limit a run (default: %(default)s)")
    parser.add_argument(
        "--gibibytes", type=float, default=4, help="memory limit a run (default: %(default)s)"
    )
    parser.add_argument("--title", default="Every model of the zoo", help="of the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="bring the tables of a page up to date")
    parser.add_argument("--one", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    parser.add_argument("--pipeline", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.markdown is not None and options.json is None:
        parser.error("--markdown takes the tables from stored results: give --json FILE too")
    return options


def main() -> None:
    options = _options()
    if options.one is not None:
        from trial import print_trial

        print_trial(options.one, options.pipeline)
        return
    files, facts = chosen_models(options), machine.facts()
    machine.pin_to_one_core()
    rows = []
    for file in files:
        rows.append(row_of(file, options, listed_facts(file)))
        print(f"{file.name}: {rows[-1]['verdict']}", file=sys.stderr)
    report = _report(rows, options, facts)
    report.print()
    if options.json is not None:
        report.save(options.json)
    if options.markdown is not None:
        refresh(options.markdown)
    if not all(map(is_good, rows)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
