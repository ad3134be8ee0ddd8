"""Which layers a sparse tensor core can run with 2:4 weights, which of them gain by it, and why others do not.

What is asked of a layer is what TensorRT asks: the maintainers say on its issue tracker that convolutions
with several groups are not considered, and that sparse kernels win where there are more than 256 input and
output channels, with the kernel positions of a convolution counting as input channels. Alignment to 16 input
and 8 output channels is that of NVIDIA's ASP. A layer that is eligible may still be left to a dense kernel:
the engine builder times both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir

from prunec.ir.dialect import ATEN
from prunec.ir.facts import Facts
from prunec.ir.ops.elementwise import Elementwise
from prunec.ir.ops.quantised import Quantise
from prunec.ir.registry import find_op, site_of
from prunec.ir.rule import RuleError
from prunec.ir.site import Site
from prunec.passes.sparsity.layer import SparseLayer, SparseLayers
from prunec.passes.sparsity.patterns import no_multiple

OPS = frozenset({"Conv", "Gemm", "MatMul"})
"""Ops of the default domain for which TensorRT has sparse kernels."""

EXPORTED_TO_THEM = frozenset({"conv1d", "conv2d", "conv3d", "linear", "addmm", "mm", "matmul"})
"""Ops of ``aten`` that become one of these in an export."""

FLOATS = frozenset({onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16})
"""Types of weights that an engine holds as f16 or bf16 (f32 after conversion)."""

INPUT_ALIGNMENT, OUTPUT_ALIGNMENT = 16, 8
"""Channels have to be multiples of these."""

LEAST_CHANNELS = 256
"""Products summed for one output, and output channels, below which dense kernels are as fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligibility:
    """What sparse tensor cores can make of one contraction.

    Attributes:
        node: the contraction.
        layer: its weight; None where it is no sparse layer.
        weight: name of the weight, empty where it has none.
        reasons: why no sparse kernel can run it; empty where one can.
        small: why one that can run would not be faster, or None.
    """

    node: onnx_ir.Node
    layer: SparseLayer | None
    weight: str
    reasons: tuple[str, ...]
    small: str | None = None

    @property
    def eligible(self) -> bool:
        """Whether a sparse kernel can run it, given 2:4 weights."""
        return not self.reasons

    @property
    def profitable(self) -> bool:
        """Whether one can run it and is likely to be faster."""
        return self.eligible and self.small is None

    @property
    def why_not(self) -> str | None:
        """Why it does not profit, in one line; None where it does."""
        return "; ".join(self.reasons) or self.small


def assess(model: onnx_ir.Model, facts: Facts, found: SparseLayers) -> tuple[Eligibility, ...]:
    """The eligibility of every contraction of a model's main graph, in graph order.

    Args:
        model: the model.
        facts: its facts.
        found: its sparse layers.
    """
    layers = {node: layer for layer in found.layers for node, _ in layer.uses}
    skipped = {s.node: s for s in found.skipped}
    assessor = _Assessor(facts)
    rows = []
    for node in model.graph:
        if node in layers:
            rows.append(assessor.layer(node, layers[node]))
        elif node in skipped:
            rows.append(_no_layer(node, skipped[node].weight, skipped[node].reason))
        elif _is_product(site_of(node, facts, model.graph)):
            rows.append(_no_layer(node, "", "its weight is computed at run time"))
    return tuple(rows)


def _no_layer(node: onnx_ir.Node, weight: str, reason: str) -> Eligibility:
    return Eligibility(node=node, layer=None, weight=weight, reasons=(reason,))


def _is_product(site: Site) -> bool:
    """Whether a node sums products and is not computed from constants alone."""
    op = find_op(site.node)
    if op is None or not op.linear or all(v in site.facts.constant for v in site.node.outputs):
        return False
    try:
        return bool(op.rule(site).reduced)
    except RuleError:
        return False


