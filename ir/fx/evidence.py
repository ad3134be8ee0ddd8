"""Whether the tensors of a captured module still hold what they held at the capture.

A program shares its tensors with the module. What a pass cuts is a copy of then, what it leaves is what the
module holds now: after training, loading or a forward pass in training mode the two would be mixed.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir
import torch

from prunec.ir.diagnostics import UserError
from prunec.ir.fx.contents import written_constants
from prunec.ir.fx.signature import STATE, State
from prunec.ir.fx.tensors import unwrap

_EVIDENCE = "prunec.fx.evidence"
"""Key in ``Value.meta`` of a parameter or buffer: its :class:`_Evidence`."""

_HELP = (
    "capture and run again: prunec.run(prunec.trace(net, ...), pipeline)",
    "to keep the choice of channels on a module that is not cut: "
    "prunec.run(prunec.trace(net, ...), pipeline, replay=result.plan)",
    "to save a module that was cut and trained: prunec.run(prunec.trace(net, ...), 'verify').save(path)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """What a tensor was at the capture.

    Attributes:
        checksum: of its bytes.
        version: how often it had been written to.
        tensor: the tensor itself, for as long as something uses it.
    """

    checksum: int
    version: int
    tensor: weakref.ref[torch.Tensor]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Evidence:
        """Of what a tensor is now."""
        return cls(checksum=_checksum(tensor), version=tensor._version, tensor=weakref.ref(tensor))


def record_evidence(model: onnx_ir.Model) -> None:
    """Note the contents of the parameters and buffers of a program that shares them with a module."""
    for value in model.graph.initializers.values():
        state: State | None = value.meta.get(STATE)
        if value.const_value is None or state is None or state.kind == "literal":
            continue
        value.meta[_EVIDENCE] = _Evidence.of(unwrap(value.const_value))


def renew_evidence(model: onnx_ir.Model) -> None:
    """Note the contents anew where the module was trained between the capture and a run.

    As long as every tensor is still the module's own, program and module agree, whatever was written to them.
    """
    held = [
        (value, unwrap(value.const_value))
        for value in model.graph.initializers.values()
        if _EVIDENCE in value.meta and value.const_value is not None
    ]
    if all(tensor is value.meta[_EVIDENCE].tensor() for value, tensor in held):
        for value, tensor in held:
            # Batch norms write their statistics without counting it; to sum up all parameters takes too long.
            if tensor._version != value.meta[_EVIDENCE].version or value.meta[STATE].kind != "parameter":
                value.meta[_EVIDENCE] = _Evidence.of(tensor)


def require_unchanged(model: onnx_ir.Model) -> None:
    """Refuse a program of which some tensors are shared with the module and changed since the capture.

    Raises:
        UserError: the message names a tensor.
    """
    shared = ((v, e, unwrap(v.const_value)) for v, e in _evidence(model) if v.const_value is not None)
    _refuse_changed(
        [v.name or "" for v, e, held in shared if held is e.tensor() and _checksum(held) != e.checksum]
    )


def require_as_captured(model: onnx_ir.Model, own: dict[str, torch.Tensor]) -> None:
    """Refuse a module that does not hold what it held at the capture.

    Args:
        model: the program.
        own: the tensors of the module, by name.

    Raises:
        UserError: the message names a tensor.
    """
    _refuse_changed(
        [v.name or "" for v, e in _evidence(model) if v.name in own and _checksum(own[v.name]) != e.checksum]
    )


def _evidence(model: onnx_ir.Model) -> Iterator[tuple[onnx_ir.Value, _Evidence]]:
    """Per tensor what it was; without those that the program itself writes to when it runs, such as counters."""
    written = written_constants(model)
    for name, value in model.graph.initializers.items():
        if _EVIDENCE in value.meta and name not in written:
            yield value, value.meta[_EVIDENCE]


def _checksum(tensor: torch.Tensor) -> int:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy()) if flat.numel() else 0


def _refuse_changed(names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UserError(
            f"the module's weights changed since it was captured: `{names[0]}`{more}", help=list(_HELP)
        )
