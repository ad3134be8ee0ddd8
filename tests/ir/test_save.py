"""Saving: nothing is lost, nothing is half written."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir
import pytest
from onnx import numpy_helper
from rich_model import differences, rich
from zoo import zoo_models

from prunec.ir import proto as proto_module
from prunec.ir import save as save_module
from prunec.ir.diagnostics import UserError
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.repair import repair
from prunec.ir.save import save, to_graphsurgeon, to_proto


def inlined(path: Path) -> onnx.ModelProto:
    """The model as ``onnx`` itself reads it, weights included."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")
    return model


def test_differences_sees_what_differs() -> None:
    changed = rich()
    changed.graph.node[1].attribute[0].g.node[0].name = "renamed"
    changed.graph.initializer[0].raw_data = bytes(2048)
    assert len(differences(rich(), changed)) == 2


@pytest.mark.parametrize("external", [False, True])
def test_everything_survives_the_round_trip(tmp_path: Path, external: bool) -> None:
    onnx.save(rich(), tmp_path / "in.onnx")
    save(load(tmp_path / "in.onnx"), tmp_path / "out.onnx", external_data=external)
    assert differences(rich(), inlined(tmp_path / "out.onnx")) == []
    assert (tmp_path / "out.onnx.data").exists() == external


def test_everything_survives_in_memory() -> None:
    assert differences(rich(), to_proto(load(rich()))) == []
    without = rich()
    without.graph.value_info.pop()  # an onnx_ir.Model does not say that an initializer was declared there
    assert differences(without, to_proto(load(onnx_ir.from_proto(rich())))) == []


def test_bytes_are_the_same_from_run_to_run(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        save(load(rich()), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("path", zoo_models(runs=True))
def test_real_models_survive_the_round_trip(tmp_path: Path, path: Path) -> None:
    module = load(path)
    save(module, tmp_path / "out.onnx")
    save(module, tmp_path / "external.onnx", external_data=True)
    source = sorted_like(onnx.load(path), module)
    repair(source, file=str(path))
    assert differences(source, onnx.load(tmp_path / "out.onnx")) == []
    for tensor in source.graph.initializer:  # external data has no other form than raw
        if len(raw := numpy_helper.to_array(tensor).tobytes()) >= 1024:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
            assert tensor.raw_data == raw
    assert differences(source, inlined(tmp_path / "external.onnx")) == []
    assert differences(source, to_proto(load(tmp_path / "external.onnx"))) == []


def sorted_like(proto: onnx.ModelProto, module: Module) -> onnx.ModelProto:
    """The proto in the module's node order, less ``value_info`` that says nothing.

    Such is that of values which the graph does not have, and of its inputs and outputs, declared there.
    """
    order = {node.outputs[0].name: index for index, node in enumerate(module.graph)}
    nodes = sorted(proto.graph.node, key=lambda node: order[node.output[0]])
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for graph in proto_module.graphs_of(proto.graph):
        there = {name for node in graph.node for name in node.output}
        there |= {tensor.name for tensor in graph.initializer}
        there -= {value.name for value in (*graph.input, *graph.output)}
        kept = [info for info in graph.value_info if info.name in there]
        del graph.value_info[:]
        graph.value_info.extend(kept)
    return proto


def test_text_round_trip(tmp_path: Path) -> None:
    source = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {0.1, -1e-30, 3.4028235e+38, 16777217}> {
            y = MatMul (x, w)
        }""")
    save(load(source), tmp_path / "net.onnxtxt")
    assert (tmp_path / "net.onnxtxt").read_text().startswith("<")
    back = to_proto(load(tmp_path / "net.onnxtxt"))
    np.testing.assert_array_equal(
        numpy_helper.to_array(back.graph.initializer[0]), numpy_helper.to_array(source.graph.initializer[0])
    )


def test_text_refuses_large_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save_module, "LARGEST_TEXT", 100)
    with pytest.raises(
        UserError, match="2,058 bytes of weights are too many for ONNX text, which may hold 100"
    ):
        save(load(rich()), tmp_path / "net.onnxtxt")
    with pytest.raises(UserError, match="ONNX text holds its weights itself"):
        save(load(rich()), tmp_path / "net.onnxtxt", external_data=True)
    assert list(tmp_path.iterdir()) == []


def test_external_data_is_kept_where_the_source_had_it(tmp_path: Path) -> None:
    save(load(rich()), tmp_path / "in.onnx", external_data=True)
    save(load(tmp_path / "in.onnx").clone(), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size == 2048
    save(load(tmp_path / "in.onnx"), tmp_path / "inline.onnx", external_data=False)
    assert not (tmp_path / "inline.onnx.data").exists()


def test_large_models_get_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (save_module, proto_module):
        monkeypatch.setattr(module, "LARGEST_PROTO", 1000)
    save(load(rich()), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    for refused in (
        lambda: save(load(rich()), tmp_path / "x.onnx", external_data=False),
        lambda: to_proto(load(rich())),
    ):
        with pytest.raises(UserError, match="2,058 bytes of weights do not fit into one ModelProto"):
            refused()


def test_saving_over_its_own_source_keeps_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    save(load(rich()), path, external_data=True)
    module = load(path)
    for _ in range(3):
        save(module, path)
        assert differences(rich(), inlined(path)) == []
    assert differences(rich(), to_proto(module)) == []
    assert len(list(tmp_path.glob("*.data"))) == 1


def test_data_files_of_others_are_left_alone(tmp_path: Path) -> None:
    module = load(rich())
    (tmp_path / "net.onnx.data").write_text("somebody's")
    save(module, tmp_path / "net.onnx", external_data=True)
    assert (tmp_path / "net.onnx.data").read_text() == "somebody's"
    assert (tmp_path / "net.onnx.2.data").exists()
    # two models over one data file: replacing one of them by a copy of the other keeps the file for that one
    os.link(tmp_path / "net.onnx", tmp_path / "twin.onnx")
    save(load(tmp_path / "twin.onnx"), tmp_path / "net.onnx")
    assert differences(to_proto(load(tmp_path / "twin.onnx")), to_proto(module)) == []


def test_saving_does_not_change_the_module(tmp_path: Path) -> None:
    module = load(rich())
    tensors = {name: value.const_value for name, value in module.graph.initializers.items()}
    save(module, tmp_path / "net.onnx", external_data=True)
    assert all(value.const_value is tensors[name] for name, value in module.graph.initializers.items())


def test_alignment_of_external_data(tmp_path: Path) -> None:
    proto = rich()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(1025, dtype=np.uint8), "odd"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(2000, dtype=np.float32), "after"))
    save(load(proto), tmp_path / "net.onnx", external_data=True)
    written = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    offsets = [
        int(entry.value)
        for t in written.graph.initializer
        for entry in t.external_data
        if entry.key == "offset"
    ]
    assert len(offsets) == 3 and all(offset % 64 == 0 for offset in offsets)


class Crash(BaseException):
    """The power is cut."""


def _crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the given call, counted over everything that touches the disk, the last one."""
    calls = iter(range(1000))

    def cut(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) >= step:
                raise Crash
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(Path, "replace", cut(Path.replace))
    monkeypatch.setattr(Path, "open", cut(Path.open))
    monkeypatch.setattr(Path, "unlink", cut(Path.unlink))
    monkeypatch.setattr(os, "fsync", cut(os.fsync))


@pytest.mark.parametrize("before", ["inline", "external", "nothing"])
@pytest.mark.parametrize("external", [False, True])
def test_a_crash_at_any_step_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, before: str, external: bool
) -> None:
    old, new = rich(), rich()
    new.graph.initializer[0].raw_data = np.full(512, 9, dtype=np.float32).tobytes()
    finished = False
    for step in range(40):
        folder = tmp_path / str(step)
        folder.mkdir()
        path = folder / "net.onnx"
        if before != "nothing":
            save(load(old), path, external_data=before == "external")
        module = load(new)
        with pytest.MonkeyPatch.context() as patch:
            _crash_at(patch, step)
            try:
                save(module, path, external_data=external)
                finished = True
            except Crash:
                pass
        if before != "nothing" or path.exists():
            found = inlined(path)
            assert [] in (differences(old, found), differences(new, found))
        if finished:
            assert differences(new, inlined(path)) == []
            assert not list(folder.glob(".*"))
            return
    pytest.fail("saving never finished")


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    save(load(rich()), path)
    content = path.read_bytes()
    module = load(rich())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot write the file: no space left on device"):
        save(module, path)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_bad_targets(tmp_path: Path) -> None:
    module = load(rich())
    with pytest.raises(UserError, match="its folder does not exist"):
        save(module, tmp_path / "nowhere" / "net.onnx")
    with pytest.raises(UserError, match="this is a directory"):
        save(module, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="its folder does not exist"):
        save(module, tmp_path / "file" / "net.onnx")


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    module = load(rich())
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match="cannot write the file: permission denied"):
        save(module, tmp_path / "net.onnx")


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(load(rich()), tmp_path / "net.onnx")
    finally:
        os.umask(old)
    assert (tmp_path / "net.onnx").stat().st_mode & 0o777 == 0o640


