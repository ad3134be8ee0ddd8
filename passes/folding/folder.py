"""Folding the norms of one model: what to try for each kind of norm, and the rewrite."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import onnx_ir

from prunec.ir.diagnostics import RemarkLog
from prunec.ir.registry import form_of, standard_op
from prunec.passes.folding.algebra import Affine, CannotFold, batch_norm_affine
from prunec.passes.folding.constants import Constants
from prunec.passes.folding.layers import Linear, int_of, label, rank_of
from prunec.passes.folding.patterns import consumers_of, elementwise_norm, producer_of
from prunec.passes.folding.rewrite import Rewrite
from prunec.passes.pruning.filters import matches

if TYPE_CHECKING:
    from prunec.passes.fold_norm import FoldNorm

_OLDEST_OPSET = 7  # before it, Add and Gemm broadcast by attribute


class LayerNormInputs(NamedTuple):
    """Which inputs of a LayerNorm-like op are gamma and beta (None where the op has no beta)."""

    gamma: int
    beta: int | None


LAYER_NORMS = {
    "LayerNormalization": LayerNormInputs(1, 2),
    "RMSNormalization": LayerNormInputs(1, None),
    "SimplifiedLayerNormalization": LayerNormInputs(1, None),
    "SkipLayerNormalization": LayerNormInputs(2, 3),
    "SkipSimplifiedLayerNormalization": LayerNormInputs(2, None),
}
ELEMENTWISE = ("Mul", "Add", "Sub", "Div")
Kind = Literal["batch-norm", "layer-norm", "affine"]


class NormFolder:
    """Folds every norm of a model that can be folded and says of each what became of it.

    Attributes:
        statistics: counters, such as ``batch-norm found``.
    """

    def __init__(self, model: onnx_ir.Model, options: FoldNorm, remarks: RemarkLog) -> None:
        self.statistics: Counter[str] = Counter()
        self._model = model
        self._options = options
        self._remarks = remarks
        self._constants = Constants(model)

    def run(self) -> bool:
        """Visit every node of the graph and its subgraphs in order; whether anything changed."""
        for graph in tuple(self._model.graphs()):
            for node in tuple(graph):
                if node.graph is graph:
                    self._visit(node)
        for function in self._model.functions.values():
            for node in function.all_nodes():
                self._visit_in_function(node, function.name)
        self.statistics["tensors unshared"] = self._constants.unshared
        return any(count for name, count in self.statistics.items() if name.endswith(" folded"))

    def _visit(self, node: onnx_ir.Node) -> None:
        kind = _kind(node)
        if kind is None or not self._wanted(node, kind):
            return
        name = label(node)  # before its output takes another name
        try:
            done = self._fold(node, kind)
        except CannotFold as error:
            self._missed(node, kind, error)
            return
        if done is None:
            return
        self.statistics[f"{kind} found"] += 1
        if done:
            self.statistics[f"{kind} folded"] += 1
            self._remarks.passed("fold-norm", f"`{name}` is folded into {done}", node=name)
        else:
            self._remarks.analysis(
                "fold-norm", f"`{name}` has nothing to fold: gamma is 1, beta 0", node=name
            )

    def _fold(self, node: onnx_ir.Node, kind: Kind) -> str | None:
        """Fold ``node``; into what, ``""`` where there is nothing to fold, None where it is no norm."""
        outdated = (self._model.opset_imports.get("") or _OLDEST_OPSET) < _OLDEST_OPSET
        if kind == "affine":
            return None if outdated else self._affine(node)
        if outdated:
            raise CannotFold(
                f"the model's opset is older than {_OLDEST_OPSET}", help="convert it to a newer one"
            )
        return self._batch_norm(node) if kind == "batch-norm" else self._layer_norm(node)

    def _visit_in_function(self, node: onnx_ir.Node, function: str) -> None:
        kind = _kind(node)
        if kind in ("batch-norm", "layer-norm") and self._wanted(node, kind):
            error = CannotFold(f"it lies in function `{function}`", help="inline the model's functions first")
            self._missed(node, kind, error)

    def _missed(self, node: onnx_ir.Node, kind: Kind, error: CannotFold) -> None:
        self.statistics[f"{kind} found"] += 1
        self.statistics[f"{kind} missed"] += 1
        message = f"`{label(node)}` is not folded"
        self._remarks.missed("fold-norm", message, reason=error.reason, help=error.help, node=label(node))

    def _wanted(self, node: onnx_ir.Node, kind: Kind) -> bool:
        options, name = self._options, label(node)
        if (kind == "layer-norm" and not options.layer_norm) or (kind == "affine" and not options.affine):
            return False
        if options.only and not matches([name], options.only):
            return False
        return not matches([name], options.ignore)

    def _batch_norm(self, node: onnx_ir.Node) -> str:
        affine = _batch_norm_map(node, self._constants)
        try:
            linear = producer_of(node, 0, self._constants, affine.channels)
            return self._fold_behind(linear, affine, node, 0)
        except CannotFold as before:
            if node.domain:  # what lies behind is followed in ONNX's terms
                raise
            try:
                return self._fold_batch_norm_ahead(node, affine)
            except CannotFold as behind:
                reason = f"{before.reason}; {behind.reason}"
                nodes = (*before.nodes, *behind.nodes)
                raise CannotFold(reason, nodes=nodes, help=before.help or behind.help) from behind

    def _affine(self, node: onnx_ir.Node) -> str | None:
        match = elementwise_norm(node, self._constants)
        if match is None:
            return None
        index, affine = match
        linear = producer_of(node, index, self._constants, affine.channels)
        return self._fold_behind(linear, affine, node, index)

    def _layer_norm(self, node: onnx_ir.Node) -> str:
        gamma, beta = LAYER_NORMS[node.op_type]
        affine = _layer_norm_map(node, self._constants)
        if not (affine.scales or affine.shifts):
            return ""
        done = self._fold_ahead(node, -1, affine)
        dtype = self._constants.tensor(node.inputs[gamma]).dtype.numpy()
        if affine.scales:
            self._constants.replace(node, gamma, np.ones(affine.channels, dtype))
        if beta is not None and beta < len(node.inputs):
            dropped = node.inputs[beta]
            node.replace_input_with(beta, None)
            if beta == len(node.inputs) - 1:
                node.resize_inputs(beta)
            self._constants.discard(dropped)
        return done

    def _fold_batch_norm_ahead(self, node: onnx_ir.Node, affine: Affine) -> str:
        done = self._fold_ahead(node, 1, affine)
        data = node.inputs[0]
        if data is None:
            raise ValueError(f"{node.name} has no data input")
        data.shape = data.shape or node.outputs[0].shape
        node.outputs[0].replace_all_uses_with(data)
        self._remove(node)
        return done

    def _fold_behind(self, linear: Linear, affine: Affine, norm: onnx_ir.Node, index: int) -> str:
        """Fold ``norm``, which maps its input ``index`` by ``affine``, into the layer that computes it.

        The layer's output takes the norm's output's name, so that every name still means what it meant.
        """
        done = f"`{label(linear.node)}` before it"  # before the output of an unnamed node takes another name
        Rewrite.of(linear, linear.weights.followed_by(affine), self._constants).apply(self._constants)
        inner, outer = norm.inputs[index], norm.outputs[0]
        if inner is None:
            raise ValueError(f"{norm.name} has no data input")
        if outer.shape is not None and (inner.shape is None or outer.is_graph_output()):
            inner.shape = outer.shape
        inner.type = inner.type or outer.type
        outer.replace_all_uses_with(inner, replace_graph_outputs=True)
        self._remove(norm)
        inner.name = outer.name
        return done

    def _fold_ahead(self, norm: onnx_ir.Node, axis: int, affine: Affine) -> str:
        """Fold ``affine`` into every layer behind ``norm``: all of them or, on CannotFold, none.

        The values on the way lack ``affine`` then and take other names: a name means what it meant or is gone.
        """
        feeds = consumers_of(norm, axis, affine, self._constants)
        names = ", ".join(f"`{label(linear.node)}`" for linear, _ in feeds)
        rewrites = [
            Rewrite.of(linear, linear.weights.preceded_by(affine.repeated(repeats)), self._constants)
            for linear, repeats in feeds
        ]
        for rewrite in rewrites:
            rewrite.apply(self._constants)
        for value in _between(norm, {linear.node for linear, _ in feeds}):
            value.name = self._constants.fresh(f"{value.name}_unscaled")
        return f"{names} behind it"

    def _remove(self, node: onnx_ir.Node) -> None:
        inputs, graph = tuple(node.inputs), node.graph
        if graph is None:
            raise ValueError(f"{node.name} is in no graph")
        graph.remove(node, safe=True)
        self._constants.discard(*inputs)


def _between(norm: onnx_ir.Node, ends: set[onnx_ir.Node]) -> list[onnx_ir.Value]:
    """The output of ``norm``, and what is made of it on the way to the nodes ``ends``."""
    found = [norm.outputs[0]]
    for value in found:  # grows while it is read
        readers = dict.fromkeys(use.node for use in value.uses())
        found += [node.outputs[0] for node in readers if node not in ends and node.outputs[0] not in found]
    return found


def _kind(node: onnx_ir.Node) -> Kind | None:
    if standard_op(node) == "BatchNormalization":
        return "batch-norm"
    if node.op_type in LAYER_NORMS and node.domain in ("", "com.microsoft"):
        return "layer-norm"
    return "affine" if not node.domain and node.op_type in ELEMENTWISE else None


def _batch_norm_map(node: onnx_ir.Node, constants: Constants) -> Affine:
    mode = (
        "capture the module in evaluation mode: module.eval()"
        if node.domain
        else "export the model in inference mode"
    )
    if int_of(node, "training_mode", 0):
        raise CannotFold("it is in training mode, where its statistics follow the data", help=mode)
    if any(output.name for output in node.outputs[1:]):
        raise CannotFold("it also gives out its statistics, as in training", help=mode)
    if not node.attributes.get_int("spatial", 1):
        raise CannotFold("it normalises every position on its own (spatial=0)")
    if node.inputs[3] is None:
        raise CannotFold("it has no running statistics, and takes those of the batch")
    mean, variance = constants.read(node.inputs[3]), constants.read(node.inputs[4])
    gamma = np.ones_like(mean) if node.inputs[1] is None else constants.read(node.inputs[1])
    beta = np.zeros_like(mean) if node.inputs[2] is None else constants.read(node.inputs[2])
    given = form_of(node).read(node).get("epsilon")
    epsilon = float(np.float32(1e-5)) if given is None else given.as_float()  # attributes are float32
    return batch_norm_affine(gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=epsilon)


def _layer_norm_map(node: onnx_ir.Node, constants: Constants) -> Affine:
    gamma_at, beta_at = LAYER_NORMS[node.op_type]
    axis, rank = node.attributes.get_int("axis", -1), rank_of(node.outputs[0], node.inputs[0])
    if axis != -1 and axis != (rank or 0) - 1:
        raise CannotFold(f"it normalises from axis {axis} on, not the last axis alone")
    gamma = constants.read(node.inputs[gamma_at])
    has_beta = beta_at is not None and beta_at < len(node.inputs) and node.inputs[beta_at] is not None
    beta = constants.read(node.inputs[beta_at]) if has_beta and beta_at is not None else np.zeros_like(gamma)
    if gamma.ndim != 1 or beta.shape != gamma.shape:
        raise CannotFold(f"gamma has the shape {gamma.shape} and beta {beta.shape}, not one value a channel")
    if not (np.isfinite(gamma).all() and np.isfinite(beta).all()):
        raise CannotFold("its gamma or beta is not finite")
    return Affine(scale=gamma, shift=beta)
