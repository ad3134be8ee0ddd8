"""``prunec bisect``: the transform and the group that break a check."""

from __future__ import annotations

from pathlib import Path

import pytest
from coupling_graphs import coupled
from onnx import load

import prunec
from prunec.passes.pipeline import parse_pipeline
from prunec.tools import prunec as command
from prunec.tools.bisect import Bisection, Culprit
from prunec.tools.reduction.oracle import Oracle


class Narrow(Oracle):
    """A model is bad where one of its weights is smaller on an axis than it was."""

    def __init__(self, name: str, axis: int, size: int) -> None:
        self.name, self.axis, self.size = name, axis, size
        self.asked = 0

    def fails(self, models: list[Path]) -> list[bool]:
        self.asked += 1
        (model,) = models
        (weight,) = (tensor for tensor in load(model).graph.initializer if tensor.name == self.name)
        return [weight.dims[self.axis] < self.size]


def found(pipeline: str, oracle: Oracle) -> Culprit:
    return Bisection(
        module=coupled("residual"),
        pipeline=parse_pipeline(pipeline),
        oracle=oracle,
        progress=lambda line: None,
    ).run()


@pytest.mark.parametrize(
    ("weight", "axis", "size", "part"),
    [("w3", 1, 6, "group g2 loses 3 of 6 units: w2:0, w3:1"), ("w2", 1, 4, "group g1 loses 2 of 4 units: ")],
)
def test_the_first_transform_and_the_first_group_of_it(weight: str, axis: int, size: int, part: str) -> None:
    oracle = Narrow(weight, axis, size)
    culprit = found(
        "canonicalize, fold-norm, prune-channels{round-to=1}, prune-channels{round-to=1}, verify", oracle
    )
    assert (culprit.number, culprit.count, culprit.pass_.name) == (3, 4, "prune-channels")
    assert culprit.part.startswith(part) and culprit.place[1] == 2
    assert oracle.asked <= 7


def test_a_later_transform_can_be_the_first() -> None:
    culprit = found("repeat{times=2}(prune-channels{round-to=1})", Narrow("w3", 1, 3))
    assert (culprit.number, culprit.place) == (2, (2, 2))
    assert "part 2 of 2 of it is the first: group g" in str(culprit)


def test_zeros_have_parts_too() -> None:
    class Zeros(Oracle):
        def fails(self, models: list[Path]) -> list[bool]:
            arrays = prunec.load(models[0]).graph.initializers
            weight = arrays["w1"].const_value
            return [weight is not None and not weight.numpy().all()]

    culprit = found("sparsify{layers=all pattern=unstructured ratio=0.5}", Zeros())
    assert culprit.part == "72 zeros in w1"


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("false {}", "net.onnx: the test fails on the input itself"),
        ("true {}", "net.onnx: the test does not fail on what the pipeline makes"),
        ("nosuchtool {}", "the shell cannot run the test (exit 127): "),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    test: str,
    message: str,
) -> None:
    prunec.save(coupled("residual"), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert command.run(["bisect", "net.onnx", "-p", "prune-channels", "--test", test]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
