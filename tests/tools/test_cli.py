from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from sample_passes import SAMPLES

import prunec
from prunec.ir.diagnostics import GateError, Remark, UserError, VerificationError
from prunec.ir.module import Source
from prunec.passes import pipeline, registry
from prunec.passes.plan import Plan
from prunec.passes.registry import Registry
from prunec.tools import prunec as command

PLAN = Plan(source_name="net.onnx", source_sha256=None, pipeline="prune{ratio=0.25}", steps=())


@dataclass(frozen=True)
class FakeCost:
    parameters: int
    macs: int
    batch: int = 1


@dataclass(frozen=True)
class FakeModule:
    source: Source
    graph: tuple[object, ...] = ()


@dataclass(frozen=True)
class FakeVerdict:
    error: float
    exact: bool = True

    def __str__(self) -> str:
        return f"prune equals the masked original{' of rather a long name' * 5}"


@dataclass
class FakeResult:
    plan: Plan = PLAN
    cost_before: FakeCost = FakeCost(2_000_000, 1_000)
    cost_after: FakeCost = FakeCost(1_500_000, 900)
    module: FakeModule = FakeModule(Source(size=7))
    verdicts: tuple[FakeVerdict, ...] = (FakeVerdict(0.0), FakeVerdict(3.3e-7))
    remarks: tuple[Remark, ...] = (
        Remark(
            kind="missed", origin="prune", message="group g4 is not pruned", reason="it reaches an output"
        ),
        Remark(kind="passed", origin="prune", message="group g1 loses 2 of 8 units"),
    )


@dataclass
class Library:
    """Stands in for loading, running and saving, and records how they are called."""

    result: FakeResult = field(default_factory=FakeResult)
    error: BaseException | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)

    def load(self, path: str | Path) -> FakeModule:
        if not Path(path).exists():
            raise UserError(f"{path}: no such file")
        return FakeModule(Source(size=Path(path).stat().st_size))

    def run(
        self, module: FakeModule, pipeline: object, *, progress: Any, instruments: Any, **options: object
    ) -> FakeResult:
        self.watched = [type(instrument).__name__ for instrument in instruments]
        self.calls.append((str(pipeline), options))
        progress("pass 1 of 1: prune")
        if self.error is not None:
            raise self.error
        return self.result

    def save(self, module: FakeModule, path: Path, *, external_data: bool | None) -> None:
        path.write_bytes(b"pruned")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Library]:
    """A folder with a model in it as the working directory, and a library that does nothing."""
    library = Library()
    monkeypatch.setattr(prunec, "load", library.load, raising=False)
    monkeypatch.setattr(prunec, "run", library.run, raising=False)
    monkeypatch.setattr("prunec.ir.load.load", library.load)
    monkeypatch.setattr("prunec.ir.save.save", library.save)
    monkeypatch.setattr(registry, "BUILT_IN", SAMPLES.table)
    for function in (pipeline.read_pipeline, pipeline.parse_pipeline, pipeline.read_pipeline_file):
        monkeypatch.setitem(function.__kwdefaults__, "registry", SAMPLES)
    monkeypatch.setattr(registry, "DEFAULT_REGISTRY", SAMPLES)
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"a model")
    yield library


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert command.run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_compile_is_the_default_command(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["net.onnx", "-p", "prune{ratio=40%}, idle"]) == 0
    assert library.calls == [
        ("prune{ratio=0.4}, idle", {"verify": True, "seed": 0, "replay": None, "data": None})
    ]
    assert Path("net.pruned.onnx").read_bytes() == b"pruned"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "                      before   after   change",
        "parameters            2.00 M  1.50 M  -25.0 %",
        "multiply-accumulates   1,000     900  -10.0 %",
        "file size                7 B     6 B  -14.3 %",
        f"verified: {FakeVerdict(0.0)}",
        f"verified: {FakeVerdict(0.0)}",
        "worst relative error: 3.3e-07",
        "remarks: 1 missed, 1 passed (show them with -R)",
        "wrote net.pruned.onnx",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "net.onnx", "-p", "idle"],
        ["-p", "idle", "net.onnx"],
        ["--debug", "net.onnx", "-p", "idle"],
        ["--debug", "compile", "net.onnx", "-p", "idle"],
        ["net.onnx", "-p", "idle", "--debug"],
        ["-p", "idle", "--", "net.onnx"],
        ["./inspect", "-p", "idle"],
        ["compile", "inspect", "-p", "idle"],
        ["passses", "-p", "idle"],
    ],
)
def test_ways_to_name_the_model(library: Library, arguments: list[str]) -> None:
    Path("inspect").write_bytes(b"a model")
    Path("passses").write_bytes(b"a model")
    assert command.run(arguments) == 0
    assert [call[0] for call in library.calls] == ["idle"]


