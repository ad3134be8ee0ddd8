"""What a compile can be watched with: prints, diffs, dump folders, times, counters, limits, remarks."""

from __future__ import annotations

from pathlib import Path

import pytest
from coupling_graphs import coupled

import prunec
from prunec.passes.manager import Timing
from prunec.passes.pipeline import parse_pipeline
from prunec.tools import prunec as command
from prunec.tools.instruments.times import time_tree

PRUNE = "prune-channels{round-to=1}"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with ``net.onnx`` in it."""
    prunec.save(coupled("residual"), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compiled(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Standard output and standard error of a compile that must succeed."""
    assert command.run(["net.onnx", *arguments]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_graphs_are_printed_before_and_behind_passes(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = compiled(
        capsys, "-p", f"canonicalize, {PRUNE}", "--print-ir-before=prune-*", "--print-ir-after"
    )
    titles = [line for line in found.splitlines() if line.startswith(("// before", "// after"))]
    assert titles == [
        "// after canonicalize (1 of 2)",
        f"// before {PRUNE} (2 of 2)",
        f"// after {PRUNE} (2 of 2)",
    ]
    before, after = found.split("// before ")[1].split("// after ")
    assert "group g1 size=4" in before and "group g1 size=2" in after


def test_a_change_is_printed_as_a_diff_and_nothing_else(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = compiled(capsys, "-p", f"fold-norm, {PRUNE}, verify", "--print-ir-after-change")
    lines = found.splitlines()
    assert [line for line in lines if line.startswith("//")] == [f"// changed by {PRUNE} (2 of 3)"]
    removed = [line for line in lines if line.startswith("-group")]
    added = [line for line in lines if line.startswith("+group")]
    assert "size=4" in removed[0] and "size=2" in added[0]


def test_a_dump_folder_has_the_input_and_what_every_change_left(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-p", f"repeat{{times=2}}({PRUNE}), verify", "--dump-dir", "dumps"]
    for _ in range(2):
        compiled(capsys, *arguments)
        names = ["000_input.prunec", "001_prune-channels.prunec", "002_prune-channels.prunec"]
        assert sorted(path.name for path in Path("dumps").iterdir()) == names
    first, second, third = (path.read_text() for path in sorted(Path("dumps").iterdir()))
    assert "group g1 size=4" in first and "group g1 size=2" in second and second != third


def test_a_dump_folder_with_anything_else_in_it_is_refused(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep me")
    assert command.run(["net.onnx", "-p", PRUNE, "--dump-dir", "mine"]) == 2
    assert capsys.readouterr().err == (
        "error: mine: the dump folder holds 'notes.txt', which is no dump\n"
        "  = help: give the name of a new folder\n"
    )
    assert Path("mine/notes.txt").read_text() == "keep me" and not Path("net.pruned.onnx").exists()
    assert command.run(["net.onnx", "-p", PRUNE, "--dump-dir", "net.onnx"]) == 2
    assert "error: net.onnx: cannot use the dump folder: file exists\n" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--print-ir-before", "--print-ir-after"])
def test_a_glob_that_matches_no_pass_is_a_mistake(
    net: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert command.run(["net.onnx", "-p", f"verify, {PRUNE}", f"{option}=prune-chanels"]) == 2
    assert capsys.readouterr().err == (
        "error: no pass of the pipeline is called 'prune-chanels' (did you mean 'prune-channels'?)\n"
        "  = help: its passes: verify, prune-channels\n"
    )


def test_a_limit_stops_the_transforms_and_not_the_checks(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown = compiled(capsys, "-p", f"canonicalize, {PRUNE}, {PRUNE}, verify", "--bisect-limit", "2")
    assert [line for line in shown.splitlines() if line.startswith("bisect")] == [
        "bisect: run 1 canonicalize",
        f"bisect: run 2 {PRUNE}",
        f"bisect: skip 3 {PRUNE}",
    ]
    assert "group g1 size=2" in prunec_dump("net.pruned.onnx")


def prunec_dump(path: str) -> str:
    from prunec.passes.printer import print_module

    return print_module(prunec.load(path))


def test_counters_and_times_are_shown(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, shown = compiled(capsys, "-p", f"canonicalize, repeat{{times=2}}({PRUNE})", "--stats", "--time-passes")
    table = [line.split() for line in shown.splitlines()]
    assert ["4", "prune-channels.groups"] in table
    rows = {
        line[0]: line[1] for line in table if line and line[0] in ("canonicalize", "repeat", "prune-channels")
    }
    assert rows == {"canonicalize": "1", "repeat": "2", "prune-channels": "2"}


def test_the_tree_of_times_follows_the_pipeline() -> None:
    pipeline = parse_pipeline("verify, repeat{times=2}(verify, repeat{times=3}(canonicalize)), fold-norm")
    names = ["verify", *(["verify"] + ["canonicalize"] * 3) * 2]
    timings = [
        Timing(pass_name=name, seconds=2.0, verify_seconds=1.0, analyses={"facts": 0.5}) for name in names
    ]
    first, outer, held_back = time_tree(pipeline, timings, range(len(timings)))
    assert (first.runs, first.seconds, first.total) == (1, {"own": 1.5, "verify": 1.0, "facts": 0.5}, 3.0)
    verify, inner = outer.children
    assert (outer.runs, outer.total, outer.peak) == (2, 24.0, 8)
    assert (verify.runs, verify.total, inner.runs, inner.children[0].runs) == (2, 6.0, 6, 6)
    assert inner.children[0].total == inner.total == 18.0
    assert (held_back.runs, held_back.total) == (0, 0.0)


def test_remarks_go_to_a_file_and_some_of_them_to_the_screen(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown = compiled(
        capsys,
        *("-p", "fold-norm, prune-channels{only=nothing}", "--remarks", "remarks.yaml", "-R=prune-*"),
    )
    assert "remark[missed]: prune-channels: nothing can be pruned" in shown
    text = Path("remarks.yaml").read_text()
    assert text.startswith("--- !") and text.endswith("...\n")
    assert 'Pass: "prune-channels"\nMessage: "nothing can be pruned in this model"\nReason: "no group' in text


def test_remarks_for_programs_have_group_op_source_and_numbers(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = prunec.load("net.onnx")
    node = next(node for node in module.graph if "w0" in [v.name for v in node.inputs if v is not None])
    node.metadata_props["pkg.torch.onnx.stack_trace"] = 'File "/home/me/net.py", line 9, in forward'
    prunec.save(module, "net.onnx")
    _, shown = compiled(capsys, "-p", PRUNE, "--remarks", "remarks.yaml", "-R")
    documents = Path("remarks.yaml").read_text().split("...\n")
    (document,) = [text for text in documents if text.startswith("--- !Passed") and '"w0"' in text]
    assert document == (
        '--- !Passed\nPass: "prune-channels"\nName: "w0"\nGroup: "g1"\nOp: "Conv"\nSource: "net.py:9"\n'
        'Message: "group g1 (w0 and 6 more) loses 2 of 4 units"\nNumbers: {"units": 4, "removed": 2}\n'
    )
    assert "group g1 (w0 and 6 more) loses 2 of 4 units\n  = at: net.py:9\n" in shown


@pytest.mark.parametrize("before", [True, False])
def test_all_remarks_are_shown_wherever_the_option_stands(
    net: Path, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    rest = ["net.onnx", "-p", PRUNE, "--verify-each"]
    assert command.run(["-R", *rest] if before else [*rest, "-R"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("remark[passed]: prune-channels: group g") == 2 and "verified: " in shown


def test_remarks_of_a_pass_that_made_none_are_told(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, shown = compiled(capsys, "-p", PRUNE, "-R=prune-chanels")
    assert "no remarks of 'prune-chanels'; there are some of prune-channels\n" in shown


def test_remarks_never_overwrite_a_model(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["net.onnx", "-p", PRUNE, "--remarks", "net.onnx"]) == 2
    assert "net.onnx: this output would overwrite an input" in capsys.readouterr().err
