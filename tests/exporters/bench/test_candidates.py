"""The models of a bench: names, files, batch sizes, inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from bench_models import perceptron

import prunec
from prunec.exporters.bench.candidates import (
    Candidate,
    Inputs,
    batches_of,
    check_inputs,
    feeds_of,
    fixed_batch,
    open_candidates,
)
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData


def candidate(name: str, *, batch: str | int = "N", inputs: int = 16) -> Candidate:
    module = prunec.load(perceptron(batch=batch, inputs=inputs))
    return Candidate(name=name, module=module, file=Path(name), batch=fixed_batch(module))


def samples(count: int) -> CalibrationData:
    return CalibrationData.of(
        {"x": np.arange(count * 16, dtype=np.float32).reshape(count, 16)}, name="real.npz"
    )


def test_names_are_short_where_that_tells_them_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        onnx.save(perceptron(), tmp_path / folder / "net.onnx")
    one, two = (str(tmp_path / folder / "net.onnx") for folder in ("one", "two"))
    assert [c.name for c in open_candidates([one, one], tmp_path)] == ["net.onnx", "net.onnx (2)"]
    assert [c.name for c in open_candidates([one, two], tmp_path)] == [one, two]


@pytest.mark.parametrize("inputs", [Inputs(), Inputs(data=samples(3))])
def test_a_batch_that_memory_does_not_hold_is_refused(inputs: Inputs) -> None:
    with pytest.raises(UserError) as caught:
        feeds_of(candidate("net.onnx"), 2**50, inputs)
    assert str(caught.value) == (
        "error: net.onnx: a batch of 1,125,899,906,842,624 needs about 201326592.00 GiB of memory to make its "
        "inputs alone\n"
        "  = help: leave this batch out with --batch"
    )


def test_what_onnx_runtime_cannot_open_is_written_for_it(tmp_path: Path) -> None:
    onnx.save(perceptron(), tmp_path / "net.onnx")
    module = prunec.load(perceptron())
    from_file, from_memory = open_candidates([tmp_path / "net.onnx", module], tmp_path)
    assert from_file.file == tmp_path / "net.onnx"
    assert from_memory.file.is_file() and from_memory.file != from_file.file


def widths(module: Module) -> dict[str, list[int]]:
    """The shape of every weight."""
    return {name: list(map(int, value.shape or ())) for name, value in module.graph.initializers.items()}


def test_a_module_is_measured_as_it_is_and_not_as_its_file(tmp_path: Path) -> None:
    onnx.save(perceptron(64), tmp_path / "net.onnx")
    module = prunec.load(tmp_path / "net.onnx")
    pruned = prunec.run(module, "prune-channels{ratio=0.5}").module
    module.graph.name = "by hand"
    for candidate in open_candidates([module, pruned], tmp_path):
        assert candidate.file != tmp_path / "net.onnx"
        written = prunec.load(candidate.file)
        assert written.graph.name == candidate.module.graph.name
        assert widths(written) == widths(candidate.module)
    assert widths(pruned) != widths(module)


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model to measure"):
        open_candidates([], tmp_path)


def test_a_fixed_batch_is_measured_and_said() -> None:
    sizes, notes = batches_of([candidate("free.onnx"), candidate("fixed.onnx", batch=4)], [1, 4, 8])
    assert sizes == [4]
    assert notes == ["fixed.onnx takes a batch of 4 only: 1, 8 not measured"]
    assert batches_of([candidate("free.onnx")], [1, 8, 8]) == ([1, 8], [])


def test_two_fixed_batches_cannot_be_compared() -> None:
    with pytest.raises(UserError, match="the models take different batches") as caught:
        batches_of([candidate("a.onnx", batch=1), candidate("b.onnx", batch=4)], [1])
    assert caught.value.notes == ("a.onnx takes 1", "b.onnx takes 4")


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="a batch of 0 is no batch"):
        batches_of([candidate("a.onnx")], [1, 0])


def test_models_with_other_inputs_are_refused() -> None:
    proto = perceptron()
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "z"
    module = prunec.load(proto)
    other = Candidate(name="b.onnx", module=module, file=Path("b.onnx"), batch=None)
    with pytest.raises(UserError, match=r"a\.onnx and b\.onnx take different inputs: x; and z"):
        check_inputs([candidate("a.onnx"), other])


def test_real_inputs_fill_batches_by_repetition() -> None:
    feeds = feeds_of(candidate("a.onnx"), 8, Inputs(data=samples(5)))
    assert {f["x"].shape for f in feeds} == {(8, 16)}
    assert feeds[0]["x"][:, 0].tolist() == [0, 16, 32, 48, 64, 0, 16, 32]


def test_real_inputs_differ_from_run_to_run() -> None:
    feeds = feeds_of(candidate("a.onnx"), 1, Inputs(data=samples(20)))
    assert [int(f["x"][0, 0]) // 16 for f in feeds] == list(range(8))


def test_data_that_do_not_fit_name_the_model() -> None:
    with pytest.raises(UserError) as caught:
        feeds_of(candidate("a.onnx", inputs=8), 1, Inputs(data=samples(20)))
    assert "note: the model is a.onnx" in caught.value.render()
