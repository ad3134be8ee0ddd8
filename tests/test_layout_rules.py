"""The house rules that a machine can check: who may import whom, what is installed, sizes and docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("ir", "passes", "exporters", "tools")
"""Each may import itself and those before it."""

FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))

ONLY_IN = {
    "torch": ("ir/fx/", "exporters/"),
    "tensorrt": ("exporters/",),
    "tensorrt_rtx": ("exporters/",),
    "onnx_graphsurgeon": ("exporters/", "ir/load.py", "ir/save.py"),
}
"""Optional packages, and where alone they may be imported."""

MOST_LINES = {"tests": 500}
"""Tables of cases may be longer than code, which has 400."""

HEAVY = ("torch", "onnxruntime", "onnx", "onnx_ir", "numpy", "scipy", "networkx")


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in FILES:
        yield place(path), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Names of modules that a file imports, anywhere in it, also as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"prunec\.\w+\.[\w.:]+", str(node.value)):
            yield str(node.value).partition(":")[0]


def test_dependencies_point_one_way() -> None:
    wrong = [
        f"{name} imports {module}"
        for name, tree in trees()
        for module in imports(tree)
        if module.startswith("prunec.")
        and (layer := module.split(".")[1]) in LAYERS
        and LAYERS.index(layer) > LAYERS.index(name.split("/")[0])
    ]
    assert wrong == []


def test_only_what_users_hold_asks_the_public_face_which_knows_every_layer() -> None:
    below_tools = [(name, tree) for name, tree in trees() if not name.startswith("tools/")]
    asking = [
        name
        for name, tree in below_tools
        for module in imports(tree)
        if re.fullmatch(r"prunec(\.[a-zA-Z]+)?", module)
    ]
    assert set(asking) == {"passes/result.py", "passes/sensitivity/profile.py"}


def test_optional_packages_are_imported_where_they_belong() -> None:
    wrong = [
        f"{name} imports {module}"
        for name, tree in trees()
        for module in imports(tree)
        if (package := module.split(".")[0]) in ONLY_IN and not name.startswith(ONLY_IN[package])
    ]
    assert wrong == []


def test_heavy_packages_are_not_imported_by_modules_that_define_passes() -> None:
    from prunec.passes.registry import BUILT_IN

    for target in BUILT_IN.values():
        path = ROOT / (target.partition(":")[0].removeprefix("prunec.").replace(".", "/") + ".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        loaded = {module.split(".")[0] for node in top for module in imports(node)}
        assert loaded.isdisjoint(HEAVY), place(path)


def test_every_package_on_disk_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = {
        "prunec." + place(path.parent).replace("/", ".")
        for layer in LAYERS
        for path in (ROOT / layer).rglob("__init__.py")
    }
    assert set(listed) == {"prunec", *on_disk}
    folders = {place(path.parent) for path in FILES}
    assert {f"prunec.{folder.replace('/', '.')}" for folder in folders} == on_disk, (
        "a folder lacks __init__.py"
    )


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
    )  # fmt: skip
    return done.stdout.strip()


def test_nothing_lands_beside_the_package() -> None:
    modules = [
        "prunec." + place(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in FILES
        if not place(path).startswith("ir/fx/") and path.name != "__main__.py"
    ]
    code = f"import importlib, sys\nfor m in {modules!r}:\n    importlib.import_module(m)\n"
    code += f"print(sorted(set({LAYERS!r}) & set(sys.modules)))"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    "statement",
    [
        "import prunec",
        "import prunec; prunec.UserError, prunec.Pass, prunec.Plan, prunec.parse_pipeline, prunec.Module",
        "import prunec; prunec.parse_pipeline('fold-norm, prune-channels{ratio=0.4}, verify')",
        "import prunec.passes.registry; prunec.passes.registry.pass_names()",
    ],
)
def test_importing_and_parsing_load_nothing_heavy(statement: str) -> None:
    heavy = HEAVY if "Module" not in statement else ("torch", "onnxruntime", "scipy")
    assert run(f"import sys\n{statement}\nprint([m for m in {heavy!r} if m in sys.modules])") == "[]"


def test_every_public_name_of_the_package_is_there() -> None:
    code = "import prunec\nprint([n for n in prunec.__all__ if getattr(prunec, n, None) is None])\nprint(dir(prunec))"
    missing, names = run(code).splitlines()
    assert missing == "[]"
    assert ast.literal_eval(names) == sorted(ast.literal_eval(names))
    with pytest.raises(AttributeError, match="module 'prunec' has no attribute 'nonsense'"):
        __import__("prunec").nonsense  # noqa: B018


def undocumented(tree: ast.Module) -> Iterator[str]:
    if ast.get_docstring(tree) is None:
        yield "the module"
    for node, public in _definitions(tree, public=True):
        if public and ast.get_docstring(node) is None:
            yield node.name


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _definitions(tree: ast.Module | ast.ClassDef, *, public: bool) -> Iterator[tuple[Definition, bool]]:
    """Functions and classes of a module and the methods of its classes, and whether they are public."""
    for node in tree.body:
        if isinstance(node, Definition):
            mine = public and not node.name.startswith("_")
            yield node, mine
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, public=mine)


def test_everything_public_has_a_docstring() -> None:
    assert [f"{name}: {what}" for name, tree in trees() for what in undocumented(tree)] == []


def test_no_file_is_too_long() -> None:
    own = [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "src" / "prunec").glob("*.py")]
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in own}
    assert {n: count for n, count in lengths.items() if count > MOST_LINES.get(n.split("/")[0], 400)} == {}


def test_names_that_say_nothing_are_not_used() -> None:
    assert {place(p) for p in FILES if p.stem in ("utils", "helpers", "misc", "common", "util")} == set()


def test_the_version_is_that_of_the_package() -> None:
    from prunec.ir.version import VERSION

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
