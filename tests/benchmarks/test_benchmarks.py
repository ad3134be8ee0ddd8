"""Every benchmark runs on a small model, as its documentation says, and writes what it prints."""

from __future__ import annotations

import ast
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PAGES = (
    FOLDER / "README.md",
    *(FOLDER.parent / "docs" / name for name in ("coverage.md", "quality.md", "torch_zoo.md")),
)
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


def test_sparsity(models: Path, tmp_path: Path) -> None:
    wide = (
        NET.replace("[N, 2]", "[N, 4]")
        .replace("[2, 2]", "[4, 4]")
        .replace("1, 2, 3, 4", "1, 2, 3, 4" + ", 5" * 12)
    )
    onnx.save(
        onnx.parser.parse_model(wide.replace("{4, 3, 2, 1}", "{4" + ", 3" * 15 + "}")),
        models / "resnet50.onnx",
    )
    measured = [f"--measure={name}" for name in ("valid-masks", "magnitude", "data-aware")]
    found = rows("sparsity.py", models, "--runs", 1, "--check", *measured, out=tmp_path / "out.json")
    assert [(r["measurement"], r["subject"], r["verdict"]) for r in found] == [
        ("valid masks", "MatMul", "ok"),
        ("magnitude 2:4", "resnet50", "ok"),
        ("layer error", "digits.onnx, sparsegpt below magnitude", "ok"),
        ("layer error", "digits.onnx, sparsegpt below wanda", "ok"),
        ("accuracy lost", "digits.onnx, sparsegpt", "ok"),
    ]
    assert found[0]["value"] == 100
    assert found[0]["of"] == "2 masks in 1 models"
    assert 0 < found[1]["value"] < 0.5


def test_sensitivity(models: Path, tmp_path: Path) -> None:
    arguments = ["--groups", 3, "--samples", 8, "--layers", 1]
    found = rows("sensitivity.py", *arguments, out=tmp_path / "out.json")
    by = {(row["measurement"], row["subject"]): row for row in found}
    assert by["sweep", "wall"]["of"] == "3 layers, 8 samples, ratio 0.2"
    assert by["naive, a script", "cpu"]["of"] == "1 layers, scaled; 1 values agree"
    assert by["sweep against naive, a script", "wall"]["value"] > 5


def test_permutation(models: Path, tmp_path: Path) -> None:
    """The first half of eight channels is large: 2:4 keeps all of it once it is dealt out to both stripes."""
    numbers = {"w": range(1, 17), "v": [9, 9, 8, 8, 7, 7, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1]}
    net = NET.replace("float[2, 2] w", "float[2, 8] w").replace("float[2, 2] v", "float[8, 2] v")
    for name, old in {"w": "1, 2, 3, 4", "v": "4, 3, 2, 1"}.items():
        net = net.replace(f"{{{old}}}", f"{{{', '.join(map(str, numbers[name]))}}}")
    onnx.save(onnx.parser.parse_model(net), models / "resnet50.onnx")
    found = rows("sparsity.py", models, "--measure", "permutation", out=tmp_path / "out.json")
    assert [(r["subject"], r["unit"]) for r in found] == [
        ("random 64 x 128", "% efficacy"),
        ("random 64 x 128", "CPU s"),
        ("resnet50", "CPU s"),
        ("resnet50", "% efficacy"),
        ("resnet50", "relative error"),
    ]
    assert found[0]["value"] > 45
    assert (found[3]["value"], found[3]["of"]) == (100, "1 groups")


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


def test_zoo(models: Path, tmp_path: Path) -> None:
    (row,) = rows("zoo.py", models, out=tmp_path / "out.json")
    assert (row["nodes"], row["verdict"], row["groups"], row["proven"]) == (3, "ok", 1, "masked")
    assert (row["kept_shares"], row["prunable"], row["prunable_shares"]) == (
        "1.00 / 0.50 / 1.00",
        1,
        "1.00 / 0.50 / 1.00",
    )
    assert row["error"] < 1e-5 < row["runs"]["0.5"]["change"]
    assert row["why"] == ""  # both ends are pinned, but every weight can lose its other axis


def test_zoo_tells_bad_models_from_failures(models: Path, tmp_path: Path) -> None:
    odd = NET.replace("y = MatMul (r, v)", "z = MatMul (r, v) y = Odd (z)")
    onnx.save(onnx.parser.parse_model(odd), models / "bad.onnx")
    (models / "text.onnx").write_text("not a model")
    bad, _, text = rows("zoo.py", models, out=tmp_path / "out.json")
    assert (bad["outcome"], text["verdict"]) == ("refused by ONNX Runtime", "refused by ONNX Runtime")
    assert "Odd" in bad["why"]
    assert text["why"] == "this is a text file, not a binary ONNX file"


def test_zoo_fails_where_a_model_that_runs_does_not_compile(models: Path, tmp_path: Path) -> None:
    index = [{"name": "net", "ort_run": "ok", "weights": "trained"}]
    (models / "INDEX.json").write_text(json.dumps(index))
    printed = run("zoo.py", models).stdout
    assert "1 of the 1 models that ONNX Runtime runs compile" in printed
    assert "1 of 1 trained models lose at least 30% of their prunable parameters at ratio 0.5" in printed
    for option, limit, verdict in (("--seconds", 0.05, "timeout"), ("--gibibytes", 0.01, "memory")):
        out = tmp_path / f"{verdict}.json"
        assert "0 of the 1 models" in run("zoo.py", models, option, limit, "--json", out, code=1).stdout
        (row,) = json.loads(out.read_text())["rows"]
        assert row["verdict"] == verdict


