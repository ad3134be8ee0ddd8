"""Where a norm can go: linear layers before it and behind it, also across ops that move whole channels.

Everything here reads the graph and changes nothing. A match that fails raises ``CannotFold`` with the reason
and the nodes in the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir

from prunec.passes.folding.algebra import Affine, CannotFold, FloatArray, elementwise_affine
from prunec.passes.folding.constants import Constants
from prunec.passes.folding.layers import CONVOLUTIONS, LINEAR, Linear, label, linear_layer, rank_of


class Feed(NamedTuple):
    """A linear layer that reads a norm's output, and how many of its inputs each channel covers."""

    linear: Linear
    repeats: int


@dataclass(frozen=True, slots=True)
class Track:
    """A value on the way from a norm to a linear layer.

    Attributes:
        value: the value.
        axis: its channel axis; -1 for the last one where the rank is not known.
        rank: its number of axes, or None.
        flat: whether Flatten has merged the channels with the positions behind them.
    """

    value: onnx_ir.Value
    axis: int
    rank: int | None
    flat: bool = False

    @property
    def is_last(self) -> bool:
        """Whether the channel axis is known to be the last one."""
        return self.axis == -1 or (self.rank is not None and self.axis == self.rank - 1)


def producer_of(norm: onnx_ir.Node, index: int, constants: Constants, channels: int) -> Linear:
    """The linear layer that computes input ``index`` of ``norm`` for it alone, its outputs on axis 1.

    Raises:
        CannotFold: there is none.
    """
    data = norm.inputs[index]
    node = data.producer() if data is not None else None
    if data is None or node is None:
        raise CannotFold("its input is not computed by a node of this graph")
    if node.graph is not norm.graph:
        raise CannotFold(f"`{label(node)}` before it lies in an outer graph", nodes=[label(node)])
    linear = linear_layer(_behind_add(node), constants)
    if linear.output is not data:
        raise CannotFold(f"`{label(node)}` before it is not a linear layer's bias", nodes=[label(node)])
    require_only_use(data, norm)
    if linear.node.op_type == "MatMul" and rank_of(data, norm.outputs[0], linear.node.inputs[0]) != 2:
        raise CannotFold(f"`{label(node)}` is not known to put its outputs on axis 1", nodes=[label(node)])
    if node.domain:
        _require_own(linear, data)
    if linear.weights.outputs != channels:
        raise CannotFold(f"it has {channels} channels, `{label(node)}` has {linear.weights.outputs} outputs")
    return linear


def _require_own(linear: Linear, data: onnx_ir.Value) -> None:
    """See that a layer of ATen, which takes inputs of other ranks too, puts its outputs on axis 1, and that no other
    node trains its weights.

    Raises:
        CannotFold: it does not, or one does.
    """
    name = label(linear.node)
    if rank_of(data) != linear.weights.kernel.ndim:
        raise CannotFold(f"`{name}` is not known to put its outputs on axis 1", nodes=[name])
    for value in linear.node.inputs[1:3]:
        if value is not None and (count := len(value.uses())) > 1:
            raise CannotFold(f"`{value.name}` is tied: {count} nodes read it", nodes=[name])


def consumers_of(norm: onnx_ir.Node, axis: int, affine: Affine, constants: Constants) -> list[Feed]:
    """The linear layers behind ``norm`` that together are all that its output reaches.

    Args:
        norm: the norm; only its first output is followed.
        axis: the channel axis of that output, -1 for the last.
        affine: the map that is to be folded.
        constants: the model's constants.

    Raises:
        CannotFold: its output reaches anything else.
    """
    start = norm.outputs[0]
    rank = rank_of(start, norm.inputs[0])
    pending = [Track(start, axis if rank is None else axis % rank, rank)]
    feeds: list[Feed] = []
    while pending:
        track = pending.pop()
        for node, index in _uses(track.value, norm):
            if not node.domain and node.op_type in LINEAR:
                feeds.append(_feed(track, node, index, affine, constants))
            else:
                pending.append(_carry(track, node, index, affine.channels, constants))
    if not feeds:
        raise CannotFold("nothing uses its output")
    return feeds


def elementwise_norm(node: onnx_ir.Node, constants: Constants) -> tuple[int, Affine] | None:
    """Data operand and map of a per-channel Mul, Add, Sub or Div right behind a convolution, else None.

    Raises:
        CannotFold: it is one, and not affine.
    """
    for index, data in enumerate(node.inputs):
        source = data.producer() if data is not None else None
        if data is None or source is None or source.domain or source.op_type not in CONVOLUTIONS:
            continue
        try:
            kernel = constants.tensor(source.inputs[1]).shape.numpy()
            constant = constants.read(node.inputs[1 - index])
        except CannotFold:
            return None
        groups = source.attributes.get_int("group", 1)
        channels = kernel[0] if source.op_type == "Conv" else kernel[1] * groups
        vector = _per_channel(constant, len(kernel), channels)
        if vector is not None:
            return index, elementwise_affine(node.op_type, vector, constant_first=index == 1)
    return None


