"""Kernels of a profile back to the layers of the model, as far as names allow.

ONNX Runtime fuses nodes and renames what it made: ``X/MatMulAddFusion`` comes from the node ``X``, ``X_nchwc`` is the
kernel that writes the value ``X``. A kernel that multiplies and whose name leads to an activation or a norm, fused into
it, is the contraction before that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir

from prunec.exporters.bench.profile import Kernel
from prunec.exporters.bench.results import LayerTime
from prunec.exporters.bench.work import Work
from prunec.ir.module import Module
from prunec.ir.scopes import walk

_PARTS = re.compile(r"[/_:. ]")
_COMPUTE = ("Conv", "Gemm", "MatMul", "Attention", "LSTM", "GRU", "RNN", "Einsum")
"""Parts of the names of ops that multiply, under whatever name ONNX Runtime fuses them."""
_FAR = 8
"""Nodes fused into one kernel at the most."""


def layer_times(kernels: Sequence[Kernel], module: Module, work: Mapping[str, Work]) -> tuple[LayerTime, ...]:
    """One layer for each kernel, with what the model says about it.

    Args:
        kernels: of a profile.
        module: the model, with a name for every node.
        work: what its nodes do.
    """
    nodes = assign(kernels, module, work)
    return tuple(_layer(kernel, work.get(node or "")) for kernel, node in zip(kernels, nodes, strict=True))


def _layer(kernel: Kernel, work: Work | None) -> LayerTime:
    multiplies = work is not None and work.macs > 0 and is_compute(kernel.op)
    return LayerTime(
        name=work.name if work is not None else kernel.name,
        op=kernel.op,
        layout="blocked" if kernel.blocked else "",
        seconds=kernel.seconds,
        macs=work.macs if work is not None and multiplies else 0,
        bytes=max(kernel.bytes, work.weight_bytes + work.activation_bytes)
        if work and multiplies
        else kernel.bytes,
        zeros=work.zeros if work is not None and multiplies else None,
        channels=work.channels if work is not None and multiplies else None,
    )


def is_compute(op: str) -> bool:
    """Whether a kernel multiplies matrices."""
    return any(part in op for part in _COMPUTE)


def assign(kernels: Sequence[Kernel], module: Module, work: Mapping[str, Work]) -> list[str | None]:
    """The node of each kernel, None where its name leads to none; no node that multiplies is given twice."""
    names = _Names(module)
    found = [names.find(kernel.name) for kernel in kernels]
    taken = {node.name for node in found if node is not None and _macs(node, work)}
    result: list[str | None] = []
    for kernel, node in zip(kernels, found, strict=True):
        if node is not None and is_compute(kernel.op) and not _macs(node, work):
            before = next((n for n in _fused(node) if _macs(n, work) and n.name not in taken), None)
            if before is not None:
                taken.add(before.name)
                node = before
        result.append(None if node is None else node.name)
    return result


def _macs(node: onnx_ir.Node, work: Mapping[str, Work]) -> int:
    found = work.get(node.name or "")
    return 0 if found is None else found.macs


def _fused(node: onnx_ir.Node) -> Iterator[onnx_ir.Node]:
    """The nodes before one, nearest first, as far as one kernel may reach."""
    pending = [node]
    for current in pending:  # grows while it is read
        makers = (v.producer() for v in current.inputs if v is not None)
        pending += [maker for maker in makers if maker is not None and maker not in pending]
        if len(pending) > _FAR:
            break
    yield from pending[1:]


class _Names:
    """Nodes by their names and by those of the values that they make."""

    def __init__(self, module: Module) -> None:
        nodes = list(walk(module.graph))
        self.nodes = {v.name: node for node in nodes for v in node.outputs if v.name}
        self.nodes |= {node.name: node for node in nodes if node.name}

    def find(self, name: str) -> onnx_ir.Node | None:
        """The node whose name, or whose output's, is the longest beginning of a kernel's name."""
        text = name.removeprefix("fused ")
        if text in self.nodes:
            return self.nodes[text]
        ends = [match.start() for match in _PARTS.finditer(text)]
        return next((self.nodes[text[:end]] for end in reversed(ends) if text[:end] in self.nodes), None)