def test_zoo_writes_its_table_into_a_page(models: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- results: out.json -->\n<!-- end -->\n")
    run("zoo.py", models, "--json", tmp_path / "out.json", "--markdown", page)
    assert "| net | 3 | ok |" in page.read_text()
    assert "give --json FILE too" in run("zoo.py", models, "--markdown", page, code=2).stderr


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


def test_fuzz(tmp_path: Path) -> None:
    """A second run takes its rows from the log."""
    first, second, log = tmp_path / "1.json", tmp_path / "2.json", tmp_path / "log.jsonl"
    found = rows("fuzz.py", "--graphs", 2, "--seed-from", 7, "--log", log, out=first)
    assert sum(row["ok"] + row["nothing"] for row in found) == len(log.read_text().splitlines()) == 2
    assert rows("fuzz.py", "--graphs", 2, "--seed-from", 7, "--log", log, out=second) == found
    assert len(log.read_text().splitlines()) == 2
    graphs = [json.loads(line) for line in log.read_text().splitlines()]
    counted = json.loads(first.read_text())["options"]["ops"]
    assert counted == {op: sum(op in graph["ops"] for graph in graphs) for op in counted}
    assert any(counted.values())


def test_criteria(models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = ", ".join(f"{number:.3f}" for number in rng.standard_normal(16))
    text = f"""<ir_version: 9, opset_import: ["" : 17]> net (float[N, 4] x) => (float[N, 4] y)
        <float[4, 4] w = {{{weights}}}, float[4, 4] v = {{{weights}}}> {{ h = MatMul (x, w) y = MatMul (h, v) }}"""
    onnx.save(onnx.parser.parse_model(text), models / "net.onnx")
    x = (rng.standard_normal((200, 1)) + 0.1 * rng.standard_normal((200, 4))).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, label=np.zeros(200, np.int64))
    given = (models / "net.onnx", tmp_path / "data.npz", tmp_path / "data.npz")
    magnitude, wanda, best = rows("criteria.py", *given, out=tmp_path / "out.json")
    assert [row["layers"] for row in (magnitude, wanda, best)] == [2, 2, 2]
    assert best["error"] < 0.5 * magnitude["error"]
    assert best["below_magnitude"] == pytest.approx(1 - best["error"] / magnitude["error"])
    assert 0 <= best["accuracy"] <= 1


def test_overhead(models: Path, tmp_path: Path) -> None:
    (row,) = rows("overhead.py", models / "net.onnx", "--pairs", 1, out=tmp_path / "out.json")
    assert (row["model"], row["nodes"]) == ("net", 3)
    assert 0 < row["bookkeeping"] < 0.5 < row["ratio"] < 2


def test_debugging(tmp_path: Path) -> None:
    sizes = ("w0", "8, 3, 1, 1"), ("w1", "8, 8, 1, 1"), ("w2", "8, 8, 1, 1")
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[1, 3, 4, 4] x) => (float[1, 8, 4, 4] y)
    { a = Conv (x, w0) b = Conv (a, w1) c = Relu (a) d = Conv (c, w2) e = Add (b, d) y = Relu (e) }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in sizes:
        array = rng.standard_normal([int(size) for size in shape.split(", ")]).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "net.onnx")
    given = ["--large", tmp_path / "net.onnx", "--broken", tmp_path / "net.onnx", "--runs", 1]
    found = {row["command"]: row for row in rows("debugging.py", *given, out=tmp_path / "out.json")}
    assert found["prunec inspect"]["result"] == "6 nodes"
    assert re.fullmatch(r"[345] nodes after \d+ tries", found["prunec reduce"]["result"])
    assert found["prunec bisect"]["result"].startswith("error: ")  # all of it is narrow already
    assert found["prunec diff"]["result"] == "all 6 aligned values agree to 0.0001"


def test_latency(models: Path, tmp_path: Path) -> None:
    net = models / "net.onnx"
    before, after = rows("latency.py", net, net, "--runs", 5, out=tmp_path / "out.json")
    assert "speedup" not in before
    assert after["low"] <= after["speedup"] <= after["high"]


def test_bench(models: Path, tmp_path: Path) -> None:
    net = models / "net.onnx"
    found = rows(
        "bench.py", net, "--pair", net, net, "--batch", "1,2", "--seconds", 0.5, out=tmp_path / "out.json"
    )
    assert [(row["first"], row["batch"]) for row in found] == [("net", 1), ("net", 2)] * 2
    assert all(row["low"] <= row["speedup"] <= row["high"] for row in found)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_results_on_a_page_are_those_that_are_stored(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / page.parent.name / page.name
    copy.parent.mkdir()
    copy.write_text(page.read_text())
    (tmp_path / "benchmarks").mkdir(exist_ok=True)
    (tmp_path / "benchmarks" / "results").symlink_to(FOLDER / "results")
    run("report.py", "--readme", copy)
    assert copy.read_text() == page.read_text()
    named = re.findall(r"<!-- results: (\S+) -->", page.read_text())
    assert named
    assert all((page.parent / name).is_file() for name in named)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_documentation_names_the_command(script: Path) -> None:
    documentation = ast.get_docstring(ast.parse(script.read_text())) or ""
    assert f"benchmarks/{script.name}" in documentation
    assert f"benchmarks/{script.name}" in (FOLDER / "README.md").read_text()
