"""Dense, 2:4, structured and structured + 2:4 on a GPU: in TensorRT(-RTX), and in torch's semi-structured kernels.

::

    python benchmarks/gpu.py MODEL.onnx ... [--batch N ...] [--runs 100] [--json benchmarks/results/gpu.json]

Every row is one form of a model at one batch size in float16. ``speed-up`` is against the dense model in the same
backend, measured in turns, with its 95 % interval; ``picked`` is how many of the eligible layers are proven to run on
sparse kernels (TensorRT only). Torch runs the products of the model's layers one after the other, without what lies
between them. Without a GPU it says so and exits with 0; a backend that is not installed is left out with a note.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.exporters.latency import Comparison
    from prunec.exporters.tensorrt.cuda import Gpu
    from prunec.ir.module import Module

STRUCTURED = "prune-channels{ratio=50% round-to=16}"
SPARSE = "sparsify{pattern=2:4}"
FORMS: Mapping[str, str] = {
    "dense": "",
    "2:4": SPARSE,
    "structured": STRUCTURED,
    "structured + 2:4": f"{STRUCTURED}, {SPARSE}",
}
"""What is compared, and the pipeline that makes it; the first is what the others are compared with."""
BACKENDS = ("tensorrt", "torch")
BATCHES = (1, 8, 64)

COLUMNS = (
    Column(key="model", title="model"),
    Column(key="backend", title="backend"),
    Column(key="batch", title="batch"),
    Column(key="form", title="form"),
    Column(key="p50_ms", title="p50 ms", format=".3f"),
    Column(key="p95_ms", title="p95 ms", format=".3f"),
    Column(key="speedup", title="speed-up", format=".2f"),
    Column(key="interval", title="95 % interval"),
    Column(key="verdict", title="verdict"),
    Column(key="picked", title="picked"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measurement: all forms of a model at one batch size in one backend."""

    model: Path
    backend: str
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A layer as a product of matrices: ``rows x inputs`` with ``inputs x outputs``, for one sample."""

    rows: int
    inputs: int
    outputs: int
    is_sparse: bool


def plan(models: Sequence[Path], batches: Sequence[int], backends: Sequence[str]) -> list[Trial]:
    """All measurements, model by model."""
    return [
        Trial(model=m, backend=b, batch=n) for m in models for b in backends for n in sorted(set(batches))
    ]


def installed() -> tuple[list[str], list[str]]:
    """Backends that are there, and a note for each that is not."""
    packages = {"tensorrt": ("tensorrt", "tensorrt_rtx"), "torch": ("torch",)}
    found = [name for name in BACKENDS if any(importlib.util.find_spec(p) for p in packages[name])]
    notes = [f"{name} is not installed: left out" for name in BACKENDS if name not in found]
    return found, notes


def products(module: Module) -> list[Product]:
    """The model's layers without groups as products for one sample; positions of a kernel count as inputs."""
    from prunec.exporters.tensorrt.candidates import is_sparse
    from prunec.ir.facts import infer_facts
    from prunec.passes.sparsity.layers import find_layers

    facts = infer_facts(module.model)
    found = []
    for layer in find_layers(module.model, facts).layers:
        groups, outputs, positions, inputs = layer.shape
        for node, _ in layer.uses if groups == 1 else ():
            shape = facts.shape(node.outputs[0]) or (outputs,)
            rows, sparse = prod(shape) // outputs, is_sparse(layer)
            found.append(Product(rows=rows, inputs=positions * inputs, outputs=outputs, is_sparse=sparse))
    return found


def row(trial: Trial, form: str, found: Comparison, picked: str | None) -> dict[str, Any]:
    """One row: the form's own latency, and how it compares with the dense one."""
    cells: dict[str, Any] = {
        "model": trial.model.stem,
        "backend": trial.backend,
        "batch": trial.batch,
        "form": form,
        "p50_ms": found.b.p50 * 1e3,
        "p95_ms": found.b.p95 * 1e3,
        "picked": picked,
    }
    if form == next(iter(FORMS)):
        return cells
    interval = f"{found.low:.2f} to {found.high:.2f}"
    return {**cells, "speedup": found.speedup, "interval": interval, "low": found.low, "high": found.high,
            "verdict": found.verdict}  # fmt: skip


def measure_trial(trial: Trial, gpu: Gpu, runs: int) -> Iterator[dict[str, Any]]:
    """The rows of one trial."""
    import prunec
    from prunec.exporters.latency import compare_calls

    source = prunec.load(trial.model)
    modules = {
        form: prunec.run(source, text, verify=False).module if text else source
        for form, text in FORMS.items()
    }
    with ExitStack() as stack:
        calls = (_tensorrt if trial.backend == "tensorrt" else _torch)(stack, modules, trial.batch, gpu)
        dense = calls[next(iter(FORMS))][0]
        for form, (call, picked) in calls.items():
            yield row(trial, form, compare_calls(dense, call, runs=runs, batch=trial.batch), picked)


