"""Incident: pruning cost a third, quantising 7 %, and both together half as much again as the two added up.

The ranges of activations were taken from random numbers, because no samples were at hand. The dense model has
channels enough to average the coarse rounding out, and the pruned one has not. The table of the four models
(perplexity: how many digits the model hesitates between) shows that errors compound; calibrated on samples there is
nothing to show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import prunec

EXAMPLES = Path(__file__).parents[1]
PIPELINE = "fold-norm, prune-channels{ratio=60%}, quantize"


def main() -> tuple[prunec.QuantizationTable, prunec.QuantizationTable]:
    """Compare the four models, calibrated on random numbers and on samples."""
    dense = prunec.load(EXAMPLES / "digits.onnx")
    with np.load(EXAMPLES / "digits.npz") as file:
        held_out = dict(file)
    with np.load(EXAMPLES / "digits_calibration.npz") as file:
        train = dict(file)
    noise = {"image": 6 * np.random.default_rng(0).standard_normal((128, 1, 8, 8)).astype(np.float32)}
    tables = [
        prunec.quantization_table(dense, PIPELINE, held_out, calibration=samples, metric="perplexity")
        for samples in (noise, train)
    ]
    for name, table in zip(("random numbers", "samples"), tables, strict=True):
        print(f"calibrated on {name}:")
        for key in ("dense", "pruned", "quantised", "both"):
            value = getattr(table, key)
            print(f"  {key:10} {value:.3f}   loses {table.amount(table.drop(value))}")
        print(f"  warning: {table.warning}" if table.warning else "  no warning")
    return tables[0], tables[1]


if __name__ == "__main__":
    main()
