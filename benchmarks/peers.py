"""Torch-Pruning on torchvision networks: seconds at ratio 0.5, and the share of parameters that it keeps.

It needs an environment of its own (1.4 GB), since prunec does not need torch::

    python3 -m venv peerenv
    peerenv/bin/pip install torch==2.13.0 numpy pillow rich
    peerenv/bin/pip install --no-deps torch-pruning==1.6.1 torchvision==0.28.0
    peerenv/bin/python benchmarks/peers.py --json benchmarks/results/peers-cpu.json

``--no-deps`` keeps the CPU build of torch. torchvision's own extension needs CUDA libraries then; nothing
here uses its operators, so that declaring their signatures is enough to import it.

Every network runs in a process of its own, on one thread, under a time limit. ``seconds`` is the time of
the graph (tracing) and of the pruning (grouping, importance, cutting); the networks have random weights,
which changes neither. After the cut a forward pass tells whether the network still runs; that it computes
the right thing is not checked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import machine
import processes
from report import Column, Report, add_output_options, new_parser, publish

NETWORKS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "densenet121",
    "shufflenet_v2_x1_0",
    "swin_t",
    "vit_b_16",
    "efficientnet_b0",
    "googlenet",
    "mobilenet_v3_large",
    "squeezenet1_1",
)
OPERATORS = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="graph_seconds", title="graph s", format=".2f"),
    Column(key="prune_seconds", title="prune s", format=".2f"),
    Column(key="seconds", title="total s", format=".2f"),
    Column(key="kept", title="kept", format=".3f"),
    Column(key="outcome", title="outcome"),
)


def declare_operators() -> Any:
    """Declare torchvision's compiled operators, which cannot be loaded here; keep the result alive."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for signature in OPERATORS:
        library.define(signature)
    return library


def measure(name: str) -> dict[str, Any]:
    """Prune one network in this process."""
    import torch

    torch.set_num_threads(1)
    library = declare_operators()
    import torch_pruning
    import torchvision

    torch.manual_seed(0)
    extra = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(weights=None, **extra).eval()
    example = torch.randn(1, 3, 224, 224)
    before = sum(parameter.numel() for parameter in model.parameters())
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)][-1]
    started = perf_counter()
    pruner = torch_pruning.pruner.MetaPruner(
        model,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[last],
    )
    traced = perf_counter()
    pruner.step()
    finished = perf_counter()
    with torch.no_grad():
        model(example)
    del library
    return {
        "graph_seconds": traced - started,
        "prune_seconds": finished - traced,
        "seconds": finished - started,
        "kept": sum(parameter.numel() for parameter in model.parameters()) / before,
    }


def run(name: str, seconds: float) -> dict[str, Any]:
    """Prune one network in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--one", name]
    done = processes.run(command, seconds=seconds)
    if done.timed_out:
        return {"model": name, "outcome": f"not finished after {seconds:.0f} s"}
    if done.code:
        return {"model": name, "outcome": f"fails: {done.last_words}"}
    return {"model": name, **json.loads(done.output.splitlines()[-1]), "outcome": "runs"}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="names in torchvision.models")
    parser.add_argument(
        "--seconds", type=float, default=120, help="time limit a network (default: %(default)s)"
    )
    parser.add_argument("--one", metavar="NETWORK", help=argparse.SUPPRESS)
    add_output_options(parser)
    options = parser.parse_args()
    missing = [m for m in ("torch", "torchvision", "torch_pruning") if importlib.util.find_spec(m) is None]
    if missing:
        parser.error(f"{', '.join(missing)} cannot be imported here; see --help for the environment it needs")
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    found = machine.facts(("torch", "torchvision", "torch-pruning", "numpy"))
    machine.pin_to_one_core()
    report = Report(
        benchmark="peers",
        title="Torch-Pruning, ratio 0.5, one core",
        columns=COLUMNS,
        rows=[run(name, options.seconds) for name in options.networks],
        options={"ratio": 0.5, "seconds_limit": options.seconds},
        machine=found,
    )
    publish(report, options)


if __name__ == "__main__":
    main()