Calls = dict[str, tuple[Callable[[], object], str | None]]
"""For each form what runs it once, and how many of its layers run on sparse kernels."""


def _tensorrt(stack: ExitStack, modules: Mapping[str, Module], batch: int, gpu: Gpu) -> Calls:
    from prunec.exporters.tensorrt.api import load_api
    from prunec.exporters.tensorrt.build import Builder
    from prunec.exporters.tensorrt.candidates import find_candidates
    from prunec.exporters.tensorrt.cuda import open_device
    from prunec.exporters.tensorrt.ledger import make_ledger
    from prunec.exporters.tensorrt.log import parse_sparsity
    from prunec.exporters.tensorrt.prepare import prepare
    from prunec.exporters.tensorrt.profiles import Profile, choose_profiles
    from prunec.exporters.tensorrt.running import EngineRunner
    from prunec.ir.load import load
    from prunec.ir.probes import probe_feeds

    api, calls = load_api(), Calls()
    for form, module in modules.items():
        feeds = probe_feeds(module, batch=batch)
        dynamic = {profile.name for profile in choose_profiles(module.graph, ())[0]}
        profiles = [
            Profile(name=name, min=array.shape, opt=array.shape, max=array.shape)
            for name, array in feeds.items()
            if name in dynamic
        ]
        proto = prepare(module, "fp16").proto
        engine = Builder(api=api, profiles=profiles).build(
            proto, sparse="2:4" in form, progress=lambda _: None
        )
        runner = EngineRunner(api, engine.content, stack.enter_context(open_device(gpu)), feeds)
        seen = load(proto)
        names = [node.name or "" for node in seen.graph]
        ledger = make_ledger(
            find_candidates(seen), runner.layers(), parse_sparsity(engine.log.lines), names=names,
            runs_elsewhere=api.is_rtx,
        )  # fmt: skip
        counts = ledger.counts
        unknown = f", {counts['unknown']} unknown" if counts["unknown"] else ""
        calls[form] = (runner.run, f"{counts['picked']} of {counts['eligible']}{unknown}")
    return calls


def _torch(stack: ExitStack, modules: Mapping[str, Module], batch: int, gpu: Gpu) -> Calls:
    import torch

    del gpu
    stack.enter_context(torch.inference_mode())
    calls = Calls()
    for form, module in modules.items():
        layers = [_torch_layer(product, batch, sparse="2:4" in form) for product in products(module)]

        def call(layers: Sequence[tuple[Any, Any]] = layers) -> None:
            for data, weight in layers:
                torch.nn.functional.linear(data, weight)
            torch.cuda.synchronize()

        calls[form] = (call, None)
    return calls


def _torch_layer(product: Product, batch: int, *, sparse: bool) -> tuple[Any, Any]:
    """Data and weight on the GPU; the weight compressed where it is 2:4 and of a shape that torch takes."""
    import torch

    data = torch.randn(batch * product.rows, product.inputs, dtype=torch.float16, device="cuda")
    weight = torch.randn(product.outputs, product.inputs, dtype=torch.float16, device="cuda")
    if not (sparse and product.is_sparse) or product.outputs % 32 or product.inputs % 64:
        return data, weight
    mask = torch.tensor([1, 1, 0, 0], dtype=torch.float16, device="cuda").repeat(product.inputs // 4)
    return data, torch.sparse.to_sparse_semi_structured(weight * mask)


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="ONNX models")
    parser.add_argument("--batch", type=int, action="append", help=f"batch size (default: {BATCHES})")
    parser.add_argument(
        "--runs", type=int, default=100, help="timed runs of each form (default: %(default)s)"
    )
    add_output_options(parser)
    return parser.parse_args()


def main() -> None:
    options = options_of()

    from prunec.exporters.tensorrt.cuda import find_gpu
    from prunec.ir.diagnostics import PrunecError

    gpu, reason = find_gpu()
    backends, notes = installed()
    if gpu is None or not backends:
        print(f"skipped: {reason or 'neither TensorRT nor torch is installed'}")
        return
    trials = plan(options.models, options.batch or BATCHES, backends)
    rows: list[dict[str, Any]] = []
    for trial in trials:
        try:
            rows += measure_trial(trial, gpu, options.runs)
        except (PrunecError, RuntimeError) as error:
            first = str(error).partition("\n")[0]
            notes.append(f"{trial.model.stem}, {trial.backend}, batch {trial.batch}: {first}")
    report = Report(
        benchmark="gpu",
        title=f"{gpu}, float16",
        columns=COLUMNS,
        rows=rows,
        options={"runs": options.runs, "batches": list(options.batch or BATCHES)},
        notes=notes,
    )
    publish(report, options)


if __name__ == "__main__":
    main()
