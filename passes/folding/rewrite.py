"""Writing folded weights back into the graph: computed and checked first, then applied as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.passes.folding.algebra import LinearWeights, cast_back
from prunec.passes.folding.constants import Constants
from prunec.passes.folding.layers import Linear, label


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """New weights for one linear layer, rounded to the types they had.

    Attributes:
        linear: the layer as it was matched.
        kernel: its new weight, or None where that stays.
        bias: its new bias, or None where that stays.
    """

    linear: Linear
    kernel: NDArray[np.generic] | None
    bias: NDArray[np.generic] | None

    @classmethod
    def of(cls, linear: Linear, folded: LinearWeights, constants: Constants) -> Rewrite:
        """The rewrite that gives ``linear`` the weights ``folded``.

        Raises:
            CannotFold: they do not fit into the weight's type.
        """
        dtype = constants.tensor(linear.node.inputs[1]).dtype.numpy()
        kernel = bias = None
        if folded.kernel is not linear.weights.kernel:
            kernel = cast_back(folded.kernel, dtype)
        before, after = linear.weights.bias, folded.bias
        if after is not None and (before is None or not np.array_equal(before, after)):
            bias = cast_back(after, dtype, tiny_ok=True)
        return cls(linear=linear, kernel=kernel, bias=bias)

    def apply(self, constants: Constants) -> None:
        """Change the graph; what stands between a layer and its Add takes another name, as it changes too."""
        node, slot, inner = self.linear.node, self.linear.bias, self.linear.node.outputs[0]
        name = bias_name(node)  # before the weight takes another name
        if inner is not self.linear.output:
            inner.name = constants.fresh(f"{inner.name}_no_bias")
        if self.kernel is not None:
            constants.replace(node, 1, self.kernel)
        if self.bias is None:
            return
        node.attributes.pop("beta", None)
        if slot is None:
            add_after(node, self.bias, constants, name)
        elif self.linear.weights.bias is not None:
            constants.replace(*slot, self.bias)
        else:
            constants.add(*slot, self.bias, name, like=node.inputs[1])


def bias_name(node: onnx_ir.Node) -> str:
    """What the bias of a layer that had none is called: ``conv1.bias`` beside ``conv1.weight``."""
    weight = node.inputs[1]
    name = weight.name if weight is not None and weight.name else label(node)
    return f"{name.removesuffix('weight')}bias" if name.endswith("weight") else f"{name}_bias"


def add_after(node: onnx_ir.Node, bias: NDArray[np.generic], constants: Constants, name: str) -> None:
    """Insert an Add of ``bias`` behind ``node``; its output takes over the name and uses of the node's."""
    inner, graph = node.outputs[0], node.graph
    if graph is None:
        raise ValueError(f"{node.name} is in no graph")
    shape = None if inner.shape is None else inner.shape.copy()
    outer = onnx_ir.Value(name=inner.name, type=inner.type, shape=shape)
    inner.replace_all_uses_with(outer, replace_graph_outputs=True)
    inner.name = constants.fresh(f"{inner.name}_no_bias")
    add = onnx_ir.Node("", "Add", [inner, None], outputs=[outer], name=f"{label(node)}_bias")
    add.metadata_props.update(node.metadata_props)
    graph.insert_after(node, add)
    constants.add(add, 1, bias, name)
