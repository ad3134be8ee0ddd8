"""The graph of channel groups, and the way of ops between two layers."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import pytest
from core_graphs import coupling_of, graph
from coupling_graphs import GRAPHS, coupled

from prunec.ir.diagnostics import UserError
from prunec.passes.coupling.graph import Step, edges, group_graph, groups_of, why
from prunec.passes.coupling.groups import Coupling
from prunec.passes.coupling.lookup import short_name
from prunec.passes.coupling.solve import Unit

RESIDUAL = """
net (float[N,3,8,8] x) => (float[N,5,8,8] y)
  <float[8,3,1,1] w1, float[8,8,1,1] w2, float[6,8,1,1] w3, float[5,6,1,1] w4>
{
  [c1] a = Conv(x, w1)
  [r1] b = Relu(a)
  [c2] c = Conv(b, w2)
  [sum] s = Add(c, a)
  [c3] d = Conv(s, w3)
  [c4] y = Conv(d, w4)
}"""
CONCAT = """
net (float[N,3,8,8] x) => (float[N,5,8,8] y)
  <float[8,3,1,1] w1, float[4,3,1,1] w2, float[5,12,1,1] w3>
{
  [c1] a = Conv(x, w1)
  [c2] b = Conv(x, w2)
  [join] j = Concat<axis = 1>(a, b)
  [c3] y = Conv(j, w3)
}"""
GROUPED = """
net (float[N,3,8,8] x) => (float[N,5,8,8] y)
  <float[8,3,1,1] w1, float[12,4,3,3] w2, float[5,12,1,1] w3>
{
  [c1] a = Conv(x, w1)
  [c2] b = Conv<group = 2, pads = [1, 1, 1, 1]>(a, w2)
  [c3] y = Conv(b, w3)
}"""


def analysed(text: str) -> Coupling:
    return coupling_of(graph(text))


def shown(steps: list[Step]) -> list[str]:
    return [str(step) for step in steps]


def test_nodes_are_axes_and_edges_name_their_op() -> None:
    found = group_graph(analysed(RESIDUAL))
    assert found.nodes["w1:0"] == {"kind": "parameter", "size": 8, "groups": "g1", "frozen": False}
    assert found.nodes["%s:1"]["kind"] == "value"
    assert found.nodes["w4:0"]["frozen"] is True
    assert found.edges["%a:1", "%s:1"] == {"node": "sum", "op_type": "Add", "groups": "g1"}
    assert found.edges["w2:1", "%b:1"]["node"] == "c2"


def test_parts_of_the_graph_are_the_groups() -> None:
    found = group_graph(analysed(RESIDUAL))
    parts = [{name for name in part if not name.startswith("%")} for part in nx.connected_components(found)]
    assert sorted(map(sorted, parts)) == [
        ["w1:0", "w2:0", "w2:1", "w3:1"],
        ["w1:1"],
        ["w3:0", "w4:1"],
        ["w4:0"],
    ]


def test_a_grouped_convolution_ties_inputs_and_outputs_among_themselves() -> None:
    found = group_graph(analysed(GROUPED))
    assert nx.has_path(found, "w1:0", "w2:1") and not nx.has_path(found, "w1:0", "w2:0")
    assert nx.has_path(found, "w2:0", "w3:1")
    assert {kind for _, kind in found.nodes(data="kind")} == {"parameter", "value"}, "no loose factors"


def test_an_edge_through_a_concatenation_knows_its_groups() -> None:
    found = group_graph(analysed(CONCAT))
    assert found.edges["%a:1", "%j:1"]["groups"] == "g1"
    assert found.edges["%b:1", "%j:1"]["groups"] == "g2"
    assert found.nodes["%j:1"]["groups"] == "g1,g2"


def test_every_edge_joins_axes_of_a_common_group() -> None:
    for text in (RESIDUAL, CONCAT, GROUPED):
        found = group_graph(analysed(text))
        for a, b, facts in found.edges(data=True):
            groups = set(facts["groups"].split(","))
            assert groups <= set(found.nodes[a]["groups"].split(","))
            assert groups <= set(found.nodes[b]["groups"].split(","))


def test_the_graph_can_be_written() -> None:
    text = "\n".join(nx.generate_graphml(group_graph(analysed(GROUPED))))
    assert nx.parse_graphml(text).nodes.keys() == group_graph(analysed(GROUPED)).nodes.keys()


def test_why_gives_the_shortest_way_of_ops() -> None:
    assert shown(why(analysed(RESIDUAL), "w1", "w3")) == [
        "w1:0",
        "%a:1  by Conv `c1`",
        "%s:1  by Add `sum`",
        "w3:1  by Conv `c3`",
    ]


def test_why_takes_nodes_tensors_axes_and_sigils() -> None:
    coupling = analysed(RESIDUAL)
    assert shown(why(coupling, "c1", "c2")) == ["%a:1", "%c:1  by Add `sum`"]
    assert why(coupling, "@w1:0", "%s") == why(coupling, "w1", "s")
    assert why(coupling, "w1:1", "w3") == []
    assert shown(why(coupling, "w1", "c1")) == ["w1:0"]


def test_one_step_for_one_op() -> None:
    assert shown(why(analysed(RESIDUAL), "w2:1", "b")) == ["w2:1", "%b:1  by Conv `c2`"]
    assert shown(why(analysed(GROUPED), "w2:0", "b")) == ["w2:0", "%b:1  by Conv `c2`"]


def test_parts_of_a_concatenation_are_not_coupled() -> None:
    coupling = analysed(CONCAT)
    assert why(coupling, "w1:0", "w2:0") == []
    assert shown(why(coupling, "w1:0", "w3")) == [
        "w1:0",
        "%a:1  by Conv `c1`",
        "%j:1  by Concat `join`",
        "w3:1  by Conv `c3`",
    ]


def test_pinned_axes_are_tied_as_well() -> None:
    assert shown(why(analysed(RESIDUAL), "w4", "y")) == ["w4:0", "%y:1  by Conv `c4`"]


def test_groups_of_a_name() -> None:
    coupling = analysed(RESIDUAL)
    assert [g.id for g in groups_of(coupling, "c3")] == ["g1", "g2"]
    assert [g.id for g in groups_of(coupling, "w3:0")] == ["g2"]


def test_unknown_names_are_the_users_mistake() -> None:
    with pytest.raises(UserError) as caught:
        why(analysed(RESIDUAL), "sun", "w1")
    assert str(caught.value) == (
        "error: no node or tensor is called `sun`\n  = help: the nearest names are `sum`, `s`"
    )
    with pytest.raises(UserError, match="no node or tensor is called `w1:7`"):
        why(analysed(RESIDUAL), "w1:7", "w1")


def test_modules_and_short_names_are_names_too() -> None:
    text = RESIDUAL.replace("[c2]", '["/net/net.0/conv2/Conv"]').replace("w3", '"net.1.weight"')
    coupling = analysed(text)
    assert groups_of(coupling, "net.0/conv2") == groups_of(coupling, "/net/net.0/conv2/Conv")
    assert groups_of(coupling, "conv2") == groups_of(coupling, "net.0/conv2")
    assert groups_of(coupling, "net.1") == groups_of(coupling, "net.1.weight")
    [node] = [n for n in coupling.relations.rules if n.name and "conv2" in n.name]
    assert short_name(node) == "net.0/conv2"


def test_edges_hold_for_every_slot() -> None:
    """What a relation ties is in the same components on both sides."""
    for text in (RESIDUAL, CONCAT, GROUPED):
        coupling = analysed(text)
        for edge in edges(coupling):
            a, b = coupling.labels(edge.a), coupling.labels(edge.b)
            if a is not None and b is not None:
                assert set(a if edge.slots is None else a[edge.slots]) <= set(b)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("unit", ["head", "head-dim"])
def test_there_is_a_way_exactly_where_axes_share_a_unit(name: str, unit: Unit) -> None:
    coupling = coupling_of(coupled(name), unit)
    members = {
        (m.name, m.axis): set[str]() for g in coupling.groups for m in g.members if m.operand.use is None
    }
    for group in coupling.groups:
        for member in group.members:
            members.get((member.name, member.axis), set()).add(group.id)
    for (a, mine), (b, theirs) in combinations(members.items(), 2):
        way = why(coupling, "{}:{}".format(*a), "{}:{}".format(*b))
        assert bool(way) == bool(mine & theirs), (a, b)
