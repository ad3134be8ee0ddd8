"""Incident: a skip projection that was forgotten, in a graph that every checker accepts.

A script narrowed a residual block to one channel and left the projection on its skip at the old eight. One channel and
eight can be added: the sum broadcasts. ONNX's checker accepts the graph, ONNX Runtime runs it, the output has the right
shape, and the model computes something else. The verifier knows what every shape must be and names the projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir
from onnx import numpy_helper

import prunec
from prunec.ir.execute import run_model
from prunec.passes.base import Context, Contract, Outcome, Pass
from prunec.passes.prune_channels import PruneChannels

NET = """
<ir_version: 9, opset_import: ["" : 17]>
saliency (float[N, 3, 8, 8] image) => (float[N, 5] scores) {
    [trunk] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, trunk)
    [projection] b = Conv <kernel_shape = [1, 1]> (image, projection)
    [sum] c = Add (a, b)
    d = Relu (c)
    [map] e = ReduceMean <axes = [1], keepdims = 0> (d)
    f = Flatten (e)
    [head] scores = MatMul (f, head)
}
"""
SHAPES = {"trunk": (8, 3, 3, 3), "projection": (8, 3, 1, 1), "head": (64, 5)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowTrunk(Pass):
    """Prune the block to one channel as somebody's script did: all but the skip."""

    name: ClassVar[str] = "narrow-trunk"
    contract: ClassVar[Contract] = "masked"

    def run(self, module: prunec.Module, context: Context) -> Outcome:
        """Cut, and put the old projection back."""
        old = module.graph.initializers["projection"].const_value
        outcome = PruneChannels(ratio=0.875, round_to=1).run(module, context)
        stale = module.graph.initializers["projection"]
        stale.const_value, stale.shape = old, onnx_ir.Shape(SHAPES["projection"])
        return outcome


def main() -> str:
    """Show what accepts the planted mistake, and what does not; returns the verifier's words."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(NET)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    dense = prunec.load(proto)
    planted = prunec.run(dense, NarrowTrunk(), verify=False).module
    prunec.save(planted, "stale.onnx")

    onnx.checker.check_model("stale.onnx", full_check=True)
    print("onnx.checker, with full shape inference: accepted")
    image = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    scores = run_model(planted, {"image": image})["scores"]
    print(f"ONNX Runtime: runs, scores {list(scores.shape)}, as they should be")
    try:
        prunec.run(dense, NarrowTrunk())
    except prunec.VerificationError as error:
        found = str(error)
        print(f"prunec:\n{found}\n(exit {error.exit_code})")
    return found


if __name__ == "__main__":
    main()
