"""Loading: what must come in, and the message for everything that must not."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir
import pytest
from onnx import numpy_helper
from small_models import LINEAR, error_of, linear
from zoo import zoo_models

from prunec.ir.diagnostics import UserError
from prunec.ir.load import load


def test_file_gives_graph_weights_and_provenance(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    content = linear().SerializeToString()
    path.write_bytes(content)
    module = load(path)
    weight = module.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), numpy_helper.to_array(linear().graph.initializer[1]))
    assert module.source.path == path and module.source.name == str(path)
    assert module.source.sha256 == hashlib.sha256(content).hexdigest()
    assert module.source.size == len(content)


def test_weights_of_a_file_stay_in_its_memory_map(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(linear().SerializeToString())
    array = load(path).graph.initializers["w"].const_value.numpy()  # type: ignore[union-attr]
    assert not array.flags.owndata and not array.flags.writeable


@pytest.mark.parametrize("suffix", [".onnxtxt", ".onnx.txt"])
def test_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text(onnx.printer.to_text(linear()))
    module = load(path)
    assert [node.name for node in module.graph] == ["mm", "act"]
    assert module.source.size == path.stat().st_size


def test_module_is_returned_as_it_is() -> None:
    module = load(linear())
    assert load(module) is module


def test_onnx_ir_model() -> None:
    model = onnx_ir.from_proto(linear())
    module = load(model)
    assert module.model is model and module.source.sha256 is None


def test_onnx_ir_model_is_checked() -> None:
    model = onnx_ir.from_proto(linear())
    model.graph.node(0).replace_input_with(1, onnx_ir.Value(name="nowhere"))
    assert "reads `nowhere`" in error_of(model)


def test_graphsurgeon_graph() -> None:
    module = load(gs.import_onnx(linear()))
    assert [node.op_type for node in module.graph] == ["MatMul", "Relu"]


def test_unsorted_nodes_come_in_order() -> None:
    proto = linear()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert [node.name for node in load(proto).graph] == ["mm", "act"]


@pytest.mark.parametrize("path", zoo_models(runs=True))
def test_every_real_model_that_runs_loads(path: Path) -> None:
    module = load(path)
    assert list(module.graph) and module.clone().graph is not module.graph


@pytest.mark.parametrize("path", zoo_models(runs=False))
def test_every_other_real_model_loads_or_says_why_not(path: Path) -> None:
    try:
        load(path)
    except UserError as error:
        assert error.place is not None and error.place.file == str(path) and error.help


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04" + bytes(60), "a zip archive, as torch.save"),
        (b"\x80\x02}q\x00.", "a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (LINEAR.encode(), "must end in .onnxtxt"),
        (bytes(range(256)) * 8, "this is not an ONNX file"),
        (b"\xff" * 64, "this is not an ONNX file"),
        (b"\x08\x09", "holds no graph"),
        (b"\n\x05hello", "holds no graph"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert says in error_of(path)
    assert error_of(path).startswith(f"error: {path}: ")


def test_zip_written_by_zipfile(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.onnx", "w") as archive:
        archive.writestr("data.pkl", b"x")
    assert "a zip archive" in error_of(tmp_path / "net.onnx")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    content = linear().SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    assert "the file is cut off" in error_of(path) and "are missing" in error_of(path)


def test_every_truncation_is_the_users_error(tmp_path: Path) -> None:
    content = linear().SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        error_of(path)


def test_random_damage_never_crashes(tmp_path: Path) -> None:
    content = np.frombuffer(linear().SerializeToString(), dtype=np.uint8)
    path = tmp_path / "net.onnx"
    for seed in range(300):
        generator = np.random.default_rng(seed)
        damaged = content.copy()
        damaged[generator.integers(0, 400, 3)] = generator.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            load(path)
        except UserError as error:
            assert "\n" not in error.message


def test_missing_file_names_the_models_there(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"x")
    assert "no such file" in error_of(tmp_path / "net.onnx") and "other.onnx" in error_of(
        tmp_path / "net.onnx"
    )
    assert "there is no folder" in error_of(tmp_path / "nowhere" / "net.onnx")


def test_directory(tmp_path: Path) -> None:
    assert "this is a directory" in error_of(tmp_path)


def test_wrong_object() -> None:
    assert "this takes a module, got an int" in error_of(3)


def test_text_syntax_error_points_at_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "net.onnxtxt"
    path.write_text(
        '<ir_version: 9, opset_import: ["" : 17]>\nnet (float[2] x) => (float[2] y) {\n y = Relu(x\n}\n'
    )
    rendered = error_of(path)
    assert rendered.startswith(f"error: {path}:") and "^" in rendered and "expected" in rendered
    path.write_bytes(b"\xff\xfe\x00")
    assert "byte 0 is not UTF-8" in error_of(path)
