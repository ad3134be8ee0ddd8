"""Checks one ``TensorProto`` that somebody else wrote: its type, its sizes, and that its data is all
there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import onnx
import onnx_ir

from prunec.ir.diagnostics import Place, UserError

Tensor = onnx.TensorProto


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is known where a graph begins.

    Attributes:
        file: what messages call the model.
        opsets: version by domain; the default domain is the empty string.
        functions: (domain, name) of the model's own functions, whose calls no schema describes.
        names: values of the graphs around this one.
    """

    file: str
    opsets: Mapping[str, int]
    functions: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    names: frozenset[str] = field(default_factory=frozenset)

    def fail(self, message: str, *, node: str | None = None, help: str | None = None) -> NoReturn:
        """Raise the user's error, with its place."""
        raise UserError(message, place=Place(file=self.file, node=node), help=[help] if help else [])


def check_tensor(
    tensor: onnx.TensorProto, scope: Scope, *, owner: str | None = None, stored: int | None = None
) -> None:
    """Raise a ``UserError`` unless a tensor's type, sizes and amount of data fit each other.

    Args:
        tensor: the tensor; its raw data may have been taken out.
        scope: names the file in messages.
        owner: the node whose attribute it is, or None for an initializer.
        stored: bytes of raw data that were taken out, or None.
    """
    name = tensor.name or "(no name)"
    if owner is None and not tensor.name:
        scope.fail("an initializer has no name")
    if tensor.data_type not in Tensor.DataType.values() or tensor.data_type == Tensor.UNDEFINED:
        scope.fail(f"tensor `{name}` has unknown data type {tensor.data_type}", node=owner)
    if any(size < 0 for size in tensor.dims):
        scope.fail(f"tensor `{name}` has a negative size: {list(tensor.dims)}", node=owner)
    if tensor.data_location == Tensor.EXTERNAL:
        _check_external_entry(tensor, scope, owner)
        return
    has, needs, unit = _amount_of_data(tensor, stored)
    if has != needs:
        scope.fail(
            f"tensor `{name}` of shape {list(tensor.dims)} holds {has} {unit}, needs {needs}",
            node=owner,
            help="the file is damaged or was written without its weights; export it again",
        )


def byte_size(dtype: onnx_ir.DataType, count: int) -> int:
    """Bytes of ``count`` elements as files hold them: types below 8 bits are packed."""
    return math.ceil(dtype.bitwidth * count / 8)


def _amount_of_data(tensor: onnx.TensorProto, stored: int | None) -> tuple[int, int, str]:
    """How much data a tensor has and needs, and in what unit."""
    count = math.prod(tensor.dims)
    dtype = onnx_ir.DataType(tensor.data_type)
    if stored is not None or tensor.HasField("raw_data"):
        has = stored if stored is not None else len(tensor.raw_data)
        return has, byte_size(dtype, count), "bytes"
    typed = (
        tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data,
        tensor.string_data,
    )  # fmt: skip
    has = sum(len(values) for values in typed)
    if dtype in (onnx_ir.DataType.COMPLEX64, onnx_ir.DataType.COMPLEX128):
        return has, 2 * count, "numbers"
    if dtype != onnx_ir.DataType.STRING and dtype.bitwidth in (2, 4):
        return has, byte_size(dtype, count), "packed numbers"
    return has, count, "elements"


def _check_external_entry(tensor: onnx.TensorProto, scope: Scope, owner: str | None) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_type == Tensor.STRING:
        scope.fail(f"string tensor `{tensor.name}` cannot have external data", node=owner)
    if not entries.get("location"):
        scope.fail(f"tensor `{tensor.name}` has external data but no location", node=owner)
    for key in ("offset", "length"):
        if key in entries and not (entries[key].isascii() and entries[key].isdigit()):
            scope.fail(
                f"external data of tensor `{tensor.name}` has {key} `{entries[key]}`, not a number from 0 up",
                node=owner,
            )
