"""The one place that knows which of the two packages, ``tensorrt`` or ``tensorrt_rtx``, is in use.

Both have the same Python API as far as it is used here. TensorRT-RTX is smaller, builds engines on machines without
a GPU, and leaves the choice of kernels to the machine that runs the engine.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prunec.ir.diagnostics import UserError

Package = Literal["tensorrt", "tensorrt_rtx"]

OLDEST: Mapping[Package, tuple[int, ...]] = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 1)}
"""The oldest versions with strongly typed networks and 64-bit integers."""
TITLES: Mapping[Package, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
INSTALL = "pip install 'prunec[tensorrt]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One of the two packages.

    Attributes:
        module: the imported package.
        package: its name.
        version: its version, such as ``1.7.1.116``.
    """

    module: Any
    package: Package
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether kernels are chosen by the machine that runs the engine."""
        return self.package == "tensorrt_rtx"

    def __str__(self) -> str:
        return f"{TITLES[self.package]} {self.version}"


def is_installed(package: Package) -> bool:
    """Whether a package can be found, without importing it."""
    return importlib.util.find_spec(package) is not None


def load_api(wanted: Literal["auto"] | Package = "auto") -> Api:
    """Import the package that builds the engine; ``auto`` prefers ``tensorrt``, which chooses kernels itself.

    Raises:
        UserError: it is not installed, cannot be imported, or is too old.
    """
    names: tuple[Package, ...] = tuple(OLDEST) if wanted == "auto" else (wanted,)
    name = next((name for name in names if is_installed(name)), None)
    if name is None:
        message = f"{' and '.join(names)} {'are both' if len(names) > 1 else 'is'} not installed"
        raise UserError(message, help=["pip install tensorrt" if wanted == "tensorrt" else INSTALL])
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{name} is installed but cannot be imported: {reason}", help=[INSTALL]) from error
    version = str(module.__version__)
    if _numbers(version) < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        raise UserError(f"{name} {version} is too old: {oldest} or later is needed", help=[INSTALL])
    return Api(module=module, package=name, version=version)


def check_graphsurgeon() -> None:
    """See that onnx-graphsurgeon, which prepares the graph, is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("onnx_graphsurgeon") is None:
        raise UserError("onnx-graphsurgeon is not installed", help=[INSTALL])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
