"""The command as a process of its own: exit codes, streams, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunec.tools import prunec as command


def python(
    code: str, *arguments: str, variables: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Code in a fresh interpreter that finds the same packages."""
    paths = [str(Path(path).resolve()) for path in sys.path if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, **options
    )


def prunec_process(
    *arguments: str, variables: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    code = "import sys; from prunec.tools.prunec import main; main()"
    return python(code, *arguments, variables=variables or {}, **options)


def test_the_process_returns_the_exit_code(tmp_path: Path) -> None:
    found = prunec_process("net.onnx", "-p", "fold-nrom", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(
        "error: <pipeline>:1:1: unknown pass 'fold-nrom' (did you mean 'fold-norm'?)\n"
    )
    assert prunec_process("--version").returncode == 0


def test_a_closed_pipe_is_no_error() -> None:
    code = (
        "import os, sys; from prunec.tools.prunec import run\n"
        "reader, writer = os.pipe(); os.dup2(writer, 1); os.close(reader); os.close(writer)\n"
        "sys.exit(run(['--help']))"
    )
    found = python(code)
    assert (found.returncode, found.stderr) == (command.PIPE_EXIT_CODE, "")


def test_a_full_disk_behind_the_output_is_no_bug_of_ours() -> None:
    code = (
        "import errno, os, sys; from prunec.tools import prunec\n"
        "def full(arguments): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "prunec._invoke = full; sys.exit(prunec.run(['passes']))"
    )
    found = python(code)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: cannot write the output: no space left on device\n"


@pytest.mark.parametrize("stream", [1, 2])
def test_a_stream_that_the_caller_closed_is_no_error(stream: int) -> None:
    example = Path(__file__).parents[2] / "examples" / "digits.onnx"
    found = prunec_process("inspect", str(example), preexec_fn=lambda: os.close(stream))
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["passes"], ["net.onnx", "-p", "prune{"], ["x", "--foo"]])
def test_nothing_heavy_is_imported_before_there_is_work(arguments: list[str]) -> None:
    heavy = ["numpy", "onnx", "onnx_ir", "onnxruntime", "scipy", "torch", "rich", "networkx"]
    code = (
        f"import sys; from prunec.tools.prunec import run; run({arguments})\n"
        f"print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)"
    )
    found = python(code)
    assert found.returncode == 0
    assert found.stderr.splitlines()[-1] == "[]"


def test_the_shell_can_complete_words() -> None:
    asked = {"_PRUNEC_COMPLETE": "bash_complete", "COMP_WORDS": "prunec pas", "COMP_CWORD": "1"}
    assert "passes" in prunec_process(variables=asked).stdout
