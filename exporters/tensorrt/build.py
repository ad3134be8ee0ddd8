"""Builds an engine: ONNX parser, network, builder configuration, serialised engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import onnx

from prunec.exporters.tensorrt.api import Api
from prunec.exporters.tensorrt.log import BuildLog
from prunec.exporters.tensorrt.profiles import Profile
from prunec.ir.diagnostics import PassFailure, Place, PrunecError, UserError
from prunec.ir.files import file_error, write_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A serialised engine.

    Attributes:
        content: its bytes.
        log: the messages of its build.
        seconds: wall-clock time of parsing and building.
    """

    content: bytes
    log: BuildLog
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """How engines are built.

    Attributes:
        api: the package.
        profiles: shapes of dynamic inputs.
        workspace: most scratch memory for a kernel, MiB; None: the package's default.
        level: 0 (builds fast) to 5 (runs fast); None: the package's default.
        timing_cache: file with timings of kernels, read and written; None: no such file.
        file: what messages call the model.
    """

    api: Api
    profiles: Sequence[Profile] = ()
    workspace: int | None = None
    level: int | None = None
    timing_cache: Path | None = None
    file: str = "<memory>"

    def build(self, proto: onnx.ModelProto, *, sparse: bool, progress: Callable[[str], None]) -> Engine:
        """Build the engine of a prepared model.

        Args:
            proto: the model.
            sparse: whether kernels for sparse weights may be used.
            progress: told what begins.

        Raises:
            UserError: TensorRT cannot parse a node.
            PassFailure: TensorRT parsed the model and cannot build it.
        """
        trt, log = self.api.module, BuildLog()
        started = perf_counter()
        logger = make_logger(trt, log)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        progress(f"parsing for {self.api}")
        if not parser.parse(proto.SerializeToString()):
            raise self._parse_error(parser)
        config = self._config(builder, sparse=sparse)
        with self._timings(config):
            progress(f"building with {self.api}, sparse kernels {'allowed' if sparse else 'off'}")
            content = builder.build_serialized_network(network, config)
            if content is None:
                raise self._build_error(log)
        return Engine(content=bytes(content), log=log, seconds=perf_counter() - started)

    def _config(self, builder: Any, *, sparse: bool) -> Any:
        trt = self.api.module
        config = builder.create_builder_config()
        if sparse:
            config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if self.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.workspace << 20)
        if self.level is not None:
            config.builder_optimization_level = self.level
        if self.profiles:
            profile = builder.create_optimization_profile()
            for shapes in self.profiles:
                profile.set_shape(shapes.name, *shapes.shapes)
            config.add_optimization_profile(profile)
        return config

    @contextmanager
    def _timings(self, config: Any) -> Iterator[None]:
        """Give the build the timings of earlier builds, and keep its own; TensorRT-RTX measures none."""
        path = None if self.api.is_rtx else self.timing_cache
        if path is None:
            yield
            return
        try:
            old = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise file_error(path, "cannot read the timing cache", error) from error
        cache = config.create_timing_cache(old)
        if not config.set_timing_cache(cache, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)  # of another version or GPU
        yield
        write_bytes(path, bytes(config.get_timing_cache().serialize()), "timing cache")

    def _parse_error(self, parser: Any) -> PrunecError:
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        if not errors:
            return UserError(f"{self.api} cannot parse the model", place=Place(file=self.file))
        first = errors[0]
        node, op = first.node_name() or f"number {first.node()}", first.node_operator() or "unknown op"
        others = dict.fromkeys(
            f"`{e.node_name()}` ({e.node_operator()}): {_clean(e.desc())}" for e in errors[1:]
        )
        return UserError(
            f"{self.api} cannot parse this {op}: {_clean(first.desc())}",
            place=Place(file=self.file, node=node),
            notes=[f"nor node {text}" for text in others],
            help=["replace the op, or run the model in ONNX Runtime: --emit ort"],
        )

    def _build_error(self, log: BuildLog) -> PrunecError:
        errors = [_clean(text) for text in log.texts("ERROR", "INTERNAL_ERROR")]
        reason = errors[0] if errors else "it gives no reason"
        return PassFailure(
            f"{self.api} cannot build the engine: {reason}", place=Place(file=self.file), notes=errors[1:4]
        )


def make_logger(trt: Any, log: BuildLog) -> Any:
    """A logger that keeps every message; the listing of the engine's layers is among the verbose ones."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.messages.append((str(severity.name), str(message)))

    return Logger()


def _clean(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
