"""What a benchmark ran on, and the one core that it ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Facts = dict[str, Any]


def facts(packages: Iterable[str] = ("numpy", "scipy", "onnx", "onnx-ir", "onnxruntime")) -> Facts:
    """CPU, cores, memory and versions; nothing that names the machine.

    Args:
        packages: distributions whose versions matter.
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := _version(name)) is not None},
    }


def describe(found: Facts) -> str:
    """Facts as one line."""
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}, "
        f"Python {found['python']}, {packages}"
    )


def pin_to_one_core() -> None:
    """Keep this process and its children on one core; call it before numpy is imported."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ.update(one_thread())


def one_thread() -> dict[str, str]:
    """Environment variables that keep numerical libraries to one thread."""
    return dict.fromkeys(THREAD_VARIABLES, "1")


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in values.items()}
    return named.get("model name", platform.machine())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
