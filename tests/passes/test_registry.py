from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
from sample_passes import SAMPLES, Idle, Prune

from prunec.ir.diagnostics import UserError
from prunec.passes import registry
from prunec.passes.registry import BUILT_IN, Registry, load_pass, pass_names

HEAVY = ["numpy", "onnx", "onnx_ir", "onnxruntime", "scipy", "torch", "rich", "networkx"]


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points of other packages, for the length of a test."""
    points: list[EntryPoint] = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    registry._plugin_targets.cache_clear()
    yield points
    registry._plugin_targets.cache_clear()


def plugin(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="prunec.passes")


def error_of(name: str, table: Registry) -> str:
    with pytest.raises(UserError) as caught:
        table.load(name)
    return caught.value.render()


def test_names_are_known_without_their_modules() -> None:
    table = Registry(table={"b": "no_such_module:B", "a": Idle})
    assert table.names() == ("a", "b")
    assert set(BUILT_IN) <= set(pass_names())


def test_loading_gives_the_class() -> None:
    assert SAMPLES.load("prune") is Prune
    assert Registry(table={"prune": "sample_passes:Prune"}).load("prune") is Prune


def test_unknown_pass() -> None:
    assert error_of("pruen", SAMPLES) == (
        "error: unknown pass 'pruen' (did you mean 'prune'?)\n"
        "  = help: passes: idle, needy, odd, prune, repeat"
    )
    with pytest.raises(UserError, match=r"unknown pass 'fold-nrom' \(did you mean 'fold-norm'\?\)"):
        load_pass("fold-nrom")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("sample_passes:Missing", "AttributeError: module 'sample_passes' has no attribute 'Missing'"),
        ("sample_passes:SAMPLES", "sample_passes:SAMPLES is not a subclass of prunec.passes.Pass"),
        ("sample_passes:Prune", "sample_passes:Prune calls itself 'prune'"),
    ],
)
def test_a_pass_that_cannot_be_loaded(target: str, expected: str) -> None:
    assert expected in error_of("x", Registry(table={"x": target}))


def test_a_module_that_fails_on_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry_points: list[EntryPoint]
) -> None:
    (tmp_path / "broken_plugin.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    entry_points.append(plugin("x", "broken_plugin:X"))
    assert error_of("x", Registry(table={}, plugins=True)) == (
        "error: pass 'x' cannot be loaded from broken_plugin:X: ZeroDivisionError: division by zero"
    )


def test_entry_points_add_passes(entry_points: list[EntryPoint]) -> None:
    entry_points.append(plugin("prune", "sample_passes:Prune"))
    assert "prune" in pass_names()
    assert load_pass("prune") is Prune
    assert Registry(table={}).names() == ()


def test_a_built_in_name_cannot_be_taken_over(entry_points: list[EntryPoint]) -> None:
    entry_points.append(plugin("idle", "sample_passes:Prune"))
    assert Registry(table={"idle": Idle}, plugins=True).load("idle") is Idle
    assert Registry(table={"idle": Idle}, plugins=True).names() == ("idle",)


def test_two_packages_with_one_name(entry_points: list[EntryPoint]) -> None:
    entry_points += [plugin("x", "a:X"), plugin("x", "b:X")]
    assert error_of("x", Registry(table={}, plugins=True)) == "error: pass 'x' is offered 2 times: a:X, b:X"


def test_the_same_entry_point_twice_is_one(entry_points: list[EntryPoint]) -> None:
    entry_points += [plugin("prune", "sample_passes:Prune")] * 2
    assert load_pass("prune") is Prune


def test_the_front_end_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from prunec.passes.pipeline import parse_pipeline; from prunec.passes.plan import Plan\n"
        "from prunec.passes.registry import BUILT_IN, pass_names; pass_names()\n"
        "from prunec.ir.diagnostics import UserError\n"
        "for name in (*BUILT_IN, 'no-such-pass'):\n"
        "    try: parse_pipeline(name)\n"
        "    except UserError: pass\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    path = [*sys.path, *(str(Path(p).resolve()) for p in sys.path if p)]
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_no_module_of_a_pass_is_imported_for_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> ModuleType:
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr("importlib.import_module", refuse)
    assert Registry(table={"x": "x:X"}).names() == ("x",)
