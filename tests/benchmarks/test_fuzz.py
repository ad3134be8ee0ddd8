"""Random graphs through random pipelines, as ``benchmarks/fuzz.py`` runs them; and that it sees what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from core_graphs import Array, graph, prune
from onnx import numpy_helper

from agreement import Graph, MismatchError, Runs, difference, fit
from fuzz import GOOD, Log, notes, run_batch, table
from graph_trial import op_names, random_pipeline, try_seed
from masking import masked_model
from processes import Finished
from prunec.ir.module import Module
from prunec.ir.proto import to_proto
from prunec.passes.plan import GroupCut, Plan, Step, TensorCut

SEEDS = range(1_000_000, 1_000_120)
CHUNK = 8


@pytest.mark.parametrize("first", SEEDS[::CHUNK])
def test_random_graphs_pass_every_check(first: int) -> None:
    rows = [try_seed(seed) for seed in range(first, first + CHUNK)]
    assert [row for row in rows if row["verdict"] not in GOOD] == []
    assert any(row["removed"] for row in rows)


def test_pipelines_differ() -> None:
    made = {random_pipeline(seed) for seed in range(50)}
    assert len(made) > 40
    assert any("repeat" in pruning for _, pruning in made)
    assert {"", "canonicalize", "fold-norm", "canonicalize, fold-norm"} == {prefix for prefix, _ in made}


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def masked(module: Module) -> dict[str, Array]:
    model = masked_model(to_proto(module), prune(module, 0.5).plan)
    assert model is not None
    return initializers(model)


def test_removed_slices_are_zero() -> None:
    arrays = masked(
        graph(
            "net (float[2,3] x) => (float[2,5] y) <float[3,4] w, float[4,5] f> { h = MatMul(x, w) y = MatMul(h, f) }"
        )
    )
    gone = ~arrays["w"].any(axis=0)
    assert gone.sum() == 2
    assert (~arrays["f"].any(axis=1) == gone).all()


def test_removed_integers_are_their_zero_point() -> None:
    module = graph(
        """net (float[2,3] x) => (float[2,5] y) <float[4,5] f, float s = {0.1}, uint8 z = {7}>
        { w = DequantizeLinear(q, s, z) h = MatMul(x, w) y = MatMul(h, f) }""",
        q=np.arange(20, 32, dtype=np.uint8).reshape(3, 4),
    )
    assert ((masked(module)["q"] == 7).sum(axis=0) == 3).sum() == 2


def test_shared_vectors_are_masked_for_one_reader() -> None:
    module = graph(
        """net (float[2,3] x) => (float[2,5] y, float[2,4] z) <float[3,4] w, float[4,5] f, float[3,4] v, float[4] b>
        { p = MatMul(x, w) h = Add(p, b) y = MatMul(h, f) q = MatMul(x, v) z = Add(q, b) }"""
    )
    arrays = masked(module)
    (copy,) = arrays.keys() - {"w", "f", "v", "b"}
    assert (arrays["b"] != 0).all()
    assert (arrays[copy] == 0).sum() == 2


def test_constants_of_nested_graphs_are_masked() -> None:
    array = numpy_helper.from_array(np.ones((2, 3), np.float32), "f")
    out = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)
    node = onnx.helper.make_node("MatMul", ["h", "f"], ["z"])
    body = onnx.helper.make_graph([node], "body", [], [out], [array])
    branches = onnx.helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    model = onnx.helper.make_model(onnx.helper.make_graph([branches], "net", [], []))
    cut = TensorCut(name="f", axis=1, removed=(1,), uses=("z:1",))
    group = GroupCut(id="g1", units=3, removed=(1,), equivalence="masked", tensors=(cut,))
    step = Step(pass_name="prune-channels", groups=(group,))
    plan = Plan(source_name="net", source_sha256=None, pipeline="", steps=(step,))
    result = masked_model(model, plan)
    assert result is not None
    assert initializers(result)["f of z:1"].tolist() == [[1, 0, 1]] * 2
    assert "f of z:1" in str(result.graph.node[0])


def test_statistics_need_more_than_zeros() -> None:
    module = graph(
        """net (float[2,3] x) => (float[2,5] y) <float[3,4] w, float[4] s, float[4,5] f>
        { h = MatMul(x, w) n = LayerNormalization(h, s) y = MatMul(n, f) }"""
    )
    assert masked_model(to_proto(module), prune(module, 0.5).plan) is None


def test_a_changed_weight_is_a_mismatch() -> None:
    made = Graph.of(3)
    other = onnx.ModelProto()
    other.CopyFrom(made.proto)
    weight = next(t for t in other.graph.initializer if t.name.startswith("weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    run = Runs(made, {"original": made.proto, "copy": made.proto, "other": other})
    assert run.same("copy", "original") == 0
    with pytest.raises(
        MismatchError, match=r"the other model is off from the original one by .* on 3 inputs"
    ):
        run.same("other", "original")


def test_differences_are_relative_to_the_largest_number() -> None:
    one = {"y": np.array([1.0, -4.0, np.inf])}
    assert difference({"y": np.array([1.0, -3.0, np.inf])}, one) == 0.25
    assert difference({"y": np.array([1.0, -4.0, 5.0])}, one) == np.inf
    assert difference({"y": np.array([1.0])}, one) == np.inf


def test_inputs_are_cut_to_what_a_model_declares() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[N,2] x) => (float[N,2] y) { y = Relu(x) }'
    )
    assert fit({"x": np.zeros((3, 4))}, proto)["x"].shape == (3, 2)


def finished(rows: Sequence[object], code: int, **more: Any) -> Finished:
    return Finished(
        code=code, output="\n".join(map(json.dumps, rows)), errors="error: odd", wall_seconds=1.0, cpu_seconds=1.0,
        peak_bytes=1, timed_out=False, out_of_memory=False, **more,
    )  # fmt: skip


def test_a_graph_that_ends_its_process_is_counted_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ok = [{"seed": seed, "verdict": "ok"} for seed in (0, 2, 4)]
    ends = iter([finished(ok[:1], -11), finished(ok[1:2], -14), finished(ok[2:], 0)])
    monkeypatch.setattr("fuzz.processes.run", lambda *_, **__: next(ends))
    log = Log(tmp_path / "log.jsonl")
    run_batch(range(5), log)
    verdicts = {seed: row["verdict"] for seed, row in sorted(log.rows.items())}
    assert verdicts == {0: "ok", 1: "crash", 2: "ok", 3: "timeout", 4: "ok"}
    assert log.rows[1]["reason"] == "exit code -11: error: odd"
    assert "fuzz.py --graphs 1 --seed-from 1\n" in capsys.readouterr().err
    assert Log(tmp_path / "log.jsonl").rows == log.rows


def test_the_table_has_a_row_for_each_opset() -> None:
    row = {
        "verdict": "ok",
        "nodes": 4,
        "ops": ["Relu"],
        "cut": ["Relu"],
        "parameters": 10,
        "removed": 5,
        "seconds": 1.0,
    }
    rows = [{**row, "seed": i, "opset": 7 + i % 2, "masked": "equal", "error": 0.0} for i in range(4)]
    rows[3] |= {"verdict": "mismatch"}
    first, second = table(rows)
    assert (first["opset"], first["graphs"], first["ok"], first["removed"]) == (7, 2, 2, 0.5)
    assert (second["ok"], second["failures"]) == (1, 1)
    lines = list(notes(rows, {"Relu": 4, "Odd": 0}, {"Relu": 4}))
    assert lines[0] == "4 graphs: 3 ok, 1 mismatch"
    assert "1 of 2 ops with a rule appear; 1 beside a cut axis" in lines


def test_all_ops_have_names() -> None:
    assert {"Relu", "com.microsoft.FusedConv"} <= set(op_names())
