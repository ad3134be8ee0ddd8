"""Command lines of trtexec and Polygraphy that build the same engine from the prepared model, and look into it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from prunec.exporters.tensorrt.api import Api
from prunec.exporters.tensorrt.profiles import Profile, Shape

KINDS = ("min", "opt", "max")


def reproduce(
    api: Api,
    *,
    model: Path,
    engine: Path,
    profiles: Sequence[Profile],
    sparse: bool,
    timing_cache: Path | None = None,
) -> str:
    """The commands as a text for a shell, with a line above each that says what it does.

    Args:
        api: the package that built the engine.
        model: the prepared model.
        engine: the engine.
        profiles: shapes of dynamic inputs.
        sparse: whether kernels for sparse weights are allowed.
        timing_cache: file with timings of kernels.
    """
    rebuilt = engine.with_name(f"{engine.name}.rebuilt")
    trtexec = _trtexec(
        api, model=model, engine=rebuilt, profiles=profiles, sparse=sparse, timing_cache=timing_cache
    )
    model_words = _model_words(model=model, profiles=profiles, sparse=sparse)
    listing = ("inspect", "model", str(engine), "--model-type", "engine", "--show", "layers", "attrs")
    sections = {
        f"build the engine again ({api}; it lists the layers with sparse kernels)": shlex.join(trtexec),
        "the same with Polygraphy": _polygraphy(api, "convert", *model_words, "-o", str(rebuilt)),
        "compare the engine's outputs with ONNX Runtime's": _polygraphy(
            api, "run", *model_words, "--trt", "--onnxrt"
        ),
        "list the engine's layers and their kernels": _polygraphy(api, *listing),
    }
    return "\n".join(f"# {title}\n{command}\n" for title, command in sections.items())


def _trtexec(
    api: Api,
    *,
    model: Path,
    engine: Path,
    profiles: Sequence[Profile],
    sparse: bool,
    timing_cache: Path | None,
) -> list[str]:
    words = ["tensorrt_rtx" if api.is_rtx else "trtexec", f"--onnx={model}", f"--saveEngine={engine}"]
    words += [] if api.is_rtx else ["--stronglyTyped"]
    words += ["--sparsity=enable"] if sparse else []
    for index, kind in enumerate(KINDS):
        shapes = ",".join(f"{p.name}:{_joined(p.shapes[index], 'x')}" for p in profiles)
        words += [f"--{kind}Shapes={shapes}"] if shapes else []
    words += [f"--timingCacheFile={timing_cache}"] if timing_cache and not api.is_rtx else []
    return [*words, "--profilingVerbosity=detailed", "--dumpLayerInfo", "--verbose"]


def _polygraphy(api: Api, *words: str) -> str:
    """A command of Polygraphy that uses the package that built the engine."""
    return f"{'POLYGRAPHY_USE_TENSORRT_RTX=1 ' if api.is_rtx else ''}polygraphy {shlex.join(words)}"


def _model_words(*, model: Path, profiles: Sequence[Profile], sparse: bool) -> list[str]:
    words = [str(model), "--strongly-typed", *(["--sparse-weights"] if sparse else [])]
    for index, kind in enumerate(KINDS):
        if profiles:
            words += [
                f"--trt-{kind}-shapes",
                *(f"{p.name}:[{_joined(p.shapes[index], ',')}]" for p in profiles),
            ]
    return [*words, "--profiling-verbosity", "detailed"]


def _joined(shape: Shape, separator: str) -> str:
    return separator.join(map(str, shape))
