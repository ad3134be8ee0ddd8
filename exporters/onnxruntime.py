"""The target ``ort``: an ONNX file that ONNX Runtime has optimised, and a recipe for its session.

Optimising ahead saves time whenever a session starts. The level ``basic`` changes nothing that ties the file to a
machine or a provider; ``extended`` fuses into ops of ONNX Runtime's own, which its TensorRT providers do not take;
``all`` lays weights out for the processor of this machine.

Nothing here uses ONNX Runtime's own sparse tensors: its CPU kernel ``SparseToDenseMatMul`` refuses sparse
initializers, and on computed ones it was 3 to 25 times slower than the dense kernel below 95 % zeros.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prunec.exporters.session import CPU, SCHEMA, OpenedSession, session
from prunec.exporters.target import Export, ExportContext, Target
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import write_text
from prunec.passes.base import option
from prunec.passes.text.options import at_least

if TYPE_CHECKING:
    from prunec.ir.module import Module

__all__ = ["OnnxRuntime", "OpenedSession", "session"]

ProviderName = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx"]
Level = Literal["none", "basic", "extended", "all"]

FULL_NAMES: Mapping[str, str] = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
}
LEVELS: Mapping[str, str] = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
MANY_ZEROS = 0.3
"""Share of zeros from which a weight counts as one that somebody has made sparse."""
LARGEST_INLINE = 1 << 30
"""Bytes of weights that ONNX Runtime may write into the optimised file itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntime(Target):
    """An ONNX file that ONNX Runtime has optimised, and a recipe (OUT.json) for its session."""

    name: ClassVar[str] = "ort"
    suffix: ClassVar[str] = ".ort.onnx"
    onnx_only: ClassVar[bool] = True

    level: Level = option(
        "basic", help="optimisations; extended suits CPU and CUDA alone, all this machine's processor alone"
    )
    providers: tuple[ProviderName, ...] = option(
        ("tensorrt", "tensorrt-rtx", "cuda", "cpu"), help="what the recipe tries, in this order"
    )
    fp16: bool = option(True, help="let TensorRT compute in float16, which its sparse kernels need")
    cache: bool = option(True, help="keep built engines in the folder OUT.cache")
    threads: int = option(
        0, help="threads of one op on the CPU; 0: as many as there are cores", check=at_least(0)
    )

    def check(self) -> None:
        """See that the providers name at least one, each once."""
        if not self.providers or len(set(self.providers)) < len(self.providers):
            raise UserError(
                f"option 'providers' names each provider once, got {','.join(self.providers) or 'none'}"
            )

    def files(self, path: Path) -> tuple[Path, ...]:
        """The model and the recipe."""
        return (path, path.with_name(f"{path.name}.json"))

    def write(self, module: Module, path: Path, context: ExportContext) -> Export:
        """Optimise, save, write the recipe, open the session and compare."""
        from prunec.ir.load import load

        self._remark(module, context)
        context.progress(f"optimising in ONNX Runtime, level {self.level}")
        _save_optimised(module, path, self.level)
        recipe_path = self.files(path)[1]
        write_text(recipe_path, f"{json.dumps(self.recipe(path), indent=2)}\n", "recipe")
        opened = session(recipe_path)
        lines = [f"session: {opened}", *self._compare(module, opened, context)]
        written = load(path).source
        files = (path, recipe_path, *written.data)
        return Export(target=self.name, files=files, size=written.size or 0, lines=tuple(lines))

    def recipe(self, path: Path) -> dict[str, Any]:
        """The recipe for the session of a model, as JSON."""
        return {
            "schema": SCHEMA,
            "model": path.name,
            "optimised": self.level,
            "intra_op_num_threads": self.threads,
            "providers": [
                {"name": FULL_NAMES[name], "options": self._options(name, path)} for name in self.providers
            ],
        }

    def _options(self, provider: ProviderName, path: Path) -> dict[str, str]:
        cache = f"{path.name}.cache"
        if provider == "tensorrt":
            flag = "1" if self.cache else "0"
            return {
                "trt_sparsity_enable": "1",
                "trt_fp16_enable": "1" if self.fp16 else "0",
                "trt_engine_cache_enable": flag,
                "trt_timing_cache_enable": flag,
                **({"trt_engine_cache_path": cache, "trt_timing_cache_path": cache} if self.cache else {}),
            }
        return {"nv_runtime_cache_path": cache} if provider == "tensorrt-rtx" and self.cache else {}

    def _remark(self, module: Module, context: ExportContext) -> None:
        remarks = context.remarks
        if self.level in ("extended", "all") and {"tensorrt", "tensorrt-rtx"} & set(self.providers):
            remarks.missed(
                "ort",
                f"level={self.level} fuses into ops that TensorRT does not take",
                reason="they are ONNX Runtime's own, and run on CUDA or the CPU",
                help="use level=basic where a TensorRT provider is wanted",
            )
        if self.level == "all":
            remarks.analysis("ort", "level=all fits the file to the processor of this machine")
        sparse = list(_sparse_weights(module))
        if sparse and "cpu" in self.providers:
            remarks.missed(
                "ort",
                f"on the CPU the zeros of {len(sparse)} weights save no time",
                reason="ONNX Runtime's CPU kernels are dense: its sparse one refuses sparse initializers and is slower "
                "below 95 % zeros",
                help="for the CPU, remove whole channels: prune-channels",
            )

    def _compare(self, module: Module, opened: OpenedSession, context: ExportContext) -> Iterator[str]:
        if not context.verify:
            yield "artefact: not compared: verification is off"
            return
        from prunec.exporters.comparison import check_outputs, tolerance_of
        from prunec.ir.execute import Runner, probe_feeds

        context.progress("comparing the optimised model")
        feeds = probe_feeds(module, seed=context.seed, batch=2)
        in_half = self.fp16 and opened.provider == FULL_NAMES["tensorrt"]
        tolerance = tolerance_of(module, "float16" if in_half else None)
        worst = check_outputs("the optimised model", opened.run(feeds), Runner(module).run(feeds), tolerance)
        yield f"artefact: outputs equal the module's (relative error {worst:.1e})"


