"""The log of ``torch_zoo.py`` as a table: one row an architecture, both tools side by side."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import machine
from report import Column, Report

Row = Mapping[str, Any]
Log = Mapping[tuple[str, str], Row]

PACKAGES = ("torch", "torchvision", "timm", "transformers", "torch-pruning", "numpy", "onnx", "onnxruntime")
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="millions", title="M parameters", format=".2f"),
    Column(key="captured", title="captured"),
    Column(key="ours", title="ours"),
    Column(key="onnx", title="ONNX"),
    Column(key="peer", title="Torch-Pruning"),
    Column(key="kept", title="kept", format=".3f"),
    Column(key="peer_kept", title="kept by it", format=".3f"),
    Column(key="seconds", title="s", format=".2f"),
    Column(key="peer_seconds", title="its s", format=".2f"),
    Column(key="ratio", title="its s / s", format=".1f"),
    Column(key="capture_seconds", title="capture s", format=".1f"),
)
_SLACK = 1e-3
"""Difference of the shares that are kept which counts as none: of 13 channels one keeps 7, the other 6."""


def is_right(row: Row) -> bool:
    """Whether a trial came out right: it runs, trains and computes what it should.

    Of ours the export to ONNX has to run and agree as well, where it was tried.
    """
    exact = row.get("exact") and row.get("forward") and row.get("backward", True)
    return bool(exact and row.get("onnx", True) is not False and "outcome" not in row)


def report_of(log: Log, names: Sequence[str], limits: Mapping[str, int]) -> Report:
    """The table of a log, of those architectures that prunec has been tried on.

    Args:
        log: the last row of every trial by architecture and side.
        names: all architectures, in the order of the table.
        limits: CPU seconds by side.
    """
    rows = [_row(name, log) for name in names if (name, "ours") in log]
    return Report(
        benchmark="torch_zoo",
        title="torch architectures at ratio 0.5, one thread",
        columns=COLUMNS,
        rows=rows,
        options={"ratio": 0.5, "limits": dict(limits), "architectures": len(names)},
        notes=list(_notes(rows, len(names), limits["peer"])),
        machine=machine.facts(PACKAGES),
    )


def _row(name: str, log: Log) -> dict[str, Any]:
    ours, plain, hinted = log[name, "ours"], log.get((name, "peer"), {}), log.get((name, "hints"), {})
    best = hinted if is_right(hinted) and not is_right(plain) else plain
    known = is_right(best)
    row = {
        "model": name,
        "millions": ours.get("parameters", 0) / 1e6,
        "captured": "yes" if ours.get("captured") else "no",
        "ours": "right" if is_right(ours) else _short(ours),
        "onnx": _onnx(ours),
        "peer": _verdict(plain, hinted),
        "kept": ours.get("kept") if is_right(ours) else None,
        "peer_kept": best.get("kept") if known else None,
        "seconds": ours.get("seconds"),
        "peer_seconds": best.get("seconds") or plain.get("seconds"),
        "capture_seconds": ours.get("capture_seconds"),
        "error": ours.get("error"),
        "peer_error": best.get("error"),
    }
    if row["seconds"] and row["peer_seconds"]:
        row["ratio"] = row["peer_seconds"] / row["seconds"]
    return row


def _onnx(row: Row) -> str:
    """What became of the export; a module that does not export before the cut is no fault of the cut."""
    if "onnx_before" in row:
        return "not even before"
    return {True: "equal", False: "differs", None: "not tried"}[row.get("onnx")]


def _verdict(plain: Row, hinted: Row) -> str:
    """What became of Torch-Pruning, without hints or, where that is better, with them."""
    if not plain:
        return "not tried"
    if is_right(plain):
        return "exact"
    if is_right(hinted):
        return "exact with hints"
    return _short(plain)


def _short(row: Row) -> str:
    """Why a trial is not right, in a few words."""
    outcome = str(row.get("outcome", ""))
    if "not finished" in outcome or outcome.startswith("killed"):
        return "never finishes"
    if "cannot capture" in outcome:
        return "not captured"
    if row.get("forward") and outcome:
        return "runs, cannot be compared"
    if outcome:
        return f"raises {outcome.partition(':')[0]}"
    if not row.get("cut", 1):
        return "nothing pruned"
    if not row.get("backward", True):
        return "does not train"
    return "computes something else" if row.get("onnx", True) else "differs in ONNX"


def _notes(rows: Sequence[Row], architectures: int, limit: int) -> Iterable[str]:
    captured = [r for r in rows if r["captured"] == "yes"]
    right = [r for r in rows if r["ours"] == "right"]
    exported = sum(r["onnx"] == "equal" for r in rows)
    yield (
        f"ours: {len(right)} of {len(rows)} tried are right ({len(right) / max(1, len(rows)):.1%}), of {len(captured)} "
        f"captured {sum(r['ours'] == 'right' for r in captured)}; {exported} equal in ONNX Runtime; the list has "
        f"{architectures}"
    )
    tried = [r for r in rows if r["peer"] != "not tried"]
    counts = Counter("raises" if r["peer"].startswith("raises") else r["peer"] for r in tried)
    yield f"Torch-Pruning: {', '.join(f'{n} {what}' for what, n in counts.most_common())} of {len(tried)} tried"
    yield from _speed(rows, limit)
    if seconds := [r["seconds"] for r in rows if r["seconds"] and r["millions"] < 100]:
        yield f"ours under 100 M parameters: at most {max(seconds):.2f} s, median {statistics.median(seconds):.2f} s"
    both = [r for r in rows if r["kept"] is not None and r["peer_kept"] is not None]
    more = [r["model"] for r in both if r["kept"] > r["peer_kept"] + _SLACK]
    named = f": {', '.join(more)}" if more else ""
    yield f"of {len(both)} right in both, ours keeps more parameters in {len(more)}{named}"


def _speed(rows: Sequence[Row], limit: int) -> Iterable[str]:
    """Its seconds over ours: where both are right, and with those that it does not finish at their limit."""
    ours = [r for r in rows if r["ours"] == "right" and r["seconds"]]
    both = [r["ratio"] for r in ours if "ratio" in r and r["peer"].startswith("exact")]
    endless = [limit / r["seconds"] for r in ours if r["peer"] == "never finishes"]
    if both:
        yield (
            f"its seconds over ours, both right: median {statistics.median(both):.1f}, from {min(both):.1f} to "
            f"{max(both):.1f}, {len(both)} models; with {len(endless)} that it does not finish, at {limit} s: median "
            f"{statistics.median([*both, *endless]):.1f}"
        )
    by_source: dict[str, list[float]] = {}
    for row in ours:
        if "ratio" in row and row["peer"].startswith("exact"):
            source = row["model"].partition("/")[0] if "/" in row["model"] else "torchvision"
            by_source.setdefault(source, []).append(row["ratio"])
    if by_source:
        yield "medians: " + ", ".join(f"{k} {statistics.median(v):.1f}" for k, v in sorted(by_source.items()))
