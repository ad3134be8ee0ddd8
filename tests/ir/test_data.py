"""Samples from archives, tables of values and files, and functions; every mistake names its place."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import polars
import pytest
from PIL import Image
from user_code import WriteModule, write_module  # noqa: F401  (a fixture)

from prunec.ir.data import read_data
from prunec.ir.diagnostics import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_archive_is_read_as_it_is(folder: Path) -> None:
    np.savez("data.npz", image=np.ones((3, 2), np.float32), label=np.arange(3))
    found = read_data("data.npz")
    assert list(found) == ["image", "label"] and found["image"].dtype == np.float32


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_values_are_arrays(folder: Path, suffix: str) -> None:
    table = polars.DataFrame(
        {
            "label": [3, 1, 2],
            "length": [1.5, None, 2.0],
            "word": ["a", "bc", None],
            "good": [True, False, True],
        }
    )
    table.write_csv("data.csv") if suffix == ".csv" else table.write_parquet("data.parquet")
    found = read_data(f"data{suffix}")
    assert found["label"].tolist() == [3, 1, 2] and found["label"].dtype == np.int64
    np.testing.assert_array_equal(found["length"], [1.5, np.nan, 2.0])
    assert found["word"].tolist() == ["a", "bc", ""] and found["word"].dtype.kind == "U"
    assert found["good"].dtype == np.bool_


def test_columns_of_lists_are_stacked(folder: Path) -> None:
    polars.DataFrame({"ids": [[1, 2], [3, 4], [5, 6]]}).write_parquet("data.parquet")
    assert read_data("data.parquet")["ids"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_columns_of_paths_are_read_relative_to_the_table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "set").mkdir()
    arrays = rng.standard_normal((3, 4, 2)).astype(np.float32)
    pixels = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    for row in range(3):
        np.save(folder / f"set/{row}.npy", arrays[row])
        np.savez(folder / f"set/{row}.npz", depth=arrays[row], other=arrays[row] + 1)
        Image.fromarray(pixels[row]).save(folder / f"set/{row}.png")
        Image.fromarray(pixels[row, ..., 0]).save(folder / f"set/grey{row}.png")
    names = ["x,depth,image,grey", *(f"{row}.npy,{row}.npz,{row}.png,grey{row}.png" for row in range(3))]
    (folder / "set/data.csv").write_text("\n".join(names))
    found = read_data("set/data.csv")
    np.testing.assert_array_equal(found["x"], arrays)
    np.testing.assert_array_equal(found["depth"], arrays)
    np.testing.assert_allclose(found["image"], pixels.transpose(0, 3, 1, 2) / 255, rtol=1e-6)
    assert found["image"].dtype == np.float32 and found["grey"].shape == (3, 1, 5, 4)


@pytest.mark.parametrize(
    ("code", "labels"),
    [
        ("def data():\n    return {'label': [1, 2, 3]}", [1, 2, 3]),
        ("def data():\n    yield {'label': [1, 2]}\n    yield {'label': [3]}", [1, 2, 3]),
        ("class Sets:\n    def test():\n        return {'label': range(2)}\ndata = Sets.test", [0, 1]),
    ],
)
def test_a_function_gives_arrays_or_batches(write_module: WriteModule, code: str, labels: list[int]) -> None:  # noqa: F811
    write_module("my_set", code)
    assert read_data("my_set:data")["label"].tolist() == labels


def test_a_table_may_name_more_files_than_can_be_open(folder: Path) -> None:
    for row in range(3):
        np.save(f"{row}.npy", np.full(2, row, np.float64 if row == 2 else np.float32))
    polars.DataFrame({"x": [f"{row % 3}.npy" for row in range(100)]}).write_csv("data.csv")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 40, hard))
    try:
        found = read_data("data.csv")["x"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.shape == (100, 2) and found.dtype == np.float64
    assert found[:, 1].tolist() == [row % 3 for row in range(100)]


def test_the_search_path_stays_as_it_was(
    write_module: WriteModule,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_module("my_set", "def data():\n    return {'x': [[1.0]]}")
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), "somewhere", *sys.path])
    before = list(sys.path)
    read_data("my_set:data")
    assert sys.path == before


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("", "my_set:data", "my_set:data: 'my_set' has no 'data'"),
        ("dato = 1", "my_set:data", "my_set:data: 'my_set' has no 'data'\n  = help: did you mean 'dato'?"),
        ("", "your_set:data", "your_set:data: no module named 'your_set'\n  = help: modules are looked for in "),
        ("import nothing_there", "my_set:data",
         "my_set:data raises ModuleNotFoundError: No module named 'nothing_there'\n  = note: at "),
        ("def data():\n    return 1 / 0", "my_set:data",
         "my_set:data raises ZeroDivisionError: division by zero\n  = note: at "),
        ("def data():\n    yield {'x': [1]}\n    raise OSError", "my_set:data", "my_set:data raises OSError\n"),
        ("def data():\n    return 3", "my_set:data", "my_set:data: gives an int, not a mapping of arrays by name"),
        ("import sys\ndef data():\n    yield {'x': [1]}\n    sys.exit('enough')", "my_set:data",
         "my_set:data raises SystemExit: enough\n  = note: at "),
        ("raise SystemExit(0)", "my_set:data", "my_set:data raises SystemExit: 0\n  = note: at "),
        ("def data():\n    return []", "my_set:data", "my_set:data: yields no batches"),
        ("def data():\n    return [3]", "my_set:data", "my_set:data: batch 0 is an int, not a mapping of arrays"),
        ("def data():\n    return [{'x': [1]}, {'y': [1]}]", "my_set:data",
         "my_set:data: batch 1 has other arrays than the first: x, y"),
        ("def data():\n    return [{'x': [[1]]}, {'x': [[1, 2]]}]", "my_set:data",
         "my_set:data: array `x` of batch 1 is [1, 2], that of batch 0 is [1, 1]: only the first axis may differ"),
    ],
)  # fmt: skip
def test_mistakes_in_functions_are_told_with_their_line(
    write_module: WriteModule,  # noqa: F811
    code: str,
    name: str,
    message: str,
) -> None:
    write_module("my_set", code)
    with pytest.raises(UserError) as caught:
        read_data(name)
    assert f"{caught.value}\n".startswith(f"error: {message}")
    assert "raises ZeroDivisionError" not in message or "my_set.py:2: return 1 / 0" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.npy,1\n", None),
        ("no.npy,1\n", "row 1, column `x`: no.npy: no such file\n  = help: paths are relative to the folder"),
        ("a.npy,1\n,2\n", "row 2, column `x` names no file, and other rows do"),
        ("a.npy,1\nb.npy,2\n", "column `x`: the file of row 2 is [3], that of row 1 is [2]"),
        ("broken.npy,1\n", "row 1, column `x`: broken.npy cannot be read: "),
        ("broken.png,1\n", "row 1, column `x`: broken.png cannot be read: cannot identify image file"),
        ("two.npz,1\n", "row 1, column `x`: two.npz holds p, q, and none is named as the column"),
        ("a.npy,1\nb.npy,2,3\n", "this table cannot be read: "),
        (None, "no such file"),
    ],
)
def test_mistakes_in_tables_name_row_and_column(folder: Path, text: str | None, message: str | None) -> None:
    np.save("a.npy", np.zeros(2))
    np.save("b.npy", np.zeros(3))
    np.savez("two.npz", p=np.zeros(2), q=np.zeros(2))
    Path("broken.npy").write_text("?")
    Path("broken.png").write_text("?")
    if text is not None:
        Path("data.csv").write_text(f"x,label\n{text}")
    if message is None:
        assert read_data("data.csv")["x"].shape == (1, 2)
        return
    with pytest.raises(UserError) as caught:
        read_data("data.csv")
    assert str(caught.value).startswith(f"error: data.csv: {message}")


def test_lists_of_different_lengths_and_dates_are_refused(folder: Path) -> None:
    polars.DataFrame({"ids": [[1, 2], [3]]}).write_parquet("lists.parquet")
    with pytest.raises(UserError, match=r"column `ids`: the list of row 2 is \[1\], that of row 1 is \[2\]"):
        read_data("lists.parquet")
    polars.DataFrame({"day": [0]}, schema={"day": polars.Date}).write_parquet("dates.parquet")
    with pytest.raises(UserError, match=r"column `day` is of type Date: numbers, words and paths are read"):
        read_data("dates.parquet")
