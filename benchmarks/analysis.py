"""Seconds of the coupling analysis on one core, and the share of parameters that survives ratio 0.5.

::

    python benchmarks/analysis.py FOLDER ... [--runs 5] [--peers benchmarks/results/peers-cpu.json] [--check]

``facts`` is shape inference and shape arithmetic, ``coupling`` everything from there to the channel groups:
medians of ``--runs`` runs after one that warms up. ``prune`` is one whole run of ``prune-channels{ratio=0.5
round-to=1}`` without verification, analysis and cost model included; ``kept`` is what is left of the
parameters.

With ``--peers`` (results of ``peers.py`` from the same machine), or with ``--peer-python`` (the Python of
its environment, to measure the peer in the same run), the last columns show Torch-Pruning on the same
architecture: ``peer / ours`` is its total time (graph and pruning) over our ``prune``.

``--check`` fails unless every analysis takes under 1 s and every known architecture keeps no more than its
limit.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import machine
from models import ModelFile, add_model_options, chosen_models
from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.ir.module import Module

PIPELINE = "prune-channels{ratio=0.5 round-to=1}"
SECONDS_LIMIT = 1.0
KEPT_LIMITS = {
    "resnet18": 0.261,
    "resnet50": 0.270,
    "densenet121": 0.287,
    "mobilenet_v2": 0.348,
    "swin_t": 0.342,
    "shufflenet_v2_x1_0": 0.366,
    "vit_b_16": 0.30,
    "efficientnet_b0": 0.321,
    "googlenet": 0.289,
    "mobilenet_v3_large": 0.314,
    "squeezenet1_1": 0.355,
}
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="nodes", title="nodes"),
    Column(key="groups", title="groups"),
    Column(key="facts_seconds", title="facts s", format=".3f"),
    Column(key="coupling_seconds", title="coupling s", format=".3f"),
    Column(key="seconds", title="sum s", format=".3f"),
    Column(key="prune_seconds", title="prune s", format=".2f"),
    Column(key="kept", title="kept", format=".3f"),
    Column(key="kept_limit", title="at most", format=".3f"),
    Column(key="verdict", title="verdict"),
    Column(key="peer_seconds", title="peer s", format=".2f"),
    Column(key="peer_kept", title="peer kept", format=".3f"),
    Column(key="ratio", title="peer / ours", format=".1f"),
)


def architecture(name: str) -> str:
    """The torchvision architecture that a model file is named after: ``tv_swin_t_dynamo`` is ``swin_t``."""
    return name.removeprefix("tv_").removesuffix("_shared").removesuffix("_dynamo")


def measure(module: Module, runs: int) -> dict[str, Any]:
    """Time the analysis of one model and prune it once."""
    import prunec
    from prunec.ir.diagnostics import PrunecError
    from prunec.ir.facts import infer_facts
    from prunec.passes.coupling import analyse

    model = module.model
    facts = infer_facts(model)
    coupling = analyse(model, facts)
    row: dict[str, Any] = {
        "nodes": len(model.graph),
        "groups": len(coupling.prunable),
        "frozen_groups": len(coupling.groups) - len(coupling.prunable),
        "facts_seconds": _median_seconds(lambda: infer_facts(model), runs),
        "coupling_seconds": _median_seconds(lambda: analyse(model, facts), runs),
    }
    row["seconds"] = row["facts_seconds"] + row["coupling_seconds"]
    started = perf_counter()
    try:
        result = prunec.run(module, PIPELINE, verify=False)
    except PrunecError as error:
        return row | {"failure": error.message}
    row["prune_seconds"] = perf_counter() - started
    if result.cost_before.parameters:
        row["kept"] = result.cost_after.parameters / result.cost_before.parameters
    return row


def _median_seconds(work: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return median(seconds)


def judge(row: Mapping[str, Any]) -> str:
    """``ok``, or what a row misses."""
    if "failure" in row:
        return str(row["failure"])
    missed = []
    if row["seconds"] >= SECONDS_LIMIT:
        missed.append("too slow")
    if "kept_limit" in row and round(row["kept"], 3) > row["kept_limit"]:
        missed.append("keeps too much")
    return ", ".join(missed) or "ok"


def row_of(file: ModelFile, runs: int, peers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Measure one model and put what is expected of it, and what the peer does, beside it."""
    import prunec
    from prunec.ir.diagnostics import PrunecError

    try:
        row = {"model": file.name, **measure(prunec.load(file.path()), runs)}
    except PrunecError as error:
        return {"model": file.name, "verdict": f"cannot be loaded: {error.message}"}
    name = architecture(file.name)
    if name in KEPT_LIMITS and file.name.startswith("tv_"):
        row["kept_limit"] = KEPT_LIMITS[name]
        peer = peers.get(name, {})
        row |= {"peer_outcome": peer.get("outcome"), "peer_kept": peer.get("kept")}
        if "seconds" in peer and "prune_seconds" in row:
            row |= {"peer_seconds": peer["seconds"], "ratio": peer["seconds"] / row["prune_seconds"]}
    return row | {"verdict": judge(row)}


def peer_results(options: argparse.Namespace) -> Mapping[str, Mapping[str, Any]]:
    """Rows of ``peers.py`` by architecture, measured now or read from a file."""
    if options.peer_python is None and options.peers is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = options.peers or Path(folder) / "peers.json"
        if options.peer_python is not None:
            script = Path(__file__).with_name("peers.py")
            subprocess.run([options.peer_python, str(script), "--json", str(path)], check=True)
        return {row["model"]: row for row in Report.load(path).rows}


def main() -> None:
    parser = new_parser(__doc__)
    add_model_options(parser)
    parser.add_argument(
        "--runs", type=int, default=5, help="timed runs of each analysis (default: %(default)s)"
    )
    parser.add_argument("--peers", type=Path, metavar="FILE", help="results of peers.py")
    parser.add_argument("--peer-python", metavar="PYTHON", help="measure the peer now, with this Python")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every limit holds")
    add_output_options(parser)
    options = parser.parse_args()
    files, found = chosen_models(options), machine.facts()
    machine.pin_to_one_core()
    peers = peer_results(options)
    rows = [row_of(file, options.runs, peers) for file in files]
    report = Report(
        benchmark="analysis",
        title="Coupling analysis on one core; prune-channels at ratio 0.5",
        columns=COLUMNS if peers else COLUMNS[:-3],
        rows=rows,
        options={"runs": options.runs, "pipeline": PIPELINE, "seconds_limit": SECONDS_LIMIT},
        notes=["peer: Torch-Pruning 1.6.1, graph and pruning; - where it fails or does not finish"]
        * bool(peers),
        machine=found,
    )
    publish(report, options)
    if options.check and any(row["verdict"] != "ok" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
