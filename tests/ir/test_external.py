"""External data: mapped where it may lie, refused everywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import error_of, linear

from prunec.ir.external import map_file
from prunec.ir.load import load


def with_external(folder: Path, *, location: str = "net.data", **entries: str) -> Path:
    """The linear model with its weight in ``net.data`` at offset 64, but for the given entries."""
    proto = linear()
    tensor = proto.graph.initializer[1]
    folder.mkdir(exist_ok=True)
    (folder / "net.data").write_bytes(b"\0" * 64 + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "64", "length": "2048", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_relative_string_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_external(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load("net.onnx").source.name == "net.onnx"


def test_onnx_ir_model_with_external_data_gets_no_way_out_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_external(tmp_path / "model", location="../secret")
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    monkeypatch.chdir(path.parent)
    model = onnx_ir.load("net.onnx")  # an empty base_dir turns onnx_ir's own guard off
    assert "points outside of the model's folder: `../secret`" in error_of(model)


def test_external_data_is_mapped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_external(tmp_path)
    reads: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (reads.append(self), original(self))[1])
    module = load(path)
    array = module.graph.initializers["w"].const_value.numpy()  # type: ignore[union-attr]
    assert not array.flags.owndata and not reads
    np.testing.assert_array_equal(array, numpy_helper.to_array(linear().graph.initializer[1]))
    assert module.source.size == path.stat().st_size + (tmp_path / "net.data").stat().st_size


def test_external_data_survives_the_replacement_of_its_file(tmp_path: Path) -> None:
    module = load(with_external(tmp_path))
    other = tmp_path / "other"
    other.write_bytes(b"\xff" * 4096)
    other.replace(tmp_path / "net.data")
    array = module.graph.initializers["w"].const_value.numpy()  # type: ignore[union-attr]
    np.testing.assert_array_equal(array, numpy_helper.to_array(linear().graph.initializer[1]))


@pytest.mark.parametrize(
    "dtype", [ml_dtypes.bfloat16, np.float16, ml_dtypes.int4, ml_dtypes.float8_e4m3fn, np.bool_]
)
def test_external_data_of_other_types(tmp_path: Path, dtype: type) -> None:
    array = np.arange(30, dtype=np.int32).reshape(5, 6).astype(dtype)
    tensor = onnx_ir.to_proto(onnx_ir.Tensor(array, name="w"))
    (tmp_path / "net.data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="net.data")
    out = helper.make_tensor_value_info("y", tensor.data_type, [5, 6])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [out], [tensor])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "net.onnx")
    loaded = load(tmp_path / "net.onnx").graph.initializers["w"].const_value
    assert loaded is not None
    np.testing.assert_array_equal(loaded.numpy().astype(np.float32), array.astype(np.float32))


def test_external_data_in_attributes_and_functions(tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.float32)
    (tmp_path / "net.data").write_bytes(array.tobytes())
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="net.data")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    function = helper.make_function("f", "Give", [], ["c"], [constant], opsets)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Give", [], ["y"], domain="f")], "g", [], [out])
    onnx.save(helper.make_model(graph, functions=[function], opset_imports=opsets), tmp_path / "net.onnx")
    body = next(iter(load(tmp_path / "net.onnx").model.functions.values()))
    np.testing.assert_array_equal(body[0].attributes["value"].as_tensor().numpy(), array)
    (tmp_path / "net.data").unlink()
    assert "`net.data`, which does not exist" in error_of(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "gone.data"}, "`gone.data`, which does not exist"),
        ({"location": "/etc/hostname"}, "points outside of the model's folder"),
        ({"location": "../net.data"}, "points outside of the model's folder"),
        ({"location": "sub/../../net.data"}, "points outside of the model's folder"),
        ({"location": "link"}, "through a symbolic link"),
        ({"location": "folder-link/net.data"}, "through a symbolic link"),
        ({"location": "hard"}, "hard links"),
        ({"location": "."}, "not a regular file"),
        ({"location": "pipe"}, "not a regular file"),
        ({"location": ""}, "no location"),
        ({"offset": "65"}, "ends at byte 2113, but `net.data` has only 2112 bytes"),
        ({"offset": "-64"}, "offset `-64`"),
        ({"offset": "6four"}, "offset `6four`"),
        ({"length": "-1"}, "length `-1`"),
        ({"length": "2047"}, "declares 2047 bytes, its shape needs 2048"),
        ({"offset": "99999999999999999999"}, "ends at byte"),
    ],
)
def test_bad_external_data(tmp_path: Path, entries: dict[str, str], says: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "net.data").write_bytes(bytes(4096))
    path = with_external(tmp_path / "model", **entries)  # type: ignore[arg-type]
    (path.parent / "link").symlink_to(outside / "net.data")
    (path.parent / "folder-link").symlink_to(outside)
    os.link(outside / "net.data", path.parent / "hard")
    os.mkfifo(path.parent / "pipe")
    rendered = error_of(path)
    assert says in rendered and "tensor `w`" in rendered


def test_links_inside_the_folder_are_fine(tmp_path: Path) -> None:
    path = with_external(tmp_path, location="link.data")
    (tmp_path / "link.data").symlink_to("net.data")
    load(path)


def test_model_and_data_linked_from_one_store_are_fine(tmp_path: Path) -> None:
    store = with_external(tmp_path / "store").parent
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("net.onnx", "net.data"):
        (snapshot / name).symlink_to(store / name)
    load(snapshot / "net.onnx")


def test_external_data_of_a_proto_in_memory_is_looked_for_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = onnx.load(with_external(tmp_path), load_external_data=False)
    monkeypatch.chdir(tmp_path)
    load(proto)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "does not exist" in error_of(proto)


def test_map_file_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert map_file(tmp_path / "empty").shape == (0,)