def _save_optimised(module: Module, path: Path, level: Level) -> None:
    """Let ONNX Runtime optimise a copy of the module, and save that."""
    import onnxruntime as ort

    from prunec.ir.load import load
    from prunec.ir.proto import weight_bytes
    from prunec.ir.runtime import clean_message, runtime_errors, session_options
    from prunec.ir.save import save

    if level == "none":
        save(module, path)
        return
    with tempfile.TemporaryDirectory(prefix="prunec-ort-") as folder:
        source, optimised = Path(folder, "source.onnx"), Path(folder, "optimised.onnx")
        save(module, source)
        settings = session_options(optimize=True, threads=1)
        settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
        settings.optimized_model_filepath = str(optimised)
        if weight_bytes(module.model) > LARGEST_INLINE:
            key = "session.optimized_model_external_initializers_file_name"
            settings.add_session_config_entry(key, "optimised.data")
        try:
            ort.InferenceSession(str(source), settings, providers=[CPU])
        except runtime_errors() as error:
            message = f"ONNX Runtime cannot optimise the model: {clean_message(str(error))}"
            raise UserError(message, place=Place(file=module.source.name)) from error
        save(load(optimised), path)


def _sparse_weights(module: Module) -> Iterator[str]:
    """Names of the weights that hold many zeros."""
    from prunec.ir.proto import weights_of
    from prunec.ir.sparsity import zero_share

    for name, tensor in weights_of(module.model).items():
        if (
            len(tensor.shape) >= 2
            and tensor.dtype.is_floating_point()
            and zero_share(tensor.numpy()) >= MANY_ZEROS
        ):
            yield name
