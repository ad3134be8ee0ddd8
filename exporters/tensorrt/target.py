"""The target ``trt``: an engine of TensorRT or TensorRT-RTX, its ledger, and the commands that build it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.exporters.target import Export, ExportContext, Target
from prunec.ir.diagnostics import UserError
from prunec.passes.base import option
from prunec.passes.text.options import Ratio, at_least, within

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRT(Target):
    """An engine of TensorRT or TensorRT-RTX with sparse kernels allowed, and a ledger of which layers use them.

    Beside the engine OUT stand OUT.json (the ledger), OUT.onnx (the model as TensorRT sees it) and OUT.sh (commands of
    trtexec and Polygraphy that build the engine again). TensorRT-RTX builds engines without a GPU; which kernels run
    is then unknown.
    """

    name: ClassVar[str] = "trt"
    suffix: ClassVar[str] = ".engine"
    onnx_only: ClassVar[bool] = True

    runtime: Literal["auto", "tensorrt", "tensorrt_rtx"] = option(
        "auto", help="the package that builds the engine; auto takes tensorrt where both are installed"
    )
    precision: Literal["keep", "fp16", "bf16"] = option(
        "fp16", help="type of the values that are float32; sparse kernels need fp16, bf16 or int8"
    )
    profile: tuple[str, ...] = option(
        (), help="shapes of a dynamic input", metavar="NAME:1x3x8x8:4x3x8x8:8x3x8x8,..."
    )
    sparse: bool = option(True, help="allow kernels for 2:4 sparse weights")
    require_sparse: Ratio | None = option(
        None,
        help="share of the eligible layers that must use sparse kernels, else exit 3",
        check=within(0, 1),
    )
    require_gpu: bool = option(False, help="fail where there is no GPU to run the engine on")
    workspace: int | None = option(None, help="most scratch memory of a kernel, in MiB", check=at_least(1))
    level: int | None = option(None, help="0 builds fast, 5 makes the fastest engine", check=within(0, 5))
    timing_cache: str = option("", help="file with timings of kernels, read and written", metavar="FILE")
    runs: int = option(
        50, help="timed runs of the dense and of the sparse engine, on a GPU", check=at_least(2)
    )

    def check(self) -> None:
        """See that the packages are there, and the GPU where one is required."""
        from prunec.exporters.tensorrt.api import check_graphsurgeon, load_api
        from prunec.exporters.tensorrt.cuda import find_gpu
        from prunec.exporters.tensorrt.profiles import parse_profile

        for text in self.profile:
            parse_profile(text)
        api = load_api(self.runtime)
        check_graphsurgeon()
        gpu, reason = find_gpu()
        if gpu is None and self.require_gpu:
            raise UserError(
                f"a GPU is required: {reason}", help=["leave out require-gpu to build without running"]
            )
        if gpu is None and not api.is_rtx:
            help = [
                "pip install tensorrt-rtx-cu13, which builds without one",
                "or build on the machine that has it",
            ]
            raise UserError(f"{api} builds engines only where there is a GPU: {reason}", help=help)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The engine, its ledger, the prepared model, and the commands."""
        return (path, *(path.with_name(f"{path.name}{suffix}") for suffix in (".json", ".onnx", ".sh")))

    def write(self, module: Module, path: Path, context: ExportContext) -> Export:
        """Build, compare, write."""
        from prunec.exporters.tensorrt.session import BuildSession

        return BuildSession(target=self, module=module, path=path, context=context).run()
