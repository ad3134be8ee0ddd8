"""The dialect of ONNX: ONNX's own shape inference, and ONNX Runtime to run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import Blame, Dialect, Executor, LossGradients
from prunec.ir.draws import is_random
from prunec.ir.execute import Runner
from prunec.ir.facts import Facts, infer_facts
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds
from prunec.ir.proto import graphs_of, weights_of, without_weights
from prunec.ir.scopes import bodies, detach, walk
from prunec.ir.wire import SMALLEST_WEIGHT

ENDS_THE_PROCESS = ("EyeLike",)
"""Ops whose shape inference in ONNX reads the shape of an input that has none, and takes the process along."""


class OnnxDialect(Dialect):
    """See :class:`prunec.ir.dialect.Dialect`."""

    suffix = ".onnx"
    literal_sizes = False
    trains = False

    def facts(self, model: onnx_ir.Model) -> Facts:
        """By :func:`prunec.ir.facts.infer_facts`."""
        return infer_facts(model)

    def executor(
        self,
        module: Module,
        *,
        outputs: Iterable[str] | None = None,
        blame: Blame = "pass",
        optimize: bool = False,
    ) -> Executor:
        """A session of ONNX Runtime; without graph optimisations, unless they are asked for."""
        return Runner(module, outputs=outputs, blame=blame, optimize=optimize)

    def feeds(
        self, module: Module, *, seed: int = 0, sizes: Mapping[str, int] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Made from nothing but the graph."""
        return probe_feeds(module, seed=seed, sizes=sizes)

    def own_feeds(self, module: Module, *, sizes: Mapping[str, int] | None = None) -> None:
        """A file holds no inputs."""
        del module, sizes

    def draws(self, module: Module) -> bool:
        """Whether some op draws random numbers."""
        return any(is_random(node) for node in walk(module.graph))

    def runs_on_examples(self, module: Module) -> None:
        """A file holds no inputs."""
        del module

    def graph_error(self, module: Module) -> str | None:
        """What ONNX's strict shape inference has against the graph."""
        error = strict_inference_error(module)
        return None if error is None else f"ONNX's shape inference rejects the graph: {error}"

    def train_error(self, module: Module, feeds: Mapping[str, NDArray[Any]]) -> str | None:
        """None: ONNX models are not trained."""
        del module, feeds
        return None

    def loss_gradients(self, module: Module) -> LossGradients:
        """None are known: ONNX Runtime has no backward pass.

        Raises:
            UserError: always.
        """
        raise UserError(
            "gradients are known for programs of torch, and this is an ONNX model",
            place=Place(file=module.source.name),
            help=["capture the module with prunec.trace, or export it with torch.export as a .pt2 file"],
        )

    def begin(self, model: onnx_ir.Model) -> None:
        """Nothing: weights of ONNX models never change."""
        del model

    def adopt(self, value: onnx_ir.Value, like: onnx_ir.Value) -> None:
        """Constants of ONNX are all alike."""
        del value, like

    def remove_unused_nodes(self, model: onnx_ir.Model) -> None:
        """Those whose outputs nothing reads: no op of ONNX changes its inputs.

        ``onnx_ir`` takes a node out, but not the nodes in its bodies: those would go on reading what they captured.
        """
        holders = [node for node in walk(model.graph) if bodies(node)]
        while True:
            RemoveUnusedNodesPass()(model)
            live = {node for node in walk(model.graph) if bodies(node)}
            gone = [node for node in holders if node not in live]
            if not gone:
                return
            holders = [node for node in holders if node in live]
            for node in gone:
                detach(node)


def strict_inference_error(module: Module) -> str | None:
    """What ONNX's strict shape inference has against a graph, None where it accepts it.

    Large weights become inputs of the proto that is checked, and no shape is declared in advance: a stale
    ``value_info`` would
    hide the very errors that are looked for.
    """
    large = weights_of(module.model, smallest=SMALLEST_WEIGHT)
    proto = without_weights(module.model, dict.fromkeys(large, ("-", 0)))
    for graph in graphs_of(proto.graph):
        del graph.value_info[:]
    listed = {value.name for value in proto.graph.input}
    small = []
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            small.append(tensor)
        elif tensor.name not in listed:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.input.append(value)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    _set_apart(proto.graph)
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        return str(error).strip().splitlines()[-1]
    return None


def _set_apart(graph: onnx.GraphProto) -> None:
    """Make what the ops of ``ENDS_THE_PROCESS`` compute inputs of any shape."""
    apart = [node for node in graph.node if node.op_type in ENDS_THE_PROCESS and not node.domain]
    for node in apart:
        dtype = next((a.i for a in node.attribute if a.name == "dtype"), onnx.TensorProto.FLOAT)
        graph.node.remove(node)
        graph.input.append(onnx.helper.make_tensor_value_info(node.output[0], dtype, None))
