"""Incident: a 2:4 kernel wins 1.9x in the matrix product, and the deployed model gets 1.4x faster.

The rest of the time goes to what has no weights to make sparse: products of attention's queries and keys, softmax,
norms, embeddings. Amdahl's law says so beforehand, from where the time goes: ``prunec inspect --ceiling`` needs neither
a pruned model nor the hardware with the sparse kernels.
"""

from __future__ import annotations

from transformer import transformer

import prunec
from prunec.exporters.bench.ceiling import Ceiling, ceiling

KERNEL = 1.9
"""How much faster the kernel was in a benchmark of the matrix product alone."""
SHOWN = 8


def main() -> tuple[Ceiling, Ceiling]:
    """Predict the ceiling from measured and from estimated times, and print both."""
    model = transformer(layers=2, width=256, heads=8, hidden=1024, tokens=192, vocabulary=5000)
    prunec.save(prunec.load(model), "encoder.onnx")
    measured = ceiling("encoder.onnx", kernel=KERNEL)
    estimated = ceiling("encoder.onnx", kernel=KERNEL, estimate=True)
    for found in (measured, estimated):
        print(found)
        for layer in found.layers[:SHOWN]:
            said = f"alone {layer.alone:.2f}x" if layer.eligible else layer.why_not
            print(f"  {layer.share:6.1%}  {layer.op:20} {layer.name:12} {said}")
        print(f"  and no more than {found.limit:.2f}x, however fast the kernel\n")
    return measured, estimated


if __name__ == "__main__":
    main()
