"""Programs in files: they come back, and nothing in a file is ever run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch_modules import CASES, assert_same

import prunec
from prunec.ir.fx.archive import is_arithmetic


class Evil:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("unpickled"),)


@pytest.fixture(scope="module")
def archive() -> bytes:
    """What ``torch.export.save`` writes of a language model with dynamic sizes."""
    case = CASES["decoder"]
    program = torch.export.export(case.made(), case.inputs(), dynamic_shapes=case.dynamic)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture
def saved(archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program as a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("net.pt2").write_bytes(archive)
    return tmp_path / "net.pt2"


def test_a_program_is_loaded_pruned_and_saved(saved: Path) -> None:
    module = prunec.load(saved)
    assert module.source.sha256 is not None
    result = prunec.run(module, "prune-channels{ratio=50%}")
    result.save("pruned.pt2")
    again = torch.export.load("pruned.pt2").module()
    ids = torch.randint(0, 50, (3, 11))
    assert_same(again(ids), result.to_torch()(ids))
    assert prunec.run(prunec.load("pruned.pt2"), "prune-channels{ratio=25%}").changed


def test_damaged_contents_are_named(saved: Path) -> None:
    """Torch reads weights without looking at their checksums."""
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as held:
        weights = [name for name in held.namelist() if "/weight_" in name]
        entry = max(weights, key=lambda name: held.getinfo(name).file_size)
        at = content.find(held.read(entry)) + 40
    content[at : at + 8] = bytes(255 - byte for byte in content[at : at + 8])
    saved.write_bytes(content)
    torch.export.load(io.BytesIO(bytes(content)))
    with pytest.raises(prunec.UserError, match=f"`{entry}` in it is damaged"):
        prunec.load(saved)


def rewritten(
    path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None
) -> Path:
    """A copy of an archive with changed entries."""
    target = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        root = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            copy.writestr(name, change(name, source.read(name)))
        for name, content in (extra or {}).items():
            copy.writestr(f"{root}/{name}", content)
    return target


def refused(path: Path, words: str) -> None:
    with pytest.raises(prunec.UserError, match=words):
        prunec.load(path)
    assert not Path("unpickled").exists()


def test_pickled_weights_are_refused(saved: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return (
            content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
            if "weights_config" in name
            else content
        )

    refused(rewritten(saved, change), "pickled objects, and unpickling runs code")


def test_pickled_examples_are_refused(saved: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if "sample_inputs/" not in name:
            return content
        buffer = io.BytesIO()
        torch.save(((Evil(),), {}), buffer)
        return buffer.getvalue()

    refused(rewritten(saved, change), "pickled objects")


def test_sizes_that_are_code_are_refused(saved: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        text = content.decode()
        first = text.index('"expr_str": "') + len('"expr_str": "')
        code = "__import__('pathlib').Path('unpickled').touch()"
        return (text[:first] + code + text[text.index('"', first) :]).encode()

    refused(rewritten(saved, change), "more than arithmetic")


def test_calls_of_functions_are_refused(saved: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        tree = json.loads(content)
        tree["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"
        return json.dumps(tree).encode()

    refused(rewritten(saved, change), "`torch.os.system`, which is no operator")


def test_files_of_torch_save_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), "net.pt2")
    refused(Path("net.pt2"), "this is a file of torch.save")
    Path("net.pt2").rename("net.pt")
    refused(Path("net.pt"), "its pickles are never run")
    Path("old.pt2").write_bytes(pickle.dumps(Evil()))
    refused(Path("old.pt2"), "this is no .pt2 archive")


def test_archives_of_older_releases_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("net.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Evil()))
    refused(Path("net.pt2"), "the program was saved by an older torch: it holds pickled objects")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_damaged_archives_are_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    Path("cut.pt2").write_bytes(content[: int(share * len(content))])
    refused(Path("cut.pt2"), "cut.pt2: this is")


def test_files_that_are_not_there_are_named(saved: Path) -> None:
    with pytest.raises(prunec.UserError, match="no such file"):
        prunec.load("nowhere.pt2")


def test_dialects_are_not_mixed_up_when_saving(saved: Path) -> None:
    with pytest.raises(prunec.UserError, match="a program of torch cannot be written as ONNX"):
        prunec.save(prunec.load(saved), "net.onnx")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Mul(Integer(2), Symbol('s0', positive=True, integer=True))", True),
        ("s0 + 2*s1 - 1", True),
        ("Eq(Mod(s0, 2), 0)", True),
        ("open('x')", False),
        ("Symbol('s').__class__", False),
        ("[x for x in (1,)]", False),
        ("__import__('os')", False),
        ("(lambda: 1)()", False),
        ("s0 +", False),
    ],
)
def test_arithmetic(text: str, allowed: bool) -> None:
    assert is_arithmetic(text) is allowed
