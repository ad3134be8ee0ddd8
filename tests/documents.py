"""Runs the code in a page of documentation, block by block, and says what does not do what the page says."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from prunec.passes import registry
from prunec.passes.pipeline import parse_pipeline
from prunec.tools.prunec import run

ROOT = Path(__file__).parents[1]
_NEED_TORCH = {"torch.md"}
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if find_spec("torch") or p.name not in _NEED_TORCH),
    *sorted((ROOT / "examples").rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_ERROR = re.compile(r"\b[0-9]\.[0-9]e[+-][0-9]{2}\b")
_EXIT = re.compile(r"\(exit ([0-9]+)\)")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, its text, and the line that it begins on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page that name a language."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(language=m[1], text=m[2], line=text.count("\n", 0, m.start()) + 1)
        for m in _FENCE.finditer(text)
    ]


def run_page(page: Path) -> int:
    """Run all blocks of a page in the working directory; the Python blocks of a page share their names.

    Returns:
        How many blocks there were to run.

    Raises:
        AssertionError: a block does something else than the page says.
    """
    with _module(page) as names:
        return sum(_run_block(block, names, page) for block in blocks(page))


@contextlib.contextmanager
def _module(page: Path) -> Iterator[dict[str, Any]]:
    """The names of a module that exists while a page runs, so that its classes can look up their types."""
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module
    try:
        yield module.__dict__
    finally:
        del sys.modules[module.__name__]


def _run_block(block: Block, names: dict[str, Any], page: Path) -> bool:
    """Run a block; False where its language is not one that runs."""
    where = f"{page.relative_to(ROOT)}:{block.line}"
    match block.language:
        case "python" if ">>>" in block.text:
            _run_doctest(block, names, where)
        case "python":
            exec(compile(block.text, where, "exec", dont_inherit=True), names)
        case "console":
            _run_console(block, where)
        case "passes":
            parse_pipeline(block.text, file=where)
        case _:
            return False
    return True


def broken_links(page: Path) -> Iterator[str]:
    """The relative links of a page that lead nowhere, headings included."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            yield target


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _run_doctest(block: Block, names: dict[str, Any], where: str) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line)
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=_FLAGS).run(test, out=report.write, clear_globs=False)
    assert not report.getvalue(), report.getvalue()
    names.update(test.globs)


def _run_console(block: Block, where: str) -> None:
    """Run every line ``$ prunec ...``, ``$ python FILE`` or ``$ ls FOLDER``, and compare what it prints with the
    lines behind it. ``pip install FOLDER`` makes the passes of a package known; ``make`` and other installations do
    nothing.

    ``...`` stands for anything; relative errors differ from machine to machine and count as equal. The line
    ``(exit N)`` says that the command fails.
    """
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        words = shlex.split(command)
        if words[0] in ("make", "python3") or words[:2] == ["pip", "install"]:
            _install(words[2]) if words[0] == "pip" and Path(words[-1]).is_dir() else None
            continue
        assert words[0] in _COMMANDS, f"{where}: cannot run {command!r}"
        wanted = int(match[1]) if (match := _EXIT.search(expected)) else 0
        code, printed = _COMMANDS[words[0]](words[1:])
        assert code == wanted, f"{where}: `{command}` exits with {code}\n{printed}"
        want, got = (_ERROR.sub("#e#", text) for text in (_EXIT.sub("", expected), printed))
        if want.strip():
            example = doctest.Example(command, want)
            checker = doctest.OutputChecker()
            assert checker.check_output(want, got, _FLAGS), (
                f"{where}: `{command}`\n{checker.output_difference(example, got, _FLAGS)}"
            )


def _install(folder: str) -> None:
    """What ``pip install FOLDER`` does for prunec: its modules and entry points are found, also in new processes."""
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"]["prunec.passes"]
    info = Path(folder) / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[prunec.passes]", *lines, ""]))
    sys.path.insert(0, str(Path(folder).resolve()))
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:1] + os.environ["PYTHONPATH"].split(os.pathsep))
    registry._plugin_targets.cache_clear()


def _listed(words: list[str]) -> tuple[int, str]:
    (folder,) = words
    return 0, "".join(f"{path.name}\n" for path in sorted(Path(folder).iterdir()))


def _python(words: list[str]) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def _captured(arguments: list[str]) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(arguments)
    return code, out.getvalue()


_COMMANDS = {"prunec": _captured, "ls": _listed, "python": _python}
