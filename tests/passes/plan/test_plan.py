from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from core_graphs import graph, prune, weights
from hypothesis import given
from hypothesis import strategies as st

import prunec
from prunec.ir.diagnostics import UserError
from prunec.passes.plan import SCHEMA, GroupCut, GroupOrder, Plan, Step, TensorCut, TensorOrder

PLAN = Plan(
    source_name="net.onnx",
    source_sha256="9f86",
    pipeline="prune-channels{ratio=0.4}",
    steps=(
        Step(
            pass_name="prune-channels",
            groups=(
                GroupCut(
                    id="g3",
                    units=64,
                    removed=(0, 5),
                    equivalence="masked",
                    tensors=(
                        TensorCut(name="conv1.weight", axis=0, removed=(0, 5)),
                        TensorCut(name="zeros", axis=0, removed=(0, 5), uses=("conv1:2", "a:b:0")),
                    ),
                ),
                GroupCut(
                    id="g4",
                    units=2,
                    removed=(1,),
                    equivalence="none",
                    reason="a pooled statistic",
                    tensors=(),
                ),
            ),
        ),
        Step(pass_name="prune-channels", groups=()),
        Step(
            pass_name="permute-channels",
            orders=(
                GroupOrder(
                    id="g5",
                    units=8,
                    order=(4, 0),
                    tensors=(
                        TensorOrder(name="conv2.weight", axis=1, order=(4, 0)),
                        TensorOrder(name="zeros", axis=0, order=(4, 0), uses=("conv2:2",)),
                    ),
                ),
            ),
        ),
    ),
)

TEXT = """\
{
  "schema": "prunec.plan/1",
  "source": {"name": "net.onnx", "sha256": "9f86"},
  "pipeline": "prune-channels{ratio=0.4}",
  "steps": [
    {"pass": "prune-channels", "groups": [
      {"id":"g3","units":64,"removed":[0,5],"equivalence":"masked","tensors":[{"name":"conv1.weight","axis":0,\
"removed":[0,5]},{"name":"zeros","axis":0,"removed":[0,5],"uses":["conv1:2","a:b:0"]}]},
      {"id":"g4","units":2,"removed":[1],"equivalence":"none","reason":"a pooled statistic","tensors":[]}
    ]},
    {"pass": "prune-channels", "groups": []},
    {"pass": "permute-channels", "orders": [
      {"id":"g5","units":8,"order":[4,0],"tensors":[{"name":"conv2.weight","axis":1,"order":[4,0]},\
{"name":"zeros","axis":0,"order":[4,0],"uses":["conv2:2"]}]}
    ]}
  ]
}
"""

