"""Incident: 85 % of a transformer's weights are zero, operations say 6.7x, and at batch 1 nothing is faster.

The zeros are unstructured, and the kernels are dense: they read and multiply a zero like any other number. Counted in
operations the model looks fast at every batch size; it ships, and production serves one request at a time. ``prunec
bench`` measures at batch 1 first, says that the model is no faster, and why; removing whole channels is.
"""

from __future__ import annotations

import argparse

from transformer import transformer

import prunec

RATIO = 0.85


def main(seconds: float, batches: tuple[int, ...]) -> prunec.BenchReport:
    """Prune in two ways, measure, and print what the tool says.

    Args:
        seconds: for the runs of each batch size.
        batches: batch sizes.
    """
    dense = prunec.load(transformer(layers=3, width=256, heads=4, hidden=1024, tokens=16))
    zeros = prunec.run(dense, f"sparsify{{pattern=unstructured ratio={RATIO:.0%}}}", verify=False)
    channels = prunec.run(dense, "prune-channels{ratio=60%}", verify=False)
    models = {"dense": dense, "zeros": zeros.module, "channels": channels.module}
    for name, module in models.items():
        prunec.save(module, f"{name}.onnx")
    report = prunec.bench([f"{name}.onnx" for name in models], batches=batches, seconds=seconds)
    print(report)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="for each batch size (default: %(default)s)"
    )
    main(parser.parse_args().seconds, (1, 64))