def require_only_use(value: onnx_ir.Value, user: onnx_ir.Node) -> None:
    """Nothing but ``user``, in the same graph, may see ``value``.

    Raises:
        CannotFold: something else does.
    """
    for node, _ in _uses(value, user):
        if node is not user:
            raise CannotFold(f"`{value.name}` is also used by `{label(node)}`", nodes=[label(node)])


def _uses(value: onnx_ir.Value, norm: onnx_ir.Node) -> Iterator[tuple[onnx_ir.Node, int]]:
    """Every use of ``value``, which must be neither a graph output nor captured by a subgraph."""
    if value.is_graph_output():
        raise CannotFold(f"`{value.name}` is a graph output")
    for node, index in tuple(value.uses()):
        if node.graph is not norm.graph:
            raise CannotFold(
                f"`{value.name}` is captured by a subgraph, at `{label(node)}`", nodes=[label(node)]
            )
        yield node, index


def _behind_add(node: onnx_ir.Node) -> onnx_ir.Node:
    """The MatMul whose bias ``node`` adds, else ``node`` itself."""
    if node.op_type != "Add" or node.domain:
        return node
    sources = [value.producer() for value in node.inputs if value is not None]
    return next((source for source in sources if source is not None and source.op_type == "MatMul"), node)


def _feed(track: Track, node: onnx_ir.Node, index: int, affine: Affine, constants: Constants) -> Feed:
    name = label(node)
    if index != 0:
        raise CannotFold(f"it is not the data input of `{name}`", nodes=[name])
    linear = linear_layer(node, constants)
    if node.op_type in CONVOLUTIONS:
        aligned = track.axis == 1
        if affine.shifts and not _covers_every_position(node):
            raise CannotFold(f"`{name}` pads its input, and the norm shifts it", nodes=[name])
    elif node.op_type == "Gemm":
        aligned = track.is_last and not node.attributes.get_int("transA", 0)
    else:
        aligned = track.is_last
    if not aligned:
        raise CannotFold(f"`{name}` is not known to reduce over the channel axis", nodes=[name])
    repeats, rest = divmod(linear.weights.inputs, affine.channels)
    if rest or (repeats != 1 and not track.flat):
        raise CannotFold(f"it has {affine.channels} channels, `{name}` has {linear.weights.inputs} inputs")
    return Feed(linear, repeats)


def _covers_every_position(node: onnx_ir.Node) -> bool:
    """Whether every kernel position meets a real input at every output: a convolution without padding."""
    if node.op_type != "Conv" or any(node.attributes.get_ints("pads", ())):
        return False
    return node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")


def _carry(track: Track, node: onnx_ir.Node, index: int, channels: int, constants: Constants) -> Track:
    """Where the channel axis is behind an op that moves whole channels and nothing more."""
    axis, rank, output = track.axis, track.rank, node.outputs[0] if node.outputs else None
    blocked = CannotFold(f"its output reaches `{label(node)}` ({node.op_type})", nodes=[label(node)])
    if output is None or node.domain or index != 0:
        raise blocked
    match node.op_type:
        case "Identity":
            return Track(output, axis, rank, track.flat)
        case "GlobalAveragePool" if axis == 1 and not track.flat:
            return Track(output, 1, rank)
        case "Flatten" if axis == 1 and node.attributes.get_int("axis", 1) == 1:
            return Track(output, 1, 2, flat=True)
        case "Transpose" if not track.flat:
            perm = node.attributes.get_ints("perm") or (range(rank)[::-1] if rank is not None else ())
            if perm:
                return Track(output, list(perm).index(axis % len(perm)), len(perm))
        case "Reshape" if track.is_last and _last_dim(node, constants) == channels and not track.flat:
            return Track(output, -1, None)
        case "Gather" if track.is_last and rank is not None and not track.flat:
            if node.attributes.get_int("axis", 0) % rank != rank - 1:
                return Track(output, -1, None)
    raise blocked


def _last_dim(node: onnx_ir.Node, constants: Constants) -> int | None:
    """The last entry of a Reshape's constant shape."""
    shape = constants.integers(node.inputs[1])
    return int(shape[-1]) if shape is not None and shape.size else None


def _per_channel(constant: FloatArray, rank: int, channels: int) -> FloatArray | None:
    """``constant`` as ``[channel]`` where axis 1 of ``rank`` axes is all that it varies over, else None."""
    if constant.ndim > rank:
        return None
    shape = (1,) * (rank - constant.ndim) + constant.shape
    if shape[1] not in (1, channels) or constant.size != shape[1]:
        return None
    return np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float64)
