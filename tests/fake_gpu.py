"""A GPU and a TensorRT for machines that have neither: host memory behind the driver's functions, ONNX Runtime as engine.

The engine that ``FakeTensorRT`` builds is the ONNX model itself; running it reads its inputs from the addresses it was
given and writes its outputs to others, so everything around an engine is exercised as on a GPU.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from prunec.exporters.tensorrt import session, target
from prunec.exporters.tensorrt.api import Api
from prunec.exporters.tensorrt.cuda import Gpu
from prunec.exporters.tensorrt.running import DTYPES
from prunec.ir.execute import Runner
from prunec.ir.load import load

KINDS = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


@dataclass
class FakeDriver:
    """The functions of ``libcuda`` that are used, over host memory.

    Attributes:
        fails: functions that return an error.
        devices: how many GPUs there are.
    """

    fails: tuple[str, ...] = ()
    devices: int = 1
    memory: dict[int, Any] = field(default_factory=dict)
    streams: int = 0
    contexts: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name in object.__getattribute__(self, "fails"):
            return lambda *_: 999
        return object.__getattribute__(self, name)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, handle: Any, index: int) -> int:
        handle._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, handle: Any) -> int:
        name.value = b"Fake GPU"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, handle: Any) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, handle: Any) -> int:
        self.contexts += 1
        return 0

    def cuDevicePrimaryCtxRelease(self, handle: Any) -> int:
        self.contexts -= 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        return 0

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        self.streams += 1
        stream._obj.value = 42
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:
        return 0 if stream.value == 42 else 1

    def cuStreamDestroy_v2(self, stream: Any) -> int:
        self.streams -= 1
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[address._obj.value] = buffer
        return 0

    def cuMemcpyHtoD_v2(self, address: Any, pointer: Any, size: Any) -> int:
        ctypes.memmove(address.value, pointer, size.value)
        return 0

    def cuMemcpyDtoH_v2(self, pointer: Any, address: Any, size: Any) -> int:
        ctypes.memmove(pointer, address.value, size.value)
        return 0

    def cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0


def gpu(driver: FakeDriver | None = None, *, capability: tuple[int, int] = (9, 0)) -> Gpu:
    """A GPU with that driver."""
    return Gpu(name="Fake GPU", capability=capability, driver=driver or FakeDriver(), handle=0)


class _Mode(Enum):
    INPUT = 1
    OUTPUT = 2


@dataclass
class FakeEngine:
    """An ONNX model as an engine."""

    trt: FakeTensorRT
    content: bytes

    def __post_init__(self) -> None:
        proto = onnx.ModelProto.FromString(self.content)
        self.runner = Runner(load(proto))
        self.inputs = {value.name: value for value in proto.graph.input}
        self.outputs = {value.name: value for value in proto.graph.output}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.num_io_tensors = len(self.inputs) + len(self.outputs)
        self.execution_context: object = None

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if name in self.inputs else _Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        value = {**self.inputs, **self.outputs}[name]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        return SimpleNamespace(name=self.trt.kinds.get(np.dtype(dtype), "FP4"))

    def create_execution_context(self) -> FakeEngine | None:
        return self if self.trt.gives_context else None

    def create_engine_inspector(self) -> FakeEngine:
        return self

    def get_engine_information(self, form: object) -> str:
        return json.dumps({"Layers": self.trt.layers})

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return self.trt.takes_shapes

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if not self.trt.knows_shapes:
            return (-1,)
        feeds = {key: np.zeros(shape, self._dtype(key)) for key, shape in self.shapes.items()}
        return self.runner.run(feeds)[name].shape

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {key: self._array(key, shape).copy() for key, shape in self.shapes.items()}
        for name, result in self.runner.run(feeds).items():
            self._array(name, result.shape)[...] = result * self.trt.factor
        return self.trt.runs

    def _dtype(self, name: str) -> Any:
        return DTYPES[self.get_tensor_dtype(name).name]

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        size = int(np.prod(shape)) * np.dtype(self._dtype(name)).itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype=self._dtype(name)).reshape(shape)


class _Flag(IntEnum):
    SPARSE_WEIGHTS = 1
    STRONGLY_TYPED = 1


@dataclass
class _Cache:
    content: bytes

    def serialize(self) -> bytes:
        return self.content or b"timings"


@dataclass
class _Config:
    """A builder configuration; whatever is set on it is kept."""

    flags: list[object] = field(default_factory=list)

    def set_flag(self, flag: object) -> None:
        self.flags.append(flag)

    def set_memory_pool_limit(self, pool: object, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: object) -> None:
        self.profile = profile

    def create_timing_cache(self, content: bytes) -> _Cache:
        return _Cache(content)

    def set_timing_cache(self, cache: _Cache, ignore: bool) -> bool:
        self.cache = cache
        return cache.content != b"of another version"

    def get_timing_cache(self) -> _Cache:
        return self.cache


@dataclass
class FakeTensorRT:
    """The part of the package that is used.

    Attributes:
        log: what a sparse build logs.
        layers: what the inspector lists.
        factor: what outputs are multiplied with; 1 for an engine that is right.
    """

    log: str = ""
    layers: list[dict[str, Any]] = field(default_factory=list)
    factor: float = 1.0
    loads: bool = True
    gives_context: bool = True
    takes_shapes: bool = True
    knows_shapes: bool = True
    runs: bool = True
    kinds: Mapping[Any, str] = field(default_factory=lambda: KINDS)
    configs: list[_Config] = field(default_factory=list)

    TensorIOMode = _Mode
    BuilderFlag = NetworkDefinitionCreationFlag = _Flag
    ProfilingVerbosity = SimpleNamespace(DETAILED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE=1)
    LayerInformationFormat = SimpleNamespace(JSON=1)

    class ILogger:
        """Base of loggers."""

        def __init__(self) -> None:
            pass

    def Builder(self, logger: Any) -> SimpleNamespace:
        def build(network: SimpleNamespace, config: _Config) -> bytes:
            if config.flags:
                logger.log(SimpleNamespace(name="INFO"), self.log)
            return bytes(network.content)

        def configure() -> _Config:
            self.configs.append(_Config())
            return self.configs[-1]

        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(),
            create_builder_config=configure,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *_: None),
            build_serialized_network=build,
        )

    def OnnxParser(self, network: SimpleNamespace, logger: Any) -> SimpleNamespace:
        def parse(content: bytes) -> bool:
            network.content = content
            return True

        return SimpleNamespace(parse=parse)

    def Runtime(self, logger: Any) -> SimpleNamespace:
        def deserialize(content: bytes) -> FakeEngine | None:
            if not self.loads:
                logger.log(SimpleNamespace(name="ERROR"), "built for another GPU")
                return None
            return FakeEngine(self, content)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    @property
    def api(self) -> Api:
        """This package as the exporter sees it."""
        return Api(module=self, package="tensorrt", version="11.0.0")

    def install(self, monkeypatch: pytest.MonkeyPatch, *, on: Gpu | None = None) -> Gpu:
        """Make exports use this package and a GPU."""
        found = on or gpu()
        monkeypatch.setattr(session, "load_api", lambda wanted: self.api)
        monkeypatch.setattr(session, "find_gpu", lambda: (found, ""))
        monkeypatch.setattr(target.TensorRT, "check", lambda self: None)
        return found
