"""The ledger: evidence for every layer, what counts as none, and the gate."""

from __future__ import annotations

import pytest

from prunec.exporters.tensorrt.candidates import Candidate, find_candidates
from prunec.exporters.tensorrt.layers import EngineLayer
from prunec.exporters.tensorrt.ledger import Ledger, make_ledger
from prunec.exporters.tensorrt.log import LayerCount, SparsityLog
from prunec.exporters.tensorrt.prepare import prepare
from prunec.ir.diagnostics import GateError
from prunec.ir.load import load

from engine_models import model  # isort: skip

SILENT = SparsityLog()
SPARSE_KERNEL = "sm80_xmma_sparse_gemm_f16f16"
DENSE_KERNEL = "sm80_xmma_gemm_f16f16"
STUB = "__myelin_CASK_STUB"


def layer(name: str = "fc", *, reasons: tuple[str, ...] = (), is_sparse: bool = True) -> Candidate:
    return Candidate(name=name, op="Gemm", weight="w", shape=(8, 16), reasons=reasons, is_sparse=is_sparse)


def ledger(
    *layers: Candidate, engine: tuple[EngineLayer, ...] = (), log: SparsityLog = SILENT, rtx: bool = False
) -> Ledger:
    return make_ledger(layers, engine, log, names=[one.name for one in layers], runs_elsewhere=rtx)


def picked(eligible: int, *names: str, count: int | None = None) -> SparsityLog:
    chosen = LayerCount(count=len(names) if count is None else count, names=names)
    return SparsityLog(eligible=LayerCount(count=eligible), picked=chosen)


@pytest.mark.parametrize(
    ("candidate", "tactic", "log", "rtx", "expected", "evidence"),
    [
        (layer(), SPARSE_KERNEL, SILENT, False, "yes", "the engine names a sparse kernel"),
        (layer(), SPARSE_KERNEL, picked(1, count=0), False, "yes", "the engine names a sparse kernel"),
        (layer(), DENSE_KERNEL, SILENT, False, "no", "the engine names a dense kernel"),
        (layer(), STUB, SILENT, True, "unknown", "kernels are chosen by the machine that runs the engine"),
        (layer(), STUB, SILENT, False, "unknown", "it is in a region of another compiler"),
        (layer(), STUB, picked(1, "fc + relu"), False, "yes", "the build log names it"),
        (layer(), STUB, picked(3, "other"), False, "no", "the build log does not name it"),
        (
            layer(),
            STUB,
            picked(3, count=0),
            False,
            "no",
            "the build log says that no sparse kernel was chosen",
        ),
        (
            layer(),
            STUB,
            picked(1, count=1),
            False,
            "yes",
            "the build log says that sparse kernels were chosen for all",
        ),
        (layer(), STUB, picked(3, count=1), False, "unknown", "it is in a region of another compiler"),
        (layer(), None, SILENT, False, "unknown", "no layer of the engine names it"),
        (layer(is_sparse=False), STUB, SILENT, True, "no", "its weights are not 2:4"),
        (layer(reasons=("3 input channels",)), STUB, SILENT, True, "no", "not eligible"),
    ],
)
def test_evidence(
    candidate: Candidate, tactic: str | None, log: SparsityLog, rtx: bool, expected: str, evidence: str
) -> None:
    found = () if tactic is None else (EngineLayer(name="x", tactic=tactic, metadata="[ONNX Layer: fc]"),)
    (entry,) = ledger(candidate, engine=found, log=log, rtx=rtx).entries
    assert entry.picked == expected
    assert entry.evidence.startswith(evidence)


def test_of_several_kernels_the_sparse_one_is_named() -> None:
    engine = tuple(
        EngineLayer(name=t, tactic=t, metadata="[ONNX Layer: fc]") for t in ("reformat", SPARSE_KERNEL)
    )
    (entry,) = ledger(layer(), engine=engine).entries
    assert entry.tactic == SPARSE_KERNEL
    assert entry.as_json()["engine_layers"] == ["reformat", SPARSE_KERNEL]


def of_ten(proven: int) -> Ledger:
    names = [f"fc{i}" for i in range(10)]
    engine = tuple(
        EngineLayer(name=name, tactic=SPARSE_KERNEL if i < proven else STUB) for i, name in enumerate(names)
    )
    return ledger(*map(layer, names), engine=engine, rtx=True)


def test_counts() -> None:
    counts = of_ten(3).counts
    assert counts == {
        "layers": 10,
        "eligible": 10,
        "sparse_weights": 10,
        "picked": 3,
        "not_picked": 0,
        "unknown": 7,
    }
    assert str(of_ten(3)) == (
        "sparse kernels: 10 of 10 layers are eligible, 10 of these have 2:4 weights; picked for 3, not for 0, unknown for 7"
    )


def test_the_gate_holds_from_its_threshold_on() -> None:
    of_ten(8).require(0.8)
    of_ten(0).require(0.0)
    with pytest.raises(GateError) as caught:
        of_ten(7).require(0.8)
    assert caught.value.exit_code == 3
    assert (
        caught.value.message
        == "sparse kernels are proven for 7 of 10 eligible layers; at least 80 % are required"
    )
    assert caught.value.notes == ("3 layers: kernels are chosen by the machine that runs the engine",)


def test_a_gate_on_nothing_does_not_hold() -> None:
    with pytest.raises(GateError, match="no layer is eligible for sparse kernels") as caught:
        ledger(layer(reasons=("3 input channels are no multiple of 4",))).require(0.0)
    assert caught.value.notes == ("1 layer: 3 input channels are no multiple of 4",)


def test_candidates_say_why_not() -> None:
    prepared = load(prepare(model("cnn"), "fp16").proto)
    found = {one.name: one for one in find_candidates(prepared)}
    assert list(found) == ["conv1", "conv2", "fc"]
    assert all(one.is_eligible and one.is_sparse for one in found.values())
    assert found["conv1"].shape == (64, 64, 3, 3)
    dense = find_candidates(model("cnn", dense=True))
    assert {one.is_sparse for one in dense} == {False}
    assert all("float" in one.reasons[0] for one in dense)