def test_graphsurgeon_and_back() -> None:
    proto = rich()
    graph = to_graphsurgeon(load(proto))
    assert isinstance(graph, gs.Graph) and [node.op for node in graph.nodes] == [
        "MatMul",
        "If",
        "Twice",
        "Exotic",
    ]
    back = load(graph)
    assert [node.op_type for node in back.graph] == ["MatMul", "If", "Twice", "Exotic"]
    np.testing.assert_array_equal(
        back.graph.initializers["w"].const_value.numpy(),  # type: ignore[union-attr]
        numpy_helper.to_array(proto.graph.initializer[0]),
    )


def test_graphsurgeon_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx_graphsurgeon":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    module = load(rich())
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match="onnx-graphsurgeon is not installed") as caught:
        to_graphsurgeon(module)
    assert "pip install 'prunec[graphsurgeon]'" in str(caught.value)


def test_before_ir_version_4_every_initializer_is_an_input(tmp_path: Path) -> None:
    """Those that a pass has added, too; they are no inputs of the module for that."""
    proto = onnx.parser.parse_model(
        """<ir_version: 3, opset_import: ["" : 8]> net (float[2,4] x, float[4,6] w) => (float[2,6] y)
        <float[4,6] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}>
        { y = MatMul(x, w) }"""
    )
    module = load(proto)
    added = onnx_ir.val("added", const_value=onnx_ir.tensor(np.zeros(6, np.float32), name="added"))
    module.graph.register_initializer(added)
    save(module, tmp_path / "net.onnx")
    saved = onnx.load(tmp_path / "net.onnx")
    assert [value.name for value in saved.graph.input] == ["x", "w", "added"]
    onnx.checker.check_model(saved, full_check=True)
