"""The machine that a bench ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path


def versions_and_processor() -> Iterator[tuple[str, str]]:
    """Versions and processor that the numbers hold for; nothing that names the machine."""
    import onnxruntime as ort

    import prunec

    yield from (("prunec", prunec.__version__), ("onnxruntime", ort.__version__))
    yield from (("python", platform.python_version()), ("processor", _processor() or platform.machine()))
    yield "cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def _processor() -> str | None:
    """What Linux calls the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