@dataclass(frozen=True, slots=True)
class _Assessor:
    facts: Facts

    def layer(self, node: onnx_ir.Node, layer: SparseLayer) -> Eligibility:
        groups, outputs, _, inputs = layer.shape
        aligned = () if groups > 1 else misalignment(inputs, outputs)
        reasons = (*self._form(node, layer), *aligned)
        return Eligibility(
            node=node,
            layer=layer,
            weight=layer.value.name or "",
            reasons=reasons,
            small=None if reasons else _smallness(layer),
        )

    def _form(self, node: onnx_ir.Node, layer: SparseLayer) -> Iterator[str]:
        """What about the op and the type of its weight rules a sparse kernel out."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        exported = domain == ATEN and node.op_type.partition(".")[0] in EXPORTED_TO_THEM
        if not exported and (domain or node.op_type not in OPS):
            name = f"{domain}::{node.op_type}" if domain else node.op_type
            yield f"no sparse kernel for `{name}`"
        groups, outputs, _, inputs = layer.shape
        if groups > 1:
            what = "depthwise" if outputs == inputs == 1 else f"{groups} groups"
            yield f"{what}: each group has weights of its own"
        if layer.dtype == onnx_ir.DataType.INT8:
            yield from self._quantisation(node, layer)
        elif layer.dtype not in FLOATS:
            yield f"{layer.dtype.short_name()} weights: sparse kernels take f16, bf16 and i8"

    def _quantisation(self, node: onnx_ir.Node, layer: SparseLayer) -> Iterator[str]:
        """INT8 goes in and INT8 comes out, or the engine multiplies in another type."""
        if layer.zero.any():
            yield "its zero point is not 0"
        position = next(i for reader, i in layer.uses if reader is node)
        data = [v for i, v in enumerate(node.inputs[:2]) if i != position and v is not None]
        if not all(self._is_dequantised(v) for v in data):
            yield "INT8 weights with data that are not quantised"
        elif not _is_quantised(node.outputs[0]):
            yield "INT8 weights with an output that is not quantised"

    def _is_dequantised(self, value: onnx_ir.Value) -> bool:
        source = value.producer()
        op = None if source is None else find_op(source)
        return isinstance(op, Quantise) and op.integers


def _is_quantised(value: onnx_ir.Value) -> bool:
    """Whether everything that reads a value, past ops that an engine fuses with its maker, quantises it."""
    pending = [value]
    for current in pending:  # grows while it is read
        if current.is_graph_output() or not current.uses():
            return False
        for reader, _ in current.uses():
            op = find_op(reader)
            if isinstance(op, Elementwise):
                pending += [v for v in reader.outputs if v not in pending]
            elif not isinstance(op, Quantise) or op.integers:
                return False
    return True


def misalignment(inputs: int, outputs: int) -> Iterator[str]:
    """Why so many channels do not fill the tiles of sparse tensor cores; nothing where they do."""
    if inputs % INPUT_ALIGNMENT:
        yield no_multiple(inputs, "input", 4 if inputs % 4 else INPUT_ALIGNMENT)
    if outputs % OUTPUT_ALIGNMENT:
        yield no_multiple(outputs, "output", OUTPUT_ALIGNMENT)


def lost(rows: Iterable[Eligibility]) -> list[str]:
    """The layers that gained from sparse tensor cores and cannot run on them since their weights were cut,
    each with the reason.

    Args:
        rows: eligibility before the cut; the layers' weights are looked at as they are now.
    """
    found = []
    for layer in (row.layer for row in rows if row.profitable and row.layer is not None):
        shape, layout = tuple(layer.tensor.shape.numpy()), layer.layout
        inputs, outputs = (prod(shape[a] for a in layout.axes(kind)) for kind in ("input", "output"))
        if reasons := list(misalignment(inputs, outputs)):
            found.append(f"`{layer.name}` ({'; '.join(reasons)})")
    return found


def _smallness(layer: SparseLayer) -> str | None:
    _, outputs, positions, inputs = layer.shape
    sizes = {"summed inputs": inputs * positions, "outputs": outputs}
    small = [f"{size} {what}" for what, size in sizes.items() if size < LEAST_CHANNELS]
    return f"too small to profit: {' and '.join(small)}, below {LEAST_CHANNELS}" if small else None
