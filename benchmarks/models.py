"""Finds the models that a benchmark runs over.

A model is an ``.onnx`` file, or a weightless skeleton ``NAME.skel.xz`` with a script ``materialize.py``
beside it that fills it with random weights. Filled skeletons are kept in a cache folder outside of this
project.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SKELETON = ".skel.xz"
DEFAULT_CACHE = Path(tempfile.gettempdir()) / "prunec-zoo"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model on disk.

    Attributes:
        name: what tables call it.
        source: the ``.onnx`` file or the skeleton.
        cache: folder for filled skeletons.
    """

    name: str
    source: Path
    cache: Path

    def path(self) -> Path:
        """The ``.onnx`` file; a skeleton is filled now, unless an earlier run has done so."""
        if not self.source.name.endswith(SKELETON):
            return self.source
        target = self.cache / f"{self.name}.onnx"
        if not target.exists() or target.stat().st_mtime < self.source.stat().st_mtime:
            _fill(self.source, target)
        return target


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which models to take."""
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="folders or models (default: $PRUNEC_ZOO)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="take only models of these names"
    )
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help="folder for filled skeletons (default: %(default)s)"
    )


def chosen_models(options: argparse.Namespace) -> list[ModelFile]:
    """The models that the command line asks for, by name within each folder."""
    folders = options.folders or _default_folders()
    models = [model for folder in folders for model in _models_of(folder, options.cache)]
    chosen = [m for m in models if not options.only or _matches(m.name, options.only)]
    if not chosen:
        raise SystemExit(f"error: no model is in {', '.join(map(str, folders))}")
    return chosen


def _default_folders() -> list[Path]:
    zoo = os.environ.get("PRUNEC_ZOO")
    if not zoo:
        raise SystemExit("error: no folder is given and $PRUNEC_ZOO is not set")
    return [folder for folder in (Path(zoo), Path(zoo) / "real") if folder.is_dir()]


def _models_of(source: Path, cache: Path) -> Iterable[ModelFile]:
    if not source.exists():
        raise SystemExit(f"error: there is no {source}")
    entries: Sequence[Path] = sorted(source.iterdir()) if source.is_dir() else [source]
    for entry in entries:
        for suffix in (SKELETON, ".onnx"):
            if entry.name.endswith(suffix):
                yield ModelFile(name=entry.name.removesuffix(suffix), source=entry, cache=cache)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _fill(skeleton: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    script = skeleton.parent / "materialize.py"
    print(f"filling {skeleton.name}", file=sys.stderr)
    subprocess.run([sys.executable, str(script), str(skeleton), str(unfinished)], check=True)
    unfinished.replace(target)
