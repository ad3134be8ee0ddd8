"""One export to TensorRT from beginning to end."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunec.exporters.comparison import check_outputs, tolerance_of
from prunec.exporters.target import Export, ExportContext
from prunec.exporters.tensorrt.api import Api, load_api
from prunec.exporters.tensorrt.build import Builder, Engine
from prunec.exporters.tensorrt.candidates import find_candidates
from prunec.exporters.tensorrt.commands import reproduce
from prunec.exporters.tensorrt.cuda import Gpu, find_gpu
from prunec.exporters.tensorrt.layers import EngineLayer
from prunec.exporters.tensorrt.ledger import Ledger, make_ledger
from prunec.exporters.tensorrt.log import parse_layers, parse_sparsity
from prunec.exporters.tensorrt.measure import Measured, measure
from prunec.exporters.tensorrt.prepare import Prepared, prepare
from prunec.exporters.tensorrt.profiles import Profile, choose_profiles
from prunec.exporters.tensorrt.target import TensorRT
from prunec.ir.diagnostics import GateError, PassFailure
from prunec.ir.execute import Runner, probe_feeds
from prunec.ir.files import write_bytes, write_text
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.save import save

TYPES = {"keep": None, "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSession:
    """The export of one module.

    Attributes:
        target: the options.
        module: the module.
        path: where the engine goes.
        context: remarks, progress, whether to verify.
    """

    target: TensorRT
    module: Module
    path: Path
    context: ExportContext

    def run(self) -> Export:
        """Prepare, build, run where there is a GPU, write; the engine last."""
        api = load_api(self.target.runtime)
        profiles = self._profiles()
        self.context.progress("preparing the graph for TensorRT")
        prepared = prepare(self.module, self.target.precision)
        self._say(prepared, api)
        seen = load(prepared.proto)
        checks = {"prepared model": self._compare_prepared(seen)}
        builder = self._builder(api, profiles)
        engine = builder.build(prepared.proto, sparse=self.target.sparse, progress=self.context.progress)
        gpu, reason = find_gpu()
        measured = Measured.not_run(f"not run: {reason}")
        if gpu is not None:
            measured = self._measure(builder, prepared, engine, gpu)
        checks["engine"] = measured.outputs
        ledger = self._ledger(seen, engine, api, measured.layers)
        facts = {
            **self._facts(api, engine, prepared, profiles, gpu),
            "checks": checks,
            "latency": measured.latency,
            "sparsity": ledger.as_json(),
        }
        self._write(facts, ledger, api, seen, engine, profiles)
        lines = [f"{api}: {self.target.precision} engine, {engine.seconds:.1f} s", str(ledger)]
        lines += [f"{what}: {said}" for what, said in checks.items()]
        lines.append(f"dense and sparse engine: {measured.verdict}")
        return Export(
            target=self.target.name,
            files=self.target.files(self.path),
            size=len(engine.content),
            lines=tuple(lines),
        )

    def _profiles(self) -> tuple[Profile, ...]:
        profiles, defaults = choose_profiles(self.module.graph, self.target.profile)
        for line in defaults:
            self.context.remarks.missed(
                "trt",
                line,
                reason="an engine needs a range for dynamic axes",
                help="give profile=NAME:MIN:OPT:MAX",
            )
        return profiles

    def _say(self, prepared: Prepared, api: Api) -> None:
        remarks = self.context.remarks
        for action in prepared.actions:
            remarks.passed("trt", action)
        if self.target.timing_cache and api.is_rtx:
            remarks.missed(
                "trt", "no timing cache is used", reason="TensorRT-RTX times no kernels when it builds"
            )

    def _builder(self, api: Api, profiles: tuple[Profile, ...]) -> Builder:
        target = self.target
        return Builder(
            api=api,
            profiles=profiles,
            workspace=target.workspace,
            level=target.level,
            timing_cache=Path(target.timing_cache) if target.timing_cache else None,
            file=self.module.source.name,
        )

    def _compare_prepared(self, prepared: Module) -> str:
        """Run the prepared model and the module in ONNX Runtime, which needs no GPU."""
        if not self.context.verify:
            return "not compared: verification is off"
        self.context.progress("comparing the prepared model")
        feeds = probe_feeds(self.module, seed=self.context.seed, batch=2)
        expected = Runner(self.module).run(feeds)
        try:
            actual = Runner(prepared).run(feeds)
        except PassFailure as error:
            reason = f"ONNX Runtime cannot run it on the CPU: {error.message}"
            self.context.remarks.missed("trt", "the prepared model is not compared", reason=reason)
            return "not compared: ONNX Runtime cannot run it on the CPU"
        tolerance = tolerance_of(self.module, TYPES[self.target.precision])
        worst = check_outputs("the model prepared for TensorRT", actual, expected, tolerance)
        return f"outputs equal the module's in ONNX Runtime (relative error {worst:.1e})"

    def _measure(self, builder: Builder, prepared: Prepared, engine: Engine, gpu: Gpu) -> Measured:
        if not gpu.has_sparse_cores:
            reason = f"{gpu} has no sparse tensor cores; NVIDIA Ampere and later have"
            self.context.remarks.missed("trt", "no sparse kernel can run on this GPU", reason=reason)
        dense = builder.build(prepared.proto, sparse=False, progress=self.context.progress)
        return measure(
            self.module,
            (dense, engine),
            api=builder.api,
            gpu=gpu,
            profiles=builder.profiles,
            runs=self.target.runs,
            tolerance=tolerance_of(self.module, TYPES[self.target.precision]),
            context=self.context,
        )

    def _ledger(self, seen: Module, engine: Engine, api: Api, inspected: tuple[EngineLayer, ...]) -> Ledger:
        lines = engine.log.lines
        ledger = make_ledger(
            find_candidates(seen),
            inspected or parse_layers(lines),
            parse_sparsity(lines),
            names=[node.name or "" for node in seen.graph],
            runs_elsewhere=api.is_rtx,
        )
        if unknown := ledger.counts["unknown"]:
            self.context.remarks.missed(
                "trt",
                f"it is unknown whether {unknown} layers with 2:4 weights use sparse kernels",
                reason="; ".join(sorted({e.evidence for e in ledger.eligible if e.picked == "unknown"})),
                help="build on the GPU that will run the engine",
            )
        return ledger

    def _facts(
        self, api: Api, engine: Engine, prepared: Prepared, profiles: tuple[Profile, ...], gpu: Gpu | None
    ) -> dict[str, Any]:
        source = self.module.source.original
        return {
            "schema": "prunec.engine/1",
            "engine": {
                "file": self.path.name,
                "bytes": len(engine.content),
                "sha256": hashlib.sha256(engine.content).hexdigest(),
            },
            "source": {"name": source.name, "sha256": source.sha256},
            "runtime": {
                "package": api.package,
                "version": api.version,
                "gpu": None if gpu is None else str(gpu),
            },
            "build": {
                "precision": self.target.precision,
                "sparse": self.target.sparse,
                "profiles": [str(profile) for profile in profiles],
                "seconds": round(engine.seconds, 3),
            },
            "preparation": list(prepared.actions),
        }

    def _write(
        self,
        facts: dict[str, Any],
        ledger: Ledger,
        api: Api,
        seen: Module,
        engine: Engine,
        profiles: tuple[Profile, ...],
    ) -> None:
        """Everything but the engine, then the engine if the gate holds."""
        path, ledger_file, model, commands = self.target.files(self.path)
        target = self.target
        cache = Path(target.timing_cache) if target.timing_cache else None
        text = reproduce(
            api, model=model, engine=path, profiles=profiles, sparse=target.sparse, timing_cache=cache
        )
        failure: GateError | None = None
        try:
            if target.require_sparse is not None:
                ledger.require(target.require_sparse)
        except GateError as error:
            failure = error
            facts["engine"] = None
            facts["gate"] = error.message
        self.context.progress(f"writing {path}")
        save(seen, model)
        write_text(commands, text)
        write_text(ledger_file, f"{json.dumps(facts, indent=2)}\n")
        if failure is not None:
            failure.notes = (*failure.notes, f"ledger: {ledger_file}")
            raise failure
        write_bytes(path, engine.content)
