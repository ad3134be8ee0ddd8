"""Which groups the name patterns let through."""

from __future__ import annotations

import pytest
from core_graphs import coupling_of, graph, prune
from coupling_graphs import GRAPHS, coupled

from prunec.ir.diagnostics import RemarkLog
from prunec.ir.module import Module
from prunec.passes.pruning.filters import GroupFilter, matches


def accepted(module: Module, **patterns: tuple[str, ...]) -> list[str]:
    coupling = coupling_of(module)
    accept = GroupFilter(coupling, **patterns)
    return [group.id for group in coupling.prunable if accept(group)]


NAMED = """net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] "stem.w", float[6,4,1] "body.w", float[5,6,1] "head.w">
{ [stem] a = Conv(x, "stem.w") [body] b = Conv(a, "body.w") [head] y = Conv(b, "head.w") }"""


@pytest.mark.parametrize(
    ("patterns", "groups"),
    [
        ({}, ["g1", "g2"]),
        ({"ignore": ("stem*",)}, ["g2"]),
        ({"ignore": ("head",)}, ["g1"]),
        ({"ignore": ("body.w",)}, []),
        ({"only": ("stem.w",)}, ["g1"]),
        ({"only": ("head*",)}, ["g2"]),
        ({"only": ("body",)}, ["g1", "g2"]),
        ({"only": ("body",), "ignore": ("*.w",)}, []),
        ({"only": ("[sh]*",), "ignore": ("head",)}, ["g1"]),
        ({"exclude_outputs_of": ("stem",)}, ["g2"]),
        ({"exclude_outputs_of": ("body",)}, ["g1"]),
        ({"exclude_outputs_of": ("STEM",)}, ["g1", "g2"]),
        ({"exclude_outputs_of": ("*",)}, []),
    ],
)
def test_patterns(patterns: dict[str, tuple[str, ...]], groups: list[str]) -> None:
    assert accepted(graph(NAMED), **patterns) == groups


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("layer4", "layer4.0.conv1.weight", True),
        ("layer4", "/layer4/layer4.0/conv1/Conv", True),
        ("/layer4", "/layer4/layer4.0/conv1/Conv", True),
        ("layer4.0", "layer4.0.conv1.weight", True),
        ("layer4.0", "layer4.01.weight", False),
        ("layer", "layer4.0.conv1.weight", False),
        ("layer4", "layer44.weight", False),
        ("layer4", "old.layer4.weight", False),
        ("layer4", "layer4", True),
        ("layer4*", "layer44.weight", True),
        ("layer[34]", "layer4.0.conv1.weight", False),
    ],
)
def test_a_pattern_without_wildcards_is_a_name_or_all_inside_of_it(
    pattern: str, name: str, fits: bool
) -> None:
    assert matches([name], [pattern]) == fits


def remarks(module: Module, **patterns: tuple[str, ...]) -> list[str]:
    log = RemarkLog()
    GroupFilter(coupling_of(module), **patterns).warn_unmatched(log, "here")
    return [str(remark) for remark in log]


def test_a_pattern_that_matches_nothing_is_most_likely_a_typo() -> None:
    assert remarks(graph(NAMED), ignore=("stem.w", "haed")) == [
        "remark[missed]: here: pattern 'haed' matches no node or tensor\n"
        "  = reason: no such name in the graph\n"
        "  = help: did you mean 'head'?"
    ]
    (text,) = remarks(graph(NAMED), only=("zzzzzz",))
    assert "help" not in text


def test_frozen_tensors_and_plain_nodes_are_known_names() -> None:
    text = GRAPHS["squeeze and excite"].replace("r = Relu", "[act] r = Relu")
    assert remarks(graph(text), ignore=("act", "w2"), exclude_outputs_of=("act",)) == []


def test_a_model_without_groups_has_node_names() -> None:
    module = graph("net (float[2,3] x) => (float[2,3] y) { [act] y = Relu(x) }")
    assert remarks(module, only=("act",)) == []


def test_a_group_that_is_ignored_keeps_its_size() -> None:
    result = prune(graph(NAMED), ignore="head")
    assert [t.name for g in result.plan.steps[0].groups for t in g.tensors] == ["stem.w", "body.w"]


def test_where_no_group_passes_a_remark_says_so() -> None:
    result = prune(coupled("residual"), ignore="*")
    assert result.plan.steps == ()
    (remark,) = [r for r in result.remarks if r.kind == "missed"]
    assert remark.reason == "no group passes the filters `ignore` and `only`"
