"""Tensors of ``torch`` in the IR without a copy, and back."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir
import torch
from numpy.typing import NDArray
from onnx_ir.tensor_adapters import TorchTensor, from_torch_dtype

Array = NDArray[Any]

_BITS = {
    np.dtype(ml_dtypes.bfloat16): (np.int16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
}
"""Types that numpy itself does not have: how their bits are stored, and what they are in torch."""


def wrap(tensor: torch.Tensor, name: str) -> onnx_ir.TensorProtocol:
    """A tensor of the IR over the memory of a torch tensor."""
    return TorchTensor(tensor.detach(), name)


def unwrap(tensor: onnx_ir.TensorProtocol) -> torch.Tensor:
    """A torch tensor over the memory of a tensor of the IR (over a copy, if that is read-only)."""
    if isinstance(tensor, TorchTensor):
        raw: torch.Tensor = tensor.raw
        return raw
    return from_array(tensor.numpy())


def from_array(array: Array) -> torch.Tensor:
    """A torch tensor over the memory of an array (over a copy, if that cannot be written to)."""
    ready = np.require(array, requirements=["C", "W"]).reshape(array.shape)
    if ready.dtype in _BITS:
        bits, dtype = _BITS[ready.dtype]
        return torch.from_numpy(ready.view(bits)).view(dtype)
    return torch.from_numpy(ready)


def to_array(tensor: torch.Tensor) -> Array:
    """An array with the contents of a tensor."""
    return wrap(tensor.cpu().contiguous(), "").numpy()


def element_type(dtype: torch.dtype) -> onnx_ir.DataType:
    """The element type of the IR."""
    return from_torch_dtype(dtype)