INDICES = st.sets(st.integers(0, 2**40), max_size=5).map(lambda found: tuple(sorted(found)))
TENSORS = st.builds(
    TensorCut,
    name=st.text(),
    axis=st.integers(0, 9),
    removed=INDICES,
    uses=st.lists(st.builds("{}:{}".format, st.text(min_size=1), st.integers(0, 9)), max_size=2).map(tuple),
)
GROUPS = st.builds(
    GroupCut,
    id=st.text(),
    units=st.integers(2**40 + 6, 2**50),
    removed=INDICES,
    equivalence=st.sampled_from(["masked", "masked-kept-statistics", "none"]),
    reason=st.text(),
    tensors=st.lists(TENSORS, max_size=3).map(tuple),
)
STEPS = st.builds(Step, pass_name=st.text(), groups=st.lists(GROUPS, max_size=3).map(tuple))
PLANS = st.builds(
    Plan,
    source_name=st.text(),
    source_sha256=st.none() | st.text(),
    pipeline=st.text(),
    steps=st.lists(STEPS, max_size=3).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def error_of(text: str) -> str:
    with pytest.raises(UserError) as caught:
        Plan.from_json(text, file="plan.json")
    return caught.value.render()


def test_json_has_one_line_for_each_group() -> None:
    assert PLAN.to_json() == TEXT
    assert Plan.from_json(TEXT) == PLAN


def test_an_empty_plan() -> None:
    plan = Plan(source_name="<memory>", source_sha256=None, pipeline="", steps=())
    assert '"steps": []\n' in plan.to_json()
    assert Plan.from_json(plan.to_json()) == plan


@given(PLANS)
def test_from_json_undoes_to_json(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


def edited(edit: Callable[[Any], object]) -> str:
    data = json.loads(TEXT)
    edit(data)
    return json.dumps(data)


def group(data: Any) -> Any:
    return data["steps"][0]["groups"][0]


def order(data: Any) -> Any:
    return data["steps"][2]["orders"][0]


GROUP = "$.steps[0].groups[0]"
ORDER = "$.steps[2].orders[0]"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d.update(schema="prunec.plan/2"), None),
        (lambda d: d.pop("schema"), "$: expected key 'schema'"),
        (lambda d: d.update(schema=1), "$.schema: expected a string, got 1"),
        (lambda d: d.pop("steps"), "$: expected key 'steps'"),
        (
            lambda d: d.update(step=[]),
            "$: unknown key 'step' (did you mean 'steps'?); known are schema, source, pipeline, steps",
        ),
        (lambda d: d.update(steps={}), "$.steps: expected a list, got an object"),
        (lambda d: d.update(pipeline=None), "$.pipeline: expected a string, got null"),
        (lambda d: d.update(source="net.onnx"), "$.source: expected an object, got 'net.onnx'"),
        (lambda d: d["source"].update(sha256=[]), "$.source.sha256: expected a string, got a list"),
        (lambda d: d["steps"].append(7), "$.steps[3]: expected an object, got 7"),
        (lambda d: d["steps"][0].pop("pass"), "$.steps[0]: expected key 'pass'"),
        (lambda d: group(d).update(units=0), f"{GROUP}.units: expected a whole number of at least 1, got 0"),
        (
            lambda d: group(d).update(units=True),
            f"{GROUP}.units: expected a whole number of at least 1, got true",
        ),
        (
            lambda d: group(d).update(removed=[3, -1]),
            f"{GROUP}.removed[1]: expected a whole number of at least 0, got -1",
        ),
        (
            lambda d: group(d).update(removed=[1, 2.0]),
            f"{GROUP}.removed[1]: expected a whole number of at least 0, got 2.0",
        ),
        (
            lambda d: group(d).update(removed=[False]),
            f"{GROUP}.removed[0]: expected a whole number of at least 0, got false",
        ),
        (
            lambda d: group(d).update(removed=[1, 3, 3]),
            f"{GROUP}.removed[2]: expected ascending indices without duplicates, got 3 after 3",
        ),
        (
            lambda d: group(d).update(removed=[5, 0]),
            f"{GROUP}.removed[1]: expected ascending indices without duplicates, got 0 after 5",
        ),
        (
            lambda d: group(d).update(removed=[0, 64]),
            f"{GROUP}.removed: expected indices below 64, the group's units, got 64",
        ),
        (lambda d: group(d).update(removed=3), f"{GROUP}.removed: expected a list of indices, got 3"),
        (
            lambda d: group(d).update(equivalence="same"),
            f"{GROUP}.equivalence: expected one of 'masked', 'masked-kept-statistics', 'none', got 'same'",
        ),
        (lambda d: group(d).update(equivalence=[]), None),
        (
            lambda d: group(d).update(equivalence="none"),
            f"{GROUP}: expected key 'reason' where 'equivalence' is 'none'",
        ),
        (
            lambda d: group(d)["tensors"][0].update(axis=-1),
            f"{GROUP}.tensors[0].axis: expected a whole number of at least 0, got -1",
        ),
        (
            lambda d: group(d)["tensors"][1].update(uses=["conv1"]),
            f"{GROUP}.tensors[1].uses[0]: expected 'node_name:input_index', got 'conv1'",
        ),
        (
            lambda d: group(d)["tensors"][1].update(remove=[]),
            f"{GROUP}.tensors[1]: unknown key 'remove' (did you mean 'removed'?); "
            "known are name, axis, removed, uses",
        ),
        (
            lambda d: order(d).update(order=[4, 0, 4]),
            f"{ORDER}.order: expected indices without duplicates, got 4 twice",
        ),
        (
            lambda d: order(d).update(order=[8, 0]),
            f"{ORDER}.order: expected indices below 8, the group's units, got 8",
        ),
        (
            lambda d: order(d)["tensors"][0].update(order=[1, "2"]),
            f"{ORDER}.tensors[0].order[1]: expected a whole number of at least 0, got '2'",
        ),
        (
            lambda d: order(d).update(removed=[]),
            f"{ORDER}: unknown key 'removed'; known are id, units, order, tensors",
        ),
        (
            lambda d: d["steps"][2].update(orders={}),
            "$.steps[2].orders: expected a list, got an object",
        ),
    ],
)
def test_mistakes_name_their_json_path(edit: Callable[[Any], object], expected: str | None) -> None:
    found = error_of(edited(edit))
    assert found == f"error: plan.json: {expected}" if expected else found.startswith("error: plan.json: $.")


