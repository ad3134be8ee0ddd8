"""What a cut costs trained networks without any training after it: plain, repaired on data, and by Torch-Pruning.

::

    python benchmarks/quality.py --folder nets --peer peerenv/bin/python --json benchmarks/results/quality.json
    python benchmarks/quality.py --render benchmarks/results/quality.json > docs/quality.md

The networks are trained here, with fixed seeds, on data that are made or that ship with Python, and kept in the folder
(``networks.py``, ``specimens.py``); this needs torch. Each is cut by the same share of every channel group, and
measured on samples that nothing has seen: accuracy, or perplexity for the decoder. ``kept`` is accuracy as a share
of the dense network's, or how many times the dense perplexity it is. ``--peer`` names a Python that has torch
and torch-pruning; it cuts the same network in torch, by the group norm, and measures it there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import machine
from report import Column, Report, add_output_options, new_parser, publish
from training import Trained, trained

RATIOS = {"digits-cnn": (0.3, 0.5), "resnet20": (0.3, 0.5), "vit": (0.3, 0.5), "decoder": (0.2, 0.3)}
"""Networks, and the shares of channels that go."""
METHODS = {
    "plain l2": "",
    "l2, bias": ", compensate{method=bias}",
    "l2, lstsq": ", compensate",
}
COLUMNS = (
    Column(key="model", title="network"),
    Column(key="ratio", title="cut", format=".0%"),
    Column(key="method", title="method"),
    Column(key="parameters", title="parameters", format=",d"),
    Column(key="macs", title="multiply-accumulates", format=",d"),
    Column(key="metric", title="metric"),
    Column(key="shown", title="value"),
    Column(key="kept_shown", title="against dense"),
    Column(key="seconds", title="seconds", format=".1f"),
)


def pipelines(ratio: float) -> Iterator[tuple[str, str]]:
    """The names of methods and what they run."""
    for criterion in ("l2", "activation", "reconstruction"):
        cut = f"fold-norm, prune-channels{{ratio={ratio:.0%} criterion={criterion} unit=head-dim round-to=1}}"
        for repair, passes in (("", ""), ("bias", ", compensate{method=bias}"), ("lstsq", ", compensate")):
            if criterion == "l2" or repair == "lstsq":
                yield f"{criterion}, compensate {repair}".removesuffix(", compensate "), cut + passes
