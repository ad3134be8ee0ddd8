"""What is proven of a pass that makes zeros: it touched the masked weights alone, and they have their pattern.

Everything outside the masked tensors is the same to the last bit. In them every weight that goes is zero
(the zero point, for integers), every one that stays is as it was (finite, if the pass said that it gave
them new values), and the zeros have the pattern that is claimed along the axis that the op's specification
says is summed over (see ``weight_axes``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import VerificationError
from prunec.ir.module import Module
from prunec.ir.scopes import graphs_in
from prunec.passes.plan import WeightMask
from prunec.passes.verifier.advice import BUG
from prunec.passes.verifier.weight_axes import Reading, WeightAxes, readings

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskEvidence:
    """What was found about masks.

    Attributes:
        masks: how many tensors are masked.
        counted: in how many of them the pattern was counted anew.
        weights: elements of the masked tensors.
        zeros: how many of them are zero.
    """

    masks: int
    counted: int
    weights: int
    zeros: int


def check_masks(pass_name: str, before: Module, after: Module, masks: tuple[WeightMask, ...]) -> MaskEvidence:
    """Compare a module with the one that a sparsifying pass found.

    Raises:
        VerificationError: something else changed (V016), or a mask does not hold (V017).
    """
    claimed = {mask.name for mask in masks}
    if (other := next(_differences(before.graph, after.graph, claimed), None)) is not None:
        raise VerificationError(
            f"`{pass_name}` changed {other}, which no mask names", code="V016", help=[BUG]
        )
    old, new = constants_of(before.graph), constants_of(after.graph)
    counted = zeros = 0
    for mask in masks:
        found = _Masked(pass_name, mask, *new[mask.name], old[mask.name][1])
        zeros += found.check_values()
        counted += found.check_pattern()
    weights = sum(mask.zeros + int(np.count_nonzero(mask.keep())) for mask in masks)
    return MaskEvidence(masks=len(masks), counted=counted, weights=weights, zeros=zeros)


def constants_of(graph: onnx_ir.Graph) -> dict[str, tuple[onnx_ir.Value, Array]]:
    """The initializers and the outputs of ``Constant`` nodes with what they hold, by name."""
    made = (node.outputs[0] for node in graph if node.op_type == "Constant")
    found = {}
    for value in (*graph.initializers.values(), *made):
        tensor = onnx_ir.convenience.get_const_tensor(value)
        if tensor is not None and tensor.dtype != onnx_ir.DataType.STRING:
            found[value.name or ""] = value, tensor.numpy()
    return found


# -- what may not change ---------------------------------------------------------


def _differences(before: onnx_ir.Graph, after: onnx_ir.Graph, claimed: set[str]) -> Iterator[str]:
    """What differs between two graphs besides the claimed tensors."""
    for what, old, new in (
        ("the inputs", before.inputs, after.inputs),
        ("the outputs", before.outputs, after.outputs),
        ("the set of initializers", before.initializers.values(), after.initializers.values()),
    ):
        if [v.name for v in old] != [v.name for v in new]:
            yield what
    for name in (before.initializers.keys() & after.initializers.keys()) - claimed:
        if not same_bits(before.initializers[name].const_value, after.initializers[name].const_value):
            yield f"tensor `{name}`"
    old_nodes, new_nodes = list(before), list(after)
    if len(old_nodes) != len(new_nodes):
        yield "the number of nodes"
    for one, other in zip(old_nodes, new_nodes, strict=False):
        yield from _node_differences(one, other, claimed)


def _node_differences(one: onnx_ir.Node, other: onnx_ir.Node, claimed: set[str]) -> Iterator[str]:
    def names(values: Sequence[onnx_ir.Value | None]) -> list[str | None]:
        return [None if v is None else v.name for v in values]

    what = f"node `{one.name or one.outputs[0].name}`"
    same_op = (
        one.op_identifier() == other.op_identifier() and one.attributes.keys() == other.attributes.keys()
    )
    if not same_op or names(one.inputs) != names(other.inputs) or names(one.outputs) != names(other.outputs):
        yield what
        return
    for name, attribute in one.attributes.items():
        mine, theirs = attribute.value, other.attributes[name].value
        if attribute.type == onnx_ir.AttributeType.TENSOR:
            same = one.outputs[0].name in claimed or same_bits(mine, theirs)
        elif graphs := list(graphs_in(attribute)):
            pairs = zip(graphs, graphs_in(other.attributes[name]), strict=True)
            same = not any(next(_differences(g, h, set()), None) for g, h in pairs)
        else:
            same = str(mine) == str(theirs)
        if not same:
            yield what


def same_bits(one: onnx_ir.TensorProtocol | None, other: onnx_ir.TensorProtocol | None) -> bool:
    """Whether two tensors hold the same bits."""
    if one is other or one is None or other is None:
        return one is other
    if one.dtype != other.dtype or tuple(one.shape) != tuple(other.shape):
        return False
    return one.tobytes() == other.tobytes()


# -- one mask ----------------------------------------------------------------------


class _Masked:
    def __init__(
        self, pass_name: str, mask: WeightMask, value: onnx_ir.Value, after: Array, before: Array
    ) -> None:
        self.pass_name = pass_name
        self.mask = mask
        self.before = before
        self.after = after
        self.keep = mask.keep()
        self.readers = list(readings(value, self.after))

    def _fail(self, message: str) -> VerificationError:
        text = f"weight `{self.mask.name}` after `{self.pass_name}`: {message}"
        return VerificationError(text, code="V017", help=[BUG])

    def check_values(self) -> int:
        """Zeros where weights go, the old ones (or finite ones) where they stay; returns the number of zeros."""
        if self.after.shape != self.before.shape or self.after.dtype != self.before.dtype:
            raise self._fail(
                f"{self.after.dtype}{list(self.after.shape)} took the place of {self.before.dtype}"
            )
        if self.mask.updated:
            if not np.isfinite(self.after.astype(np.float32)).all():
                raise self._fail("it is not finite")
        else:
            bits = np.dtype(f"u{self.after.dtype.itemsize}")
            differ = (self.after.view(bits) != self.before.view(bits)) & self.keep
            if count := int(np.count_nonzero(differ)):
                raise self._fail(f"{count:,} weights that should stay differ from before")
        for reader in self.readers:
            if count := int(np.count_nonzero(self._nonzero(reader) & ~self.keep)):
                raise self._fail(f"{count:,} of {self.mask.zeros:,} weights that should go are not zero")
        return int(self.after.size - np.count_nonzero(self._nonzero(self.readers[0])))

    def _nonzero(self, reader: Reading) -> Array:
        return np.asarray(self.after != reader.zero.astype(self.after.dtype))

    def check_pattern(self) -> bool:
        """Count the pattern for every reader; False where the axes of one are not known."""
        for reader in self.readers:
            if reader.axes is None:
                return False
            if broken := broken_places(self.mask.pattern, self.keep, reader.axes):
                name = reader.node.name or reader.node.outputs[0].name
                raise self._fail(f"{broken:,} places break {self.mask.pattern} as `{name}` reads it")
        return True


def broken_places(pattern: str, keep: Array, axes: WeightAxes) -> int:
    """How many groups of M hold more than N that stay, or how many blocks stay in part.

    Args:
        pattern: as written in a plan.
        keep: per element of the weight, as it is stored, whether it stays.
        axes: what its axes are.
    """
    rest = [a for a in range(keep.ndim) if a not in (*axes.outputs, *axes.inputs)]
    lead = [keep.shape[a] for a in rest]
    sums = int(np.prod([keep.shape[a] for a in axes.inputs]))
    table = keep.transpose([*rest, *axes.outputs, *axes.inputs]).reshape(*lead, -1, sums)
    if pattern.startswith("block:"):
        rows, columns = map(int, pattern.removeprefix("block:").split("x"))
        blocks = table.reshape(*lead, table.shape[-2] // rows, rows, sums // columns, columns)
        counts = blocks.sum(axis=(-3, -1))
        return int(np.count_nonzero((counts > 0) & (counts < rows * columns)))
    if ":" not in pattern:
        return 0
    n, m = map(int, pattern.split(":"))
    if sums // axes.groups % m:
        return keep.size // m
    return int(np.count_nonzero(table.reshape(*lead, -1, sums // m, m).sum(axis=-1) > n))
