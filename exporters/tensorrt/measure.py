"""What a GPU tells of an engine: its outputs, its kernels, and whether allowing sparse kernels made it faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prunec.exporters.comparison import check_outputs
from prunec.exporters.latency import Comparison, compare_calls
from prunec.exporters.target import ExportContext
from prunec.exporters.tensorrt.api import Api
from prunec.exporters.tensorrt.build import Engine
from prunec.exporters.tensorrt.cuda import Gpu, open_device
from prunec.exporters.tensorrt.layers import EngineLayer
from prunec.exporters.tensorrt.profiles import Profile
from prunec.exporters.tensorrt.running import Array, EngineRunner
from prunec.ir.execute import Runner, probe_feeds
from prunec.ir.module import Module
from prunec.ir.sizes import open_inputs, symbol_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What running the engine gave.

    Attributes:
        outputs: how its outputs compare with the module's, one line.
        verdict: how the sparse engine compares with the dense one, one line.
        latency: the numbers behind the verdict; the verdict itself where nothing ran.
        layers: the engine's layers as its inspector describes them.
    """

    outputs: str
    verdict: str
    latency: dict[str, Any] | str
    layers: tuple[EngineLayer, ...] = ()

    @classmethod
    def not_run(cls, reason: str) -> Measured:
        """Of an engine that did not run."""
        return cls(outputs=reason, verdict=reason, latency=reason)


def measure(
    module: Module,
    engines: tuple[Engine, Engine],
    *,
    api: Api,
    gpu: Gpu,
    profiles: Sequence[Profile],
    runs: int,
    tolerance: float,
    context: ExportContext,
) -> Measured:
    """Run the dense and the sparse engine of a module on a GPU.

    Args:
        module: what both were made from.
        engines: one built without and one with sparse kernels.
        api: the package that built them.
        gpu: where they run.
        profiles: shapes of dynamic inputs; the tuned ones are used.
        runs: timed runs of each.
        tolerance: largest accepted relative error of an output.
        context: remarks, progress, whether to compare.

    Raises:
        VerificationError: the sparse engine computes something else than the module.
        PassFailure: an engine does not run.
    """
    context.progress(f"running on {gpu}")
    feeds = profile_feeds(module, profiles, seed=context.seed)
    with open_device(gpu) as device:
        dense, sparse = (EngineRunner(api, engine.content, device, feeds) for engine in engines)
        sparse.run()
        outputs = "not compared: verification is off"
        if context.verify:
            worst = check_outputs("the engine", sparse.results(), Runner(module).run(feeds), tolerance)
            outputs = f"outputs equal the module's in ONNX Runtime (relative error {worst:.1e})"
        batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
        comparison = compare_calls(dense.run, sparse.run, runs=runs, batch=batch, seed=context.seed)
        verdict = judge(comparison, context)
        latency = {**asdict(comparison), "verdict": comparison.verdict}
        return Measured(outputs=outputs, verdict=verdict, latency=latency, layers=sparse.layers())


def judge(comparison: Comparison, context: ExportContext) -> str:
    """One line on a dense and a sparse engine; one that is not faster is called no improvement, with a remark."""
    if comparison.verdict == "faster":
        return f"sparse kernels make it faster: {comparison}"
    context.remarks.missed(
        "trt",
        f"sparse kernels are no improvement: {comparison}",
        reason="sparse kernels pay from about 256 channels and large batches; small layers lose more than they save",
        help="deploy a dense engine (sparse=false), or prune channels instead",
    )
    return f"sparse kernels are no improvement: {comparison}"


def profile_feeds(module: Module, profiles: Sequence[Profile], *, seed: int) -> dict[str, Array]:
    """Random inputs of the shapes that the engine is tuned for."""
    shapes = {profile.name: profile.opt for profile in profiles}
    sizes = {
        symbol: shapes[str(value.name)][axis]
        for value in open_inputs(module.graph)
        if value.name in shapes
        for axis in range(len(value.shape or ()))
        if (symbol := symbol_of(value, axis)) is not None
    }
    return probe_feeds(module, seed=seed, sizes=sizes)