def test_another_schema_version_is_refused_with_both_versions() -> None:
    assert error_of('{"schema": "prunec.plan/2", "whatever": 1}') == (
        f"error: plan.json: $.schema: this version of prunec reads '{SCHEMA}', the file is 'prunec.plan/2'\n"
        "  = help: write the plan again with this version of prunec"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "plan.json:1:1: not valid JSON: expecting value"),
        ('{\n  "schema" 1}', "plan.json:2:12: not valid JSON: expecting ':' delimiter"),
        ("[]", "plan.json: $: expected an object, got a list"),
        ("null", "plan.json: $: expected an object, got null"),
        ('{"a": NaN}', "plan.json: not valid JSON: number NaN is not JSON"),
        ('{"a": 1, "a": 2}', "plan.json: not valid JSON: key 'a' is given twice in one object"),
        (
            "1" * 5000,
            "plan.json: not valid JSON: exceeds the limit (4300 digits) for integer string conversion: "
            "value has 5000 digits",
        ),
    ],
)
def test_text_that_is_no_json(text: str, expected: str) -> None:
    assert error_of(text) == f"error: {expected}"


def test_deeply_nested_json_is_a_user_error() -> None:
    assert error_of("[" * 100_000).startswith("error: plan.json: not valid JSON: ")


@given(JSON)
def test_any_json_is_a_plan_or_a_user_error(data: object) -> None:
    header = {"schema": SCHEMA, "source": {"name": ""}, "pipeline": ""}
    for text in (
        json.dumps(data),
        json.dumps(header | {"steps": data}),
    ):
        try:
            Plan.from_json(text)
        except UserError as error:
            assert error.render().startswith("error: <plan>: ")


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    PLAN.save(path)
    assert Plan.load(path) == PLAN
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    (tmp_path / "other").touch()
    assert (tmp_path / "plan.json").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "plan.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as caught:
        PLAN.save(path)
    assert caught.value.render() == f"error: {path}: cannot write the plan: no space left on device"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("plan.json", "old")]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the plan: no such file or directory"):
        Plan.load(tmp_path / "missing.json")
    with pytest.raises(UserError, match="cannot write the plan: no such file or directory"):
        PLAN.save(tmp_path / "missing" / "plan.json")
    (tmp_path / "binary").write_bytes(b"{\xff")
    with pytest.raises(UserError, match="not UTF-8 text: byte 1 is 0xff"):
        Plan.load(tmp_path / "binary")


def test_a_group_may_go_as_a_whole_where_its_axis_stays() -> None:
    """Of three channels the last is never used: its group of one goes, and the plan can be read and replayed."""
    module = graph(
        """net (float[2,3,4] x) => (float[2,5,4] y) <float[3,3,1] w, float[5,2,1] f, int64[1] s = {0},
        int64[1] e = {2}, int64[1] one = {1}> { a = Conv(x, w) b = Slice(a, s, e, one) y = Conv(b, f) }"""
    )
    result = prune(module, 0.67)
    assert any(len(g.removed) == g.units for g in result.plan.steps[0].groups)
    again = prunec.run(module, result.plan.pipeline, replay=Plan.from_json(result.plan.to_json()))
    assert {n: a.tobytes() for n, a in weights(again.module).items()} == {
        n: a.tobytes() for n, a in weights(result.module).items()
    }


def test_a_partial_step_stays_partial_in_json() -> None:
    plan = replace(PLAN, steps=(replace(PLAN.steps[0], partial=True),))
    assert '"partial": true' in plan.to_json()
    assert Plan.from_json(plan.to_json()) == plan
    assert '"partial"' not in PLAN.to_json()
