"""The handful of functions of the CUDA driver that running an engine needs, called where the driver is installed.

They are called through ``ctypes``: every machine with an NVIDIA GPU has ``libcuda``, and no package has to match it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import PassFailure

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_COMPUTE_CAPABILITY = (75, 76)
"""The driver's numbers of the attributes major and minor compute capability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The first GPU of this machine.

    Attributes:
        name: what its maker calls it.
        capability: compute capability, such as (9, 0).
        driver: the loaded library.
        handle: the driver's number of the device.
    """

    name: str
    capability: tuple[int, int]
    driver: Any
    handle: int

    @property
    def has_sparse_cores(self) -> bool:
        """Whether its tensor cores multiply 2:4 matrices (NVIDIA Ampere and later)."""
        return self.capability >= (8, 0)

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


def find_gpu() -> tuple[Gpu | None, str]:
    """The first GPU, and, where there is none, the reason."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return None, "no NVIDIA driver is installed"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None, "the NVIDIA driver finds no GPU"
    handle, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(driver.cuDeviceGet(ctypes.byref(handle), 0), "cuDeviceGet")
    _check(driver.cuDeviceGetName(name, len(name), handle), "cuDeviceGetName")
    parts = [ctypes.c_int(), ctypes.c_int()]
    for part, attribute in zip(parts, _COMPUTE_CAPABILITY, strict=True):
        _check(driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, handle), "cuDeviceGetAttribute")
    capability = (parts[0].value, parts[1].value)
    return Gpu(name=name.value.decode(), capability=capability, driver=driver, handle=handle.value), ""


@contextmanager
def open_device(gpu: Gpu) -> Iterator[Device]:
    """Use a GPU until the block ends; its memory is given back then.

    Raises:
        PassFailure: the driver refuses.
    """
    context, stream = ctypes.c_void_p(), ctypes.c_void_p()
    _check(gpu.driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), gpu.handle), "cuDevicePrimaryCtxRetain")
    try:
        _check(gpu.driver.cuCtxSetCurrent(context), "cuCtxSetCurrent")
        _check(gpu.driver.cuStreamCreate(ctypes.byref(stream), 0), "cuStreamCreate")
        device = Device(driver=gpu.driver, stream=int(stream.value or 0))
        try:
            yield device
        finally:
            device.close()
    finally:
        gpu.driver.cuDevicePrimaryCtxRelease(gpu.handle)


class Device:
    """Memory and a stream of a GPU.

    Args:
        driver: the loaded library.
        stream: the stream's address.
    """

    def __init__(self, *, driver: Any, stream: int) -> None:
        self._driver = driver
        self._allocated: list[int] = []
        self.stream = stream

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes of its memory (at least one)."""
        address = ctypes.c_uint64()
        _check(self._driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(1, size))), "cuMemAlloc")
        self._allocated.append(address.value)
        return address.value

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array to an address."""
        ready = np.ascontiguousarray(array)
        pointer, size = ctypes.c_void_p(ready.ctypes.data), ctypes.c_size_t(ready.nbytes)
        if ready.nbytes:
            _check(self._driver.cuMemcpyHtoD_v2(ctypes.c_uint64(address), pointer, size), "cuMemcpyHtoD")

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Copy from an address into an array, in place."""
        pointer, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        if array.nbytes:
            _check(self._driver.cuMemcpyDtoH_v2(pointer, ctypes.c_uint64(address), size), "cuMemcpyDtoH")

    def synchronize(self) -> None:
        """Wait until the stream has done everything."""
        _check(self._driver.cuStreamSynchronize(ctypes.c_void_p(self.stream)), "cuStreamSynchronize")

    def close(self) -> None:
        """Give everything back."""
        for address in self._allocated:
            self._driver.cuMemFree_v2(ctypes.c_uint64(address))
        self._allocated.clear()
        self._driver.cuStreamDestroy_v2(ctypes.c_void_p(self.stream))


def _check(code: int, function: str) -> None:
    if code:
        raise PassFailure(f"the CUDA driver fails: {function} returns {code}")
