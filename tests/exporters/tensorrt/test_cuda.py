"""The CUDA driver: found or not, and memory that is given back."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from fake_gpu import FakeDriver, gpu

from prunec.exporters.tensorrt.cuda import find_gpu, open_device
from prunec.ir.diagnostics import PassFailure


def with_driver(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None) -> None:
    def load(name: str) -> Any:
        if driver is None:
            raise OSError("no such library")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)


def test_a_gpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_driver(monkeypatch, FakeDriver())
    found, reason = find_gpu()
    assert (str(found), reason) == ("Fake GPU (compute capability 9.0)", "")
    assert found is not None and found.has_sparse_cores


def test_older_gpus_have_no_sparse_cores() -> None:
    assert not gpu(capability=(7, 5)).has_sparse_cores
    assert gpu(capability=(8, 0)).has_sparse_cores


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (None, "no NVIDIA driver is installed"),
        (FakeDriver(devices=0), "the NVIDIA driver finds no GPU"),
        (FakeDriver(fails=("cuInit",)), "the NVIDIA driver finds no GPU"),
    ],
)
def test_no_gpu(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None, reason: str) -> None:
    with_driver(monkeypatch, driver)
    assert find_gpu() == (None, reason)


def test_arrays_go_there_and_back() -> None:
    driver = FakeDriver()
    array = np.arange(12, dtype=np.float16).reshape(3, 4)
    with open_device(gpu(driver)) as device:
        address = device.allocate(array.nbytes)
        device.upload(address, array.T)  # not contiguous
        back = np.empty((4, 3), np.float16)
        device.download(address, back)
        device.synchronize()
        assert device.allocate(0) != address
    assert np.array_equal(back, array.T)
    assert (driver.memory, driver.streams, driver.contexts) == ({}, 0, 0)


def test_everything_is_given_back_after_a_failure() -> None:
    driver = FakeDriver(fails=("cuMemcpyHtoD_v2",))
    with pytest.raises(PassFailure, match="cuMemcpyHtoD returns 999"), open_device(gpu(driver)) as device:
        device.upload(device.allocate(4), np.zeros(1, np.float32))
    assert (driver.memory, driver.streams, driver.contexts) == ({}, 0, 0)
