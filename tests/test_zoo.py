"""Graphs that nobody here wrote, pruned by half and verified; the folder of them is named by ``PRUNEC_ZOO``.

The suite takes six torchvision architectures, as exporters wrote them, and the small real models. All of
them::

    PRUNEC_ZOO=... PRUNEC_ZOO_ALL=1 pytest tests/test_zoo.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import FOLDER

import prunec
from prunec.ir.module import Module
from prunec.passes.manager import Result

pytestmark = pytest.mark.skipif(FOLDER is None, reason="PRUNEC_ZOO does not say where the zoo is")

QUICK = {
    "tv_resnet18", "tv_shufflenet_v2_x1_0", "tv_mobilenet_v2", "tv_densenet121_dynamo", "tv_swin_t_dynamo",
    "tv_squeezenet1_1_shared",
}  # fmt: skip
ALL = bool(os.environ.get("PRUNEC_ZOO_ALL"))
SMALL = 1_000_000
"""Bytes of a real model that the suite still takes."""

NOTHING = "nothing can be pruned in this model"


def skeletons() -> list[str]:
    """Names of the torchvision graphs to test."""
    if FOLDER is None:
        return []
    found = [path.name.removesuffix(".skel.xz") for path in sorted(Path(FOLDER).glob("tv_*.skel.xz"))]
    return found if ALL else [name for name in found if name in QUICK]


def real_models() -> list[str]:
    """Names of the real models that ONNX Runtime runs."""
    if FOLDER is None:
        return []
    entries = json.loads((Path(FOLDER) / "real" / "INDEX.json").read_text())
    return [e["name"] for e in entries if e["ort_run"] == "ok" and (ALL or e["bytes"] < SMALL)]


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for skeletons filled with weights; each is filled when a test asks for it."""
    return tmp_path_factory.mktemp("zoo")


def filled(folder: Path, name: str) -> Path:
    """A skeleton with reproducible random weights."""
    assert FOLDER is not None
    target = folder / f"{name}.onnx"
    if not target.exists():
        script, skeleton = Path(FOLDER) / "materialize.py", Path(FOLDER) / f"{name}.skel.xz"
        subprocess.run([sys.executable, script, skeleton, target], check=True, capture_output=True)
    return target


def halved(module: Module, **options: object) -> Result:
    """Prune by half; every transform is verified."""
    text = " ".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
    return prunec.run(module, f"prune-channels{{ratio=0.5 {text}}}")


@pytest.mark.parametrize("name", skeletons())
def test_torchvision(graphs: Path, name: str) -> None:
    path = filled(graphs, name)
    result = halved(prunec.load(path))
    path.unlink()
    (verdict,) = result.verdicts
    assert verdict.values > 40
    before, after = result.cost_before, result.cost_after
    assert after.parameters < 0.62 * before.parameters
    assert after.macs < 0.62 * before.macs


@pytest.mark.parametrize("name", real_models())
def test_real_model(name: str) -> None:
    assert FOLDER is not None
    result = halved(prunec.load(Path(FOLDER) / "real" / f"{name}.onnx"), round_to=1)
    if result.plan.steps:
        assert result.cost_after.parameters < result.cost_before.parameters
        assert len(result.verdicts) == 1
    else:
        (remark,) = [r for r in result.remarks if r.message == NOTHING]
        assert remark.reason


@pytest.mark.parametrize(
    ("name", "share", "inner"), [("silero_vad_16k_op15", 0.7, (0, 0)), ("tiny_gpt2_beamsearch", 0.5, (1, 1))]
)
def test_models_with_bodies_shrink(name: str, share: float, inner: tuple[int, int]) -> None:
    assert FOLDER is not None
    module = prunec.load(Path(FOLDER) / "real" / f"{name}.onnx")
    result = prunec.run(module, "canonicalize, fold-norm, prune-channels{ratio=0.5 round-to=1}")
    assert result.cost_after.parameters < share * result.cost_before.parameters
    assert result.verdicts[-1].bodies == inner


def test_the_suite_covers_something() -> None:
    assert len(skeletons()) >= len(QUICK)
    assert len(real_models()) > 15
