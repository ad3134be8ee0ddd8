"""Every benchmark runs on a small model, as its documentation says, and writes what it prints."""

from __future__ import annotations

import ast
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "def main()" in path.read_text())
NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {4, 3, 2, 1}>
{ h = MatMul (x, w) r = Relu (h) y = MatMul (r, v) }
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save(onnx.parser.parse_model(NET), folder / "net.onnx")
    return folder


def run(script: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def rows(script: str, *arguments: object, out: Path) -> list[dict[str, Any]]:
    """The rows of a benchmark's results; what it prints must show them too."""
    printed = run(script, *arguments, "--json", out).stdout
    content = json.loads(out.read_text())
    assert content["schema"] == "prunec.benchmark/1"
    assert content["title"].split(";")[0] in printed
    assert platform.node() not in out.read_text()
    found: list[dict[str, Any]] = content["rows"]
    return found


def test_analysis(models: Path, tmp_path: Path) -> None:
    (row,) = rows("analysis.py", models, "--runs", 1, "--check", out=tmp_path / "out.json")
    assert (row["model"], row["nodes"], row["groups"], row["verdict"]) == ("net", 3, 1, "ok")
    assert row["kept"] == 0.5
    assert 0 < row["facts_seconds"] < row["seconds"]


def test_analysis_sets_the_peer_beside_it(models: Path, tmp_path: Path) -> None:
    (models / "net.onnx").rename(models / "tv_resnet18_shared.onnx")
    peers = tmp_path / "peers.json"
    columns = [{"key": "model", "title": "model", "format": ""}]
    result = {"model": "resnet18", "seconds": 50.0, "kept": 0.25, "outcome": "runs"}
    machine = {"cpu": "x", "cores": 1, "memory_gib": 1, "system": "x", "python": "3", "packages": {}}
    content = {"schema": "prunec.benchmark/1", "benchmark": "peers", "title": "peers", "columns": columns}
    peers.write_text(json.dumps({**content, "rows": [result], "machine": machine, "date": "2026-01-01"}))
    (row,) = rows("analysis.py", models, "--runs", 1, "--peers", peers, out=tmp_path / "out.json")
    assert row["ratio"] == pytest.approx(50 / row["prune_seconds"])
    assert (row["peer_kept"], row["kept_limit"], row["verdict"]) == (0.25, 0.261, "keeps too much")
    run("analysis.py", models, "--runs", 1, "--check", code=1)


def test_equivalence(models: Path, tmp_path: Path) -> None:
    (row,) = rows("equivalence.py", models, "--check", out=tmp_path / "out.json")
    assert (row["verdict"], row["kept"]) == ("masked", 0.5)
    assert row["error"] < 1e-5 < row["change"]


def test_equivalence_tells_bad_models_from_failures(models: Path, tmp_path: Path) -> None:
    (models / "bad.onnx").write_bytes(b"not a model")
    (listed, _) = rows("equivalence.py", models, out=tmp_path / "out.json")
    assert listed["verdict"] == "exit 2"
    assert listed["reason"] == "this is a text file, not a binary ONNX file"
    run("equivalence.py", models, "--check", code=1)
    (models / "INDEX.json").write_text(json.dumps([{"name": "bad", "ort_run": "no"}]))
    (listed, _) = rows("equivalence.py", models, "--check", out=tmp_path / "out.json")
    assert listed["verdict"] == "refused, as listed"


def test_equivalence_stops_what_takes_too_long(models: Path, tmp_path: Path) -> None:
    (row,) = rows("equivalence.py", models, "--seconds", 0.05, out=tmp_path / "out.json")
    assert row["verdict"] == "time limit"


def test_compile(models: Path, tmp_path: Path) -> None:
    on, off = rows("compile.py", models / "net.onnx", "--runs", 1, out=tmp_path / "out.json")
    assert (on["verify"], off["verify"]) == ("on", "off")
    assert "verify prune-channels" in on["phases"]
    assert "verify prune-channels" not in off["phases"]
    for row in (on, off):
        assert row["outcome"].startswith(("ok", "over"))  # a busy machine is no failure
        assert sum(row["phases"].values()) > 0
        assert row["cpu_seconds"] > 0.1
        assert row["peak_mib"] > 50
    (failed, _) = rows("compile.py", models / "net.onnx", "--pipeline", "no-pass", out=tmp_path / "out.json")
    assert failed["outcome"].startswith("exit 2: error:")


def test_startup(tmp_path: Path) -> None:
    found = rows("startup.py", "--runs", 1, "--seconds", 60, out=tmp_path / "out.json")
    assert [row["outcome"] for row in found] == ["ok"] * len(found)
    assert len(found) == 6
    run("startup.py", "--runs", 1, "--seconds", 0.001, code=1)


def test_latency(models: Path, tmp_path: Path) -> None:
    net = models / "net.onnx"
    before, after = rows("latency.py", net, net, "--runs", 5, out=tmp_path / "out.json")
    assert "speedup" not in before
    assert after["low"] <= after["speedup"] <= after["high"]


def test_skeletons_are_filled_by_the_script_beside_them(models: Path, tmp_path: Path) -> None:
    (models / "net.onnx").rename(models / "net.skel.xz")
    (models / "materialize.py").write_text("import shutil, sys; shutil.copy(*sys.argv[1:])")
    cache = tmp_path / "cache"
    (row,) = rows("analysis.py", models, "--runs", 1, "--cache", cache, out=tmp_path / "out.json")
    assert (row["model"], row["verdict"]) == ("net", "ok")
    assert [path.name for path in cache.iterdir()] == ["net.onnx"]


def test_no_model_is_an_error_of_one_line(tmp_path: Path) -> None:
    assert run("analysis.py", tmp_path, code=1).stderr == f"error: no model is in {tmp_path}\n"
    assert run("analysis.py", tmp_path / "no", code=1).stderr == f"error: there is no {tmp_path / 'no'}\n"


def test_tables_of_a_page_are_written_anew(models: Path, tmp_path: Path) -> None:
    run("analysis.py", models, "--runs", 1, "--json", tmp_path / "a.json")
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- results: a.json -->\nold\n<!-- end -->\nbehind\n")
    for _ in range(2):
        run("report.py", "--readme", page)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-2:], "old" in lines) == ("# Page", ["<!-- end -->", "behind"], False)
    assert [line for line in lines if line.startswith("| net | 3 | 1 |")]
    assert run("report.py", "--markdown", tmp_path / "a.json").stdout.strip() in page.read_text()


def test_results_in_the_readme_are_those_that_are_stored(tmp_path: Path) -> None:
    page = FOLDER / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(page.read_text())
    (tmp_path / "results").symlink_to(FOLDER / "results")
    run("report.py", "--readme", copy)
    assert copy.read_text() == page.read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_documentation_names_the_command(script: Path) -> None:
    documentation = ast.get_docstring(ast.parse(script.read_text())) or ""
    assert f"benchmarks/{script.name}" in documentation
    assert f"benchmarks/{script.name}" in (FOLDER / "README.md").read_text()
