"""A pass that fails leaves a folder, and the command in it fails in the same way."""

from __future__ import annotations

import json
import shlex
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import pytest
from coupling_graphs import coupled

import prunec
from prunec.ir.diagnostics import PassFailure, UserError
from prunec.ir.module import Module
from prunec.passes import registry
from prunec.passes.base import Context, Outcome, Pass, option
from prunec.tools import prunec as command

PRUNE = "prune-channels{round-to=1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Break(Pass):
    """Fails in one of many ways where the graph has become small."""

    name: ClassVar[str] = "break"

    how: str = option("fail", help="what happens")

    def run(self, module: Module, context: Context) -> Outcome:
        small = any(tuple(value.shape or ())[:1] == (2,) for value in module.graph.initializers.values())
        if small:
            ERRORS[self.how]()
        return Outcome(changed=False)


def fail() -> None:
    raise PassFailure("broken on purpose", help=["mend it"])


def refuse() -> None:
    raise UserError("your mistake")


def crash() -> None:
    raise KeyError("ours")


SIGNALS = MappingProxyType({"end": signal.SIGTERM, "hang-up": signal.SIGHUP})
ERRORS = MappingProxyType(
    {
        "fail": fail,
        "refuse": refuse,
        "crash": crash,
        **{how: partial(signal.raise_signal, number) for how, number in SIGNALS.items()},
    }
)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``net.onnx``, and a pass that breaks."""
    prunec.save(coupled("residual"), tmp_path / "net.onnx")
    monkeypatch.setitem(registry.BUILT_IN, "break", Break)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replay_of(shown: str) -> list[str]:
    """The words of the command behind ``replay with:``, without ``prunec``."""
    (line,) = [line for line in shown.splitlines() if "replay with: " in line]
    name, *arguments = shlex.split(line.partition("replay with: ")[2])
    assert name == "prunec"
    return arguments


@pytest.mark.parametrize(("how", "code"), [("fail", 1), ("crash", 70)])
def test_the_replay_fails_as_the_run_did(
    net: Path, capsys: pytest.CaptureFixture[str], how: str, code: int
) -> None:
    arguments = ["net.onnx", "-p", f"{PRUNE}, break{{how={how}}}, verify", "--seed", "3", "-o", "out.onnx"]
    assert command.run(arguments) == code
    shown = capsys.readouterr().err
    folder = Path("prunec-crash-1")
    assert (folder / "passes.txt").read_text() == (
        "break\nverify\n" if how == "fail" else f"break{{how={how}}}\nverify\n"
    )
    assert prunec.load(folder / "before.onnx").graph.initializers
    facts = json.loads((folder / "reproducer.json").read_text())
    assert (
        facts["seed"] == 3
        and facts["place"] == "2 of 3"
        and facts["versions"]["prunec"] == prunec.__version__
    )
    assert command.run(replay_of(shown)) == code
    again = capsys.readouterr().err
    assert again.replace("prunec-crash-2", "prunec-crash-1").splitlines()[0] == shown.splitlines()[0]
    assert not Path("out.onnx").exists() and Path("prunec-crash-2").is_dir()


def test_a_run_that_replays_a_plan_is_kept_from_its_beginning(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(["net.onnx", "-p", PRUNE, "--plan", "plan.json"]) == 0
    arguments = ["net.onnx", "-p", f"{PRUNE}, break", "--replay", "plan.json", "-o", "out.onnx"]
    assert command.run(arguments) == 1
    replay = replay_of(capsys.readouterr().err)
    assert (Path("prunec-crash-1") / "plan.json").read_text() == Path("plan.json").read_text()
    assert (Path("prunec-crash-1") / "passes.txt").read_text() == f"{PRUNE}\nbreak\n"
    assert command.run(replay) == 1


@pytest.mark.parametrize("options", [("--no-reproducer",), ()])
def test_a_mistake_of_the_user_leaves_no_folder(
    net: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    how, code = ("fail", 1) if options else ("refuse", 2)
    assert command.run(["net.onnx", "-p", f"{PRUNE}, break{{how={how}}}", *options]) == code
    assert "replay" not in capsys.readouterr().err
    assert [path.name for path in net.iterdir()] == ["net.onnx"]


def test_where_no_folder_can_be_made_the_error_itself_is_shown(
    net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert command.run(["net.onnx", "-p", f"{PRUNE}, break{{how=crash}}"]) == 70
    shown = capsys.readouterr().err
    assert shown == (
        "error: internal error: KeyError: 'ours'; please report\n"
        "  = help: no reproducer: [Errno 13] Permission denied\n"
    )


@pytest.mark.parametrize(("how", "code"), [("end", 143), ("hang-up", 129)])
def test_a_process_that_is_told_to_end_leaves_a_folder_too(
    net: Path, capsys: pytest.CaptureFixture[str], how: str, code: int
) -> None:
    handlers = {number: signal.signal(number, command._terminate) for number in SIGNALS.values()}
    try:
        assert command.run(["net.onnx", "-p", f"{PRUNE}, break{{how={how}}}"]) == code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "error: terminated" in capsys.readouterr().err
    assert (Path("prunec-crash-1") / "passes.txt").read_text() == f"break{{how={how}}}\n"
