"""Where a model comes from: files with their hashes, the pipeline, and the versions of what ran it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prunec.exporters.amounts import file_size
from prunec.exporters.report.evidence import Evidence
from prunec.ir.version import VERSION

PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "numpy")


def provenance(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What is needed to do it again, as labels and values."""
    result = evidence.result
    source = result.module.source.original
    yield "input", _file(source.name, source.size)
    if source.sha256 is not None:
        yield "sha256 of the input", source.sha256
    if evidence.output is not None:
        yield "output", _file(evidence.output.name, evidence.output.size)
        if evidence.output.sha256 is not None:
            yield "sha256 of the output", evidence.output.sha256
    yield "pipeline", result.plan.pipeline
    yield "seed", str(result.seed)
    judged_on = None if evidence.evaluation is None else str(evidence.evaluation["data"])
    if (data := result.data or judged_on) is not None:
        yield "data", data
    yield "verified", "yes" if result.verdicts else "nothing was verified"
    yield "versions", ", ".join(f"{name} {number}" for name, number in versions())


def versions() -> Iterator[tuple[str, str]]:
    """The versions of prunec, of what it stands on, and of Python."""
    yield "prunec", VERSION
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:  # run from a folder, not installed
            continue
    yield "Python", platform.python_version()


def _file(name: str, size: int | None) -> str:
    return name if size is None else f"{name} ({file_size(size)})"
