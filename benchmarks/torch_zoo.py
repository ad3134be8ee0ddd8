"""prunec and Torch-Pruning on the architectures of torchvision, timm and transformers: what comes out right, how fast.

::

    python benchmarks/torch_zoo.py --log zoo.jsonl                    # resumable; every trial is a process of its own
    python benchmarks/torch_zoo.py --log zoo.jsonl --summarise --json benchmarks/results/torch_zoo.json

Both remove half of every channel group from the same random weights and are judged alike: the result runs, every
parameter that had a gradient has a finite one of its own shape, and it computes what the module before it computes with
the removed slices at zero (``torch_oracle.py``, which knows neither tool). Ours also has to export with
``torch.onnx.export`` and compute the same in ONNX Runtime. Torch-Pruning gets a second try with hints, as its examples
give them, where it ends and is not right without. Seconds are of the CPU, on one thread: analysis and pruning of ours
(the capture is apart), graph and pruning of the other.

It needs torch 2.13.0 (CPU), torchvision 0.28.0, timm 1.0.31, transformers 5.23.0, torch-pruning 1.6.1, onnx,
onnxruntime and onnxscript in one environment; torchvision and torch-pruning are installed with ``--no-deps``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch_models
from report import add_output_options, new_parser, publish, refresh
from torch_models import Architecture
from torch_summary import is_right, report_of

SECONDS = {"ours": 120, "peer": 60, "hints": 60}
"""CPU seconds after which a trial counts as never finished."""

PAGE = Path(__file__).parents[1] / "docs" / "torch_zoo.md"

Row = dict[str, Any]


def attempt(architecture: Architecture, side: str, options: argparse.Namespace) -> Row:
    """Run one trial in a fork of this process."""
    reading, writing = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as stream:
                json.dump(_inside(architecture, side, options), stream)
        finally:
            os._exit(0)  # the loop of the parent is not the child's
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    row = json.loads(text) if text else {"outcome": f"killed ({os.waitstatus_to_exitcode(status)})"}
    return {"model": architecture.name, "side": side, **row, "wall": round(time.perf_counter() - started, 1)}


def _inside(architecture: Architecture, side: str, options: argparse.Namespace) -> Row:
    limit = SECONDS[side] + (options.export_seconds if side == "ours" else 0)
    signal.signal(signal.SIGXCPU, _too_long)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 20))
    sys.setrecursionlimit(10_000)
    from torch_trial import Trial

    trial = Trial(architecture)
    try:
        trial.build()
        if side == "ours":
            trial.ours(export=options.export, verify=options.verify)
        else:
            from torch_peer import prune

            prune(trial, hints=side == "hints")
    except _TooLong:
        trial.row["outcome"] = f"not finished after {limit} s"
    except Exception as error:  # noqa: BLE001  (whatever goes wrong is the result)
        trial.row["outcome"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        trial.row["where"] = [
            f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:]
        ]
    return trial.row


class _TooLong(BaseException):
    """The CPU time is used up."""


def _too_long(number: int, frame: Any) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # it comes again every second, also while the row is written
    raise _TooLong


def load(path: Path) -> dict[tuple[str, str], Row]:
    """Every trial of a log: what its last run measured, and of earlier ones what that did not ask (an export)."""
    rows: dict[tuple[str, str], Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        earlier = rows.get(key := (row["model"], row["side"]), {})
        rows[key] = {**earlier, **row} if is_right(earlier) and is_right(row) else row
    return rows


def sweep(options: argparse.Namespace) -> None:
    """Run the trials that the log lacks."""
    library = torch_models.preload()
    for architecture in sorted(torch_models.architectures(), key=_anyhow):
        if options.only and not any(name in architecture.name for name in options.only):
            continue
        for side in options.sides:
            done = load(options.log)
            known = done.get((architecture.name, side))
            if known is not None and not _once_more(known, options):
                continue
            plain = done.get((architecture.name, "peer"), {})
            if side == "hints" and (is_right(plain) or "not finished" in plain.get("outcome", "")):
                continue
            row = attempt(architecture, side, options)
            with options.log.open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(describe(row), flush=True)
    del library


def _once_more(row: Row, options: argparse.Namespace) -> bool:
    return bool(options.anew if is_right(row) else options.again)


def _anyhow(architecture: Architecture) -> bytes:
    """An order that knows nothing of the architectures, so that an unfinished log stands for all of them."""
    return hashlib.sha256(architecture.name.encode()).digest()


def summarise(options: argparse.Namespace) -> None:
    """Show the log as a table, store it, and bring the page up to date."""
    library = torch_models.preload()
    names = [architecture.name for architecture in torch_models.architectures()]
    publish(report_of(load(options.log), names, SECONDS), options)
    if options.json is not None and PAGE.exists():
        refresh(PAGE)
    del library


def describe(row: Row) -> str:
    """A trial as a line."""
    if "outcome" in row:
        return (
            f"{row['model']} {row['side']} FAIL {row['outcome'][:300]} {row.get('where', '')} {row['wall']}"
        )
    figures = {k: f"{v:.3g}" for k, v in row.items() if isinstance(v, float)}
    verdict = "right" if is_right(row) else "WRONG"
    return f"{row['model']} {row['side']} {verdict} {figures} {row.get('backward_error', '')}"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--log", type=Path, required=True, help="where every trial is noted (JSONL)")
    parser.add_argument("--sides", nargs="+", default=["ours", "peer", "hints"], choices=list(SECONDS))
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="only names with one of these")
    parser.add_argument("--again", action="store_true", help="try what is not right in the log once more")
    parser.add_argument(
        "--anew", action="store_true", help="try what is right in the log once more, for its seconds"
    )
    parser.add_argument("--no-export", dest="export", action="store_false", help="without ONNX")
    parser.add_argument("--verify", action="store_true", help="run prunec's own verifier, too")
    parser.add_argument("--export-seconds", type=int, default=120, help="CPU seconds more for the export")
    add_output_options(parser)
    parser.add_argument("--summarise", action="store_true", help="run nothing; make the table of the log")
    options = parser.parse_args()
    summarise(options) if options.summarise else sweep(options)


if __name__ == "__main__":
    main()