def test_all_options(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    Path("passes.txt").write_text("prune\nidle\n")
    arguments = ["net.onnx", "-p", "passes.txt", "-o", "out.onnx", "--plan", "plan.json", "--no-verify"]
    assert command.run([*arguments, "--seed", "7", "-R", "-v"]) == 0
    assert library.calls == [("prune, idle", {"verify": False, "seed": 7, "replay": None, "data": None})]
    assert library.watched == ["Reproducer"]
    assert Plan.load("plan.json") == PLAN
    assert Path("out.onnx").exists() and not Path("net.pruned.onnx").exists()
    lines = capsys.readouterr().err.splitlines()
    steps = [line.partition("s] ")[2] for line in lines if line.startswith("[")]
    assert steps == ["loading net.onnx", "pass 1 of 1: prune", "writing out.onnx"]
    shown = [line for line in lines if line.startswith(("remark", "  = reason"))]
    assert shown == [
        "remark[missed]: prune: group g4 is not pruned",
        "  = reason: it reaches an output",
        "remark[passed]: prune: group g1 loses 2 of 8 units",
    ]


def test_without_verification_the_summary_says_so(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    library.result.verdicts = ()
    library.result.remarks = ()
    assert command.run(["net.onnx", "-p", "idle", "--no-verify"]) == 0
    assert capsys.readouterr().err.splitlines()[-2:] == ["not verified", "wrote net.pruned.onnx"]
    assert command.run(["net.onnx", "-p", "idle"]) == 0
    assert "nothing to verify: no pass changed the model" in capsys.readouterr().err


def test_replay_brings_its_own_pipeline(library: Library) -> None:
    PLAN.save("plan.json")
    assert command.run(["net.onnx", "--replay", "plan.json"]) == 0
    assert command.run(["net.onnx", "--replay", "plan.json", "-p", "idle"]) == 0
    assert [(text, options["replay"]) for text, options in library.calls] == [
        ("prune{ratio=0.25}", PLAN),
        ("idle", PLAN),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net.onnx", "net.pruned.onnx"),
        ("a/net.onnxtxt", "a/net.pruned.onnx"),
        ("a/net.prunec", "a/net.pruned.onnx"),
        ("net.v2.onnx.txt", "net.v2.pruned.onnx"),
        ("net", "net.pruned.onnx"),
        (".onnx", ".onnx.pruned.onnx"),
    ],
)
def test_default_output(name: str, expected: str) -> None:
    from prunec.tools.outputs import default_output

    assert default_output(Path(name)) == Path(expected)


def test_output_mistakes_are_found_before_any_work(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    Path("passes.txt").write_text("idle")
    Path("link.onnx").symlink_to("net.onnx")
    PLAN.save("plan.json")
    Path("kept.onnx").touch(mode=0o444)
    base = ["net.onnx", "-p", "passes.txt"]
    overwrite = "this output would overwrite an input\n  = help: give the output another name\n"
    cases = {
        ("-o", "net.onnx"): f"error: net.onnx: {overwrite}",
        ("-o", "folder/../net.onnx"): f"error: folder/../net.onnx: {overwrite}",
        ("-o", "link.onnx"): f"error: link.onnx: {overwrite}",
        ("-o", "passes.txt"): f"error: passes.txt: {overwrite}",
        ("--plan", "net.onnx"): f"error: net.onnx: {overwrite}",
        ("--plan", "plan.json", "--replay", "plan.json"): f"error: plan.json: {overwrite}",
        ("-o", "folder"): (
            "error: folder: this output is a folder\n  = help: give a file name such as folder/model.onnx\n"
        ),
        ("-o", "new/out.onnx"): (
            "error: new/out.onnx: folder 'new' does not exist\n  = help: mkdir -p 'new'\n"
        ),
        ("--plan", "new/plan.json"): (
            "error: new/plan.json: folder 'new' does not exist\n  = help: mkdir -p 'new'\n"
        ),
        ("-o", "x.onnx", "--plan", "x.onnx"): "error: x.onnx: two outputs have this name\n",
        ("-o", "-"): (
            "error: -: a model is not written to standard output\n  = help: give a file name with -o\n"
        ),
        ("-o", "kept.onnx"): (
            "error: kept.onnx: this output exists and is read-only\n"
            "  = help: give another name, or make it writable\n"
        ),
    }
    for arguments, expected in cases.items():
        assert error_of(capsys, *base, *arguments) == expected
    assert library.calls == []
    assert Path("net.onnx").read_bytes() == b"a model"


def test_a_folder_that_cannot_be_written_is_found_before_any_work(
    library: Library, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert error_of(capsys, "net.onnx", "-p", "idle") == (
        "error: net.pruned.onnx: cannot write to folder '.': permission denied\n"
    )
    assert library.calls == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["net.onnx"],
            "error: no passes to run: option -p is missing\n"
            "  = help: give a file, or text such as -p 'fold-norm, prune-channels{ratio=40%}'\n"
            "  = help: `prunec passes` lists all passes\n",
        ),
        (
            ["net.onnx", "-p", "prune, repeat(prune, repeat())"],
            "error: pass 'repeat' has nothing to run: its parentheses are empty\n"
            "  = help: write the passes to run in the parentheses\n",
        ),
        (
            ["net.onnx", "-p", "prune{ratoi=40%}"],
            "error: <pipeline>:1:7: unknown option 'ratoi' (did you mean 'ratio'?)\n"
            "  1 | prune{ratoi=40%}\n"
            "    |       ^^^^^\n"
            "  = help: options of prune: ratio, criterion, ignore, round-to, pattern, dry, remarks\n",
        ),
        (
            ["net.onnx", "-p", "passes.txt"],
            "error: passes.txt: no such file\n"
            "  = help: give the path of a pipeline file, or passes as text such as 'fold-norm, verify'\n",
        ),
        (
            ["net.onnx", "-p", "idle.passes"],
            "error: idle.passes: no such file\n"
            "  = help: give the path of a pipeline file, or passes as text such as 'fold-norm, verify'\n",
        ),
        (
            ["", "-p", "idle"],
            "error: the name of the model is empty\n  = help: give the path of a model\n",
        ),
        (["missing.onnx", "-p", "idle"], "error: missing.onnx: no such file\n"),
        (["missing/net.onnx", "-p", "idle"], "error: missing/net.onnx: no such file\n"),
        (
            ["net.onnx", "--replay", "plan.json"],
            "error: plan.json: cannot read the plan: no such file or directory\n",
        ),
        (["passse"], "error: no such command 'passse' (did you mean 'passes'?)\n  = help: prunec --help\n"),
        (
            ["passse", "net.onnx"],
            "error: no such command 'passse' (did you mean 'passes'?)\n  = help: prunec --help\n",
        ),
        (
            ["passes", "pruen"],
            "error: unknown pass 'pruen' (did you mean 'prune'?)\n"
            "  = help: passes: idle, needy, odd, prune, repeat\n",
        ),
        (
            ["passes", "a", "b"],
            "error: got unexpected extra argument (b)\n  = help: prunec passes --help\n",
        ),
    ],
)
def test_mistakes_on_the_command_line(
    library: Library, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert error_of(capsys, *arguments) == expected
    assert library.calls == []


@pytest.mark.parametrize(
    "arguments", [["net.onnx", "--seed", "x"], ["net.onnx", "--sede", "1"], ["net.onnx", "a", "b"], ["-p"]]
)
def test_usage_errors_have_the_form_of_all_errors(
    library: Library, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    first, *rest = error_of(capsys, *arguments).splitlines()
    assert first.startswith("error: ") and first[7].islower() and not first.endswith(".")
    assert rest == ["  = help: prunec --help"]


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (VerificationError("`Add` adds 6 to 8", code="V012"), 1, "error[V012]: `Add` adds 6 to 8\n"),
        (UserError("the model has no weights"), 2, "error: the model has no weights\n"),
        (GateError("accuracy 0.71 is below 0.75"), 3, "error: accuracy 0.71 is below 0.75\n"),
        (
            ValueError("bad shape\nand more"),
            70,
            "error: internal error: ValueError: bad shape; please report\n",
        ),
        (KeyError(), 70, "error: internal error: KeyError: ; please report\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_exit_codes(
    library: Library, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, expected: str
) -> None:
    library.error = error
    assert error_of(capsys, "net.onnx", "-p", "idle", code=code).lstrip("\n") == expected
    assert not Path("net.pruned.onnx").exists()
    debug = error_of(capsys, "net.onnx", "-p", "idle", "--debug", code=code)
    assert "Traceback" in debug and debug.endswith(expected)


def test_help_shows_both_ways_of_use_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "Usage: prunec MODEL -p PASSES [-o OUT] [OPTIONS]\n       prunec COMMAND [ARGUMENTS]\n"
    )
    assert "  prunec net.onnx -p 'fold-norm, prune-channels{ratio=40%}' -o small.onnx\n" in shown
    for name in (
        *command.COMMANDS,
        "--replay PLAN",
        "--no-verify",
        "--debug",
        "--version",
        "MODEL.pruned.onnx",
    ):
        assert name in shown
    assert command.run(["net.onnx", "-h"]) == 0
    assert capsys.readouterr().out.startswith(
        "Usage: prunec MODEL -p PASSES [-o OUT] [OPTIONS]\n\n  Run a pipeline"
    )


def test_no_arguments_show_the_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(capsys).startswith("Usage: prunec MODEL -p PASSES")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("prunec 0.")


def test_passes_lists_every_pass(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["passes"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("idle  Do nothing at all.\n\nneedy  One option that must be given,")
    assert ("prune  Remove what matters least.\n    ratio=ratio") in shown
    assert "share of channels to remove [default: 0.3; from 0 (included) to 1 (excluded)]" in " ".join(
        shown.split()
    )
    assert "what to reach  [must be given]" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_passes_explains_one(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["passes", "repeat"]) == 0
    assert capsys.readouterr().out == (
        "repeat\n\n"
        "Run passes several times.\n\n"
        "options:\n"
        "    times=int  how often  [default: 2; of at least 1]\n\n"
        "verified: computes what its input computed\n"
    )


def test_a_pass_that_cannot_be_loaded_does_not_hide_the_others(
    library: Library, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Registry(table={"broken": "no_such_module:X", "idle": SAMPLES.table["idle"]})
    monkeypatch.setattr(registry, "DEFAULT_REGISTRY", table)
    assert command.run(["passes"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "broken  (pass 'broken' cannot be loaded from no_such_module:X: ModuleNotFoundError"
    )
    assert "idle  Do nothing at all." in shown


def test_every_command_takes_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    context = click.Context(command.cli)
    for name in ("compile", "passes"):
        found = command.cli.get_command(context, name)
        assert found is not None and [p.name for p in found.params].count("debug") == 1
        assert command.cli.get_command(context, name) is found
