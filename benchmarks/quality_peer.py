"""Torch-Pruning on a network of ``networks.py``: what it keeps without training.

::

    peerenv/bin/python benchmarks/quality_peer.py resnet20 nets/resnet20.pt nets/resnet20_test.npz 0.3 0

``quality.py --peer`` runs it in the environment of ``peers.py``, which has torch and torch-pruning and nothing of
prunec; it prints one line of JSON. The network is cut by the group norm (``GroupMagnitudeImportance(p=2)``), every
layer by the same share, attention in the size of its heads; the last layer keeps its outputs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from networks import NETWORKS, Attention


def measure(name: str, weights: Path, test: Path, ratio: float, characters: int) -> dict[str, Any]:
    """Cut one network and measure it on the test samples."""
    import torch
    import torch_pruning

    torch.set_num_threads(1)
    net = NETWORKS[name](characters)
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval()
    arrays = np.load(test)
    [key] = [key for key in arrays if key != "label"]
    inputs, labels = torch.from_numpy(arrays[key]), torch.from_numpy(arrays["label"])
    started = perf_counter()
    if ratio:
        pruner = torch_pruning.pruner.BasePruner(
            net,
            inputs[:2],
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[[m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1]],
            num_heads={
                layer: m.heads
                for m in net.modules()
                if isinstance(m, Attention)
                for layer in (m.query, m.key, m.value)
            },
            unwrapped_parameters=[(net.positions, 2)] if hasattr(net, "positions") else None,
        )
        pruner.step()
    seconds = perf_counter() - started
    with torch.no_grad():
        logits = torch.cat([net(part) for part in inputs.split(100)])
    if logits.ndim == 2:
        value = float((logits.argmax(dim=1) == labels).double().mean())
    else:
        value = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).exp())
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {"value": value, "parameters": parameters, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("weights", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("ratio", type=float)
    parser.add_argument("characters", type=int)
    options = parser.parse_args()
    print(json.dumps(measure(options.name, options.weights, options.test, options.ratio, options.characters)))


if __name__ == "__main__":
    main()
