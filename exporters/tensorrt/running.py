"""Runs an engine on a GPU with its own runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from prunec.exporters.tensorrt.api import Api
from prunec.exporters.tensorrt.build import make_logger
from prunec.exporters.tensorrt.cuda import Device
from prunec.exporters.tensorrt.layers import EngineLayer, inspector_layers
from prunec.exporters.tensorrt.log import BuildLog
from prunec.ir.diagnostics import PassFailure

Array = NDArray[Any]

DTYPES: Mapping[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "FP8": ml_dtypes.float8_e4m3fn,
}


class EngineRunner:
    """An engine, ready to run on one set of input shapes.

    Args:
        api: the package that built it.
        content: the serialised engine.
        device: where it runs.
        feeds: an array for each input; inputs of other shapes need another runner.

    Raises:
        PassFailure: the engine cannot be loaded or does not take these shapes.
    """

    def __init__(self, api: Api, content: bytes, device: Device, feeds: Mapping[str, Array]) -> None:
        trt, self._log = api.module, BuildLog()
        self._device = device
        self._runtime = trt.Runtime(make_logger(trt, self._log))
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise self._failure("the engine cannot be loaded")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failure("the engine gives no execution context")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        for name in (name for name in names if is_input[name]):
            if not self._context.set_input_shape(name, feeds[name].shape):
                raise self._failure(
                    f"the engine does not take input `{name}` of shape {list(feeds[name].shape)}"
                )
            self._upload(name, feeds[name])
        self._results = {name: self._output(name) for name in names if not is_input[name]}
        self._inspector = self._engine.create_engine_inspector()
        self._format = trt.LayerInformationFormat.JSON

    def run(self) -> None:
        """Run once and wait for the end; results stay on the GPU."""
        if not self._context.execute_async_v3(self._device.stream):
            raise self._failure("the engine fails when it runs")
        self._device.synchronize()

    def results(self) -> dict[str, Array]:
        """The outputs of the last run, by name."""
        for array, address in self._results.values():
            self._device.download(address, array)
        return {name: array for name, (array, _) in self._results.items()}

    def layers(self) -> tuple[EngineLayer, ...]:
        """The engine's layers, as its inspector describes them for these shapes."""
        self._inspector.execution_context = self._context
        return inspector_layers(self._inspector.get_engine_information(self._format))

    def _upload(self, name: str, feed: Array) -> None:
        array = np.ascontiguousarray(feed, dtype=self._dtype(name))
        address = self._device.allocate(array.nbytes)
        self._device.upload(address, array)
        self._context.set_tensor_address(name, address)

    def _output(self, name: str) -> tuple[Array, int]:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise self._failure(f"the shape of output `{name}` depends on values")
        array = np.empty(shape, dtype=self._dtype(name))
        address = self._device.allocate(array.nbytes)
        self._context.set_tensor_address(name, address)
        return array, address

    def _dtype(self, name: str) -> Any:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise self._failure(f"`{name}` is {kind}, which numpy has not")
        return DTYPES[kind]

    def _failure(self, message: str) -> PassFailure:
        return PassFailure(
            message, notes=[text.strip() for text in self._log.texts("ERROR", "INTERNAL_ERROR")[:3]]
        )
