"""What the documentation says is what happens: commands and code run, links resolve, tables are complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import PAGES, ROOT, broken_links, run_page

from prunec.passes import registry
from prunec.passes.registry import BUILT_IN
from prunec.tools import prunec as command

GUIDES = (
    *("architecture", "torch", "add-an-op", "write-a-pass", "plan", "pipeline", "errors", "debugging"),
    "exporters",
)
MUST_RUN = {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / f"{name}.md" for name in GUIDES)}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the examples in it, as in a checkout; ``python`` is the one that runs the tests."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    yield tmp_path
    sys.path[:] = [folder for folder in sys.path if not Path(folder).is_relative_to(tmp_path)]
    registry._plugin_targets.cache_clear()
    sys.modules.pop("merge_twins", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_does_what_the_page_says(page: Path, checkout: Path) -> None:
    ran = run_page(page)
    assert ran or page not in MUST_RUN, "nothing to run on a page that has code to run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    assert not list(broken_links(page))


def test_readme_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme]
    assert not missing


def test_readme_names_every_pass() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in BUILT_IN if f"| `{name}` |" not in readme]


def test_generated_pages_are_fresh() -> None:
    outcome = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_verifier_code_is_explained() -> None:
    folders = (ROOT / "passes", ROOT / "ir", ROOT / "tools")
    sources = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    raised = set(re.findall(r'code="(V\d+)"', sources))
    assert raised
    assert raised == set(re.findall(r"^\| `(V\d+)` \|", page, re.MULTILINE))


@pytest.mark.parametrize("name", ["README.md", "docs/errors.md"])
def test_every_exit_code_is_explained(name: str) -> None:
    documented = set(re.findall(r"^(\d+) ", command.__doc__ or "", re.MULTILINE))
    page = (ROOT / name).read_text(encoding="utf-8")
    assert documented == set(re.findall(r"^\| (\d+) \|", page, re.MULTILINE))


def test_demo(tmp_path: Path) -> None:
    script = ROOT / "examples" / "demo.py"
    command_line = [sys.executable, str(script), "--seconds", "0.1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    outcome = subprocess.run(command_line, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert outcome.returncode == 0, outcome.stderr
    for quantity in ("parameters", "multiply-accumulates", "file size"):
        assert _row(outcome.stderr, rf"{quantity}.* -([\d.]+) %")[0] > 60
    assert "(exit 3: no model was written)" in outcome.stderr
    assert "5 of 5 thresholds" in outcome.stderr
    assert "at batch 8 digits.pruned.onnx is" in outcome.stdout
    page = (tmp_path / "demo-out" / "report.html").read_text(encoding="utf-8")
    for section in ("slices", "verified", "cuts", "layers", "sensitivity", "latency", "provenance"):
        assert f'<section id="{section}"' in page
    for name in ("digits.pruned.onnx", "plan.json", "profile.svg", "card.md"):
        assert (tmp_path / "demo-out" / name).is_file()


def _row(text: str, pattern: str) -> list[float]:
    match = re.search(pattern, text)
    assert match, text
    return [float(number) for number in match.groups()]


def test_comparison_is_what_the_benchmarks_stored() -> None:
    results = ROOT / "benchmarks" / "results"
    ours, peers = (
        {row["model"].removeprefix("tv_"): row for row in json.loads((results / name).read_text())["rows"]}
        for name in ("analysis.json", "peers-cpu.json")
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Compared\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)
    assert rows
    for name, peer, own in rows:
        stored = peers[name]
        assert own == f"{ours[name]['prune_seconds']:.2f}"
        assert (
            peer == f"{stored['seconds']:.2f}" if "seconds" in stored else stored["outcome"].startswith(peer)
        )
    both = [abs(ours[name]["kept"] - row["kept"]) for name, row in peers.items() if "kept" in row]
    assert max(both) < 0.003
