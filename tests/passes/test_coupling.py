"""The channel groups of hand-made graphs (``coupling_groups.txt``), and how relations are solved."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
from core_graphs import coupling_of, graph, prunable, prune, reasons, units
from coupling_graphs import GRAPHS, coupled

import prunec
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.coupling.axes import AxisTable, Operand, Reason
from prunec.passes.coupling.chains import Chain
from prunec.passes.coupling.collect import collect
from prunec.passes.coupling.options import Unit
from prunec.passes.coupling.products import Product, permutation

EXPECTED = (Path(__file__).parent / "coupling_groups.txt").read_text()


def described(module: Module, unit: Unit = "head") -> str:
    """The groups, and per member the unit of every slot unless slot i is unit i."""
    coupling, lines = coupling_of(module, unit), []
    for group in coupling.groups:
        lines.append(f"{group}{' statistic' if group.statistic else ''}")
        if group.frozen is None:
            members = [(k, v) for k, v in units(group).items() if v != list(range(group.units))]
            lines += [f"  @{name} {' '.join(map(str, slots))}" for name, slots in members]
    return "\n".join(lines)


def expected(name: str) -> dict[str, str]:
    """What ``coupling_groups.txt`` says of a graph, by unit."""
    block = EXPECTED.split(f"== {name}\n", 1)[1].split("\n\n", 1)[0]
    head, _, dims = block.partition("\nhead-dim:\n")
    return {"head": head, "head-dim": dims or head}


@pytest.mark.parametrize("unit", ["head", "head-dim"])
@pytest.mark.parametrize("name", GRAPHS)
def test_groups(name: str, unit: Unit) -> None:
    assert described(coupled(name), unit) == expected(name)[unit].strip("\n")


@pytest.mark.parametrize("name", GRAPHS)
def test_every_slot_of_a_parameter_belongs_to_at_most_one_unit(name: str) -> None:
    for operand, claims in claims_of(coupled(name)).items():
        for a, b in combinations(claims, 2):
            assert not (a & b).any(), operand


def claims_of(module: Module) -> dict[tuple[Operand, int], list[np.ndarray]]:
    found: dict[tuple[Operand, int], list[np.ndarray]] = {}
    for group in coupling_of(module).prunable:
        for member in group.members:
            found.setdefault((member.operand, member.axis), []).append(member.units >= 0)
            assert np.unique(np.bincount(member.units[member.units >= 0])).size == 1, "units are alike"
    return found


def test_two_runs_give_the_same_groups() -> None:
    assert described(coupled("heads")) == described(coupled("heads"))


# -- pins and their reasons ------------------------------------------------------------

TWO = "<float[4,3,1] w1, float[5,4,1] w2>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"net (float[N,3,8] x) => (float[N,5,8] y, float[N,4,8] a) {TWO} {{ a = Conv(x, w1) y = Conv(a, w2) }}",
         "graph output `a`"),
        (f"net (float[N,3,8] x) => (float[N,5,8] y) {TWO} "
         "{ a = Conv(x, w1) b = com.acme.Odd(a) c = Add(a, a) y = Conv(c, w2) }", "op `com.acme::Odd` has no rule"),
        (f"net (float[N,3,8] x) => (float[N,5,8] y) {TWO} "
         "{ a = Conv(x, w1) b = LRN<size=3>(a) y = Conv(b, w2) }", "LRN works along it"),
        (f"net (float[N,3,8] x) => (float[N,5,8] y, int64[N,1,8] i) {TWO} "
         "{ a = Conv(x, w1) i = ArgMax<axis=1>(a) y = Conv(a, w2) }", "ArgMax ranks its slots"),
        (f"net (float[N,3,8] x, int64[4] i) => (float[N,5,8] y) {TWO} "
         "{ a = Conv(x, w1) b = Gather<axis=1>(a, i) y = Conv(b, w2) }", "Gather looks it up by indices that are computed at run time"),
        ("net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[5,6,1] w2, int64[6] p = {0,1,0,0,1,0}> "
         "{ a = Conv(x, w1) b = Pad<mode=\"reflect\">(a, p) y = Conv(b, w2) }", "Pad repeats some of its slots (mode 'reflect')"),
        ("net (float[2,3,8] x) => (float[4,5,4] y) <float[12,3,1] w1, float[5,12,1] w2, int64[3] s = {3, 8, 8}, "
         "int64[3] t = {4, 12, 4}> { a = Conv(x, w1) b = Reshape(a, s) c = Relu(b) d = Reshape(c, t) y = Conv(d, w2) }",
         "`Reshape`: it regroups (2, 12, 8) as (3, 8, 8), across the borders of axes"),
    ],
)  # fmt: skip
def test_what_pins_a_channel_says_so(text: str, reason: str) -> None:
    module = graph(text)
    assert reason in reasons(module)
    assert not any("@w1:0" in line for line in prunable(module))


def test_filters_longer_than_a_short_sequence_are_no_obstacle() -> None:
    text = "net (float[N,L] x) => (float[N,5,M] y) <float[4,1,64] w1, float[5,4,1] w2, int64[1] one = {1}> "
    text += "{ u = Unsqueeze(x, one) a = Conv<strides=[16]>(u, w1) y = Conv(a, w2) }"
    assert prunable(graph(text)) == ["g1 size=4 {@w1:0, @w2:1}"]
    (verdict,) = prunec.run(graph(text), "prune-channels{round-to=1}").verdicts
    assert verdict.equivalence == "masked"


BRANCH = """net (float[N,3,8] x, bool go) => (float[N,5,8] y) <float[4,3,1] w1, float[6,4,1] w2, float[5,6,1] w3>
{
    a = Conv(x, w1)
    b = If (go) <
        then_branch = yes () => (float[N,4,8] t) { t = Relu(a) },
        else_branch = no () => (float[N,4,8] e) { e = Identity(a) }
    >
    c = Conv(b, w2)
    y = Conv(c, w3)
}"""


def test_what_a_nested_graph_reads_is_tied_to_what_it_returns() -> None:
    expected = ["g1 size=4 {@w1:0, @w2:1}", "g2 size=6 {@w2:0, @w3:1}"]
    assert prunable(graph(BRANCH)) == expected
    inner = "If (go) < then_branch = yes2 () => (float[N,4,8] t2) { t2 = Relu(a) }, "
    inner += "else_branch = no2 () => (float[N,4,8] e2) { e2 = Identity(a) } >"
    assert prunable(graph(BRANCH.replace("t = Relu(a)", f"t = {inner}"))) == expected


def test_a_weight_that_is_read_inside_too_is_tied() -> None:
    text = "net (float[N,4] x, bool go) => (float[N,5] y) <float[4,6] w, float[6,5] u> { a = MatMul(x, w) "
    text += "b = If (go) < then_branch = yes () => (float[6,5] t) { t = Identity(u) }, "
    text += "else_branch = no () => (float[6,5] e) { e = Neg(u) } > c = MatMul(a, u) d = MatMul(a, b) y = Add(c, d) }"
    module = graph(text)
    assert prunable(module) == ["g1 size=6 statistic {@w:1, @u:0}"]
    assert prune(module).verdicts[0].ways == (2, 2)


def test_a_batch_of_a_fixed_size_is_not_pruned() -> None:
    module = graph("net (float[6,3] x) => (float[6,5] y) <float[3,4] w, float[4,5] u, float[6,1] s> "
                   "{ a = MatMul(x, w) b = Mul(a, s) y = MatMul(b, u) }")  # fmt: skip
    assert prunable(module) == ["g1 size=4 {@w:1, @u:0}"]


def test_a_model_without_parameters_has_no_groups() -> None:
    assert coupling_of(graph("net (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")).groups == ()


# -- the choice of a factor ------------------------------------------------------------


def product(*terms: tuple[str, ...], fixed: dict[str, str] | None = None, **sizes: int) -> list[Product]:
    return list(Product.split("node", list(enumerate(terms)), dict.fromkeys(sizes, 0), fixed or {}, sizes))


@pytest.mark.parametrize(
    ("terms", "alternatives"),
    [
        ([("g", "c")], [{"c"}, {"g"}]),
        ([("g", "c"), ("g", "o")], [{"c", "o"}, {"g"}]),
        ([("h", "d"), ("h", "e"), ("k", "h")], [{"d", "e", "k"}, {"h"}]),
        ([("a", "b", "c")], [{"a"}, {"b"}, {"c"}]),
        ([("a", "b"), ("b", "c")], [{"a", "c"}, {"b"}]),
    ],
)
def test_alternatives_never_share_an_axis(terms: list[tuple[str, ...]], alternatives: list[set[str]]) -> None:
    (only,) = product(*terms, **dict.fromkeys({f for t in terms for f in t}, 2))
    assert list(map(set, only.alternatives)) == alternatives


def test_products_without_common_factors_are_separate() -> None:
    parts = product(("a", "b"), ("c", "d"), ("d", "e"), a=2, b=2, c=2, d=2, e=2)
    assert [sorted(p.factors) for p in parts] == [["a", "b"], ["c", "d", "e"]]


def test_coordinates_of_a_factor() -> None:
    (only,) = product(("a", "b", "c"), a=2, b=3, c=2)
    assert only.coordinates(("a", "b", "c"), "b").tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert only.coordinates(("a", "b", "c"), "a").tolist() == [0] * 6 + [1] * 6


def test_permutation_of_factors() -> None:
    assert permutation(("a", "b"), ("b", "a"), {"a": 2, "b": 3}).tolist() == [0, 3, 1, 4, 2, 5]


def flattened(shape: str, kernel: str) -> Module:
    """A convolution flattened into a classifier, whose space comes from ``kernel``."""
    return graph(f"net (float[2,3,{shape}] x) => (float[2,5] y) <float[4,3,{kernel}] w1, float[16,5] w2> "
                 "{ a = Conv(x, w1) b = Flatten(a) y = MatMul(b, w2) }")  # fmt: skip


def test_space_cannot_carry_so_channels_do() -> None:
    (group,) = coupling_of(flattened("4,4", "3,3")).prunable
    assert units(group)["w2:0"] == [c for c in range(4) for _ in range(4)]


def test_both_factors_can_carry_and_the_larger_wins() -> None:
    """Tokens x channels flattened: either may go where neither is pinned."""
    module = graph(
        "net (float[2,4] x) => (float[2,5] y) <float[4,6] w1, int64[3] s = {2, 2, 3}, float[2,3] b, float[6,5] w2, "
        "int64[2] f = {2, 6}> { a = MatMul(x, w1) c = Reshape(a, s) d = Add(c, b) e = Reshape(d, f) y = MatMul(e, w2) }"
    )
    (group,) = coupling_of(module).prunable
    assert units(group) == {"w1:1": [0, 1, 2] * 2, "b:1": [0, 1, 2], "w2:0": [0, 1, 2] * 2}


def test_a_pinned_factor_leaves_the_other_choice() -> None:
    module = graph(
        "net (float[2,4] x) => (float[2,5] y, float[2,3,5] z) <float[4,6] w1, int64[3] s = {2, 3, 2}, float[6,5] w2, "
        "int64[2] f = {2, 6}, float[2,5] u> "
        "{ a = MatMul(x, w1) c = Reshape(a, s) e = Reshape(c, f) y = MatMul(e, w2) z = MatMul(c, u) }"
    )
    (group,) = coupling_of(module).prunable
    assert units(group) == {"w1:1": [0, 1] * 3, "w2:0": [0, 1] * 3, "u:0": [0, 1]}


# -- axes ------------------------------------------------------------


def test_union_of_axes_of_different_sizes_is_a_mistake() -> None:
    table = AxisTable()
    a, b = table.add(4), table.add(5)
    with pytest.raises(ValueError, match="axes of sizes 4 and 5 cannot be one index space"):
        table.union(a, b)


def test_the_reason_of_the_smallest_rank_survives_a_union() -> None:
    table = AxisTable()
    a, b, c = (table.add(4) for _ in range(3))
    table.pin(b, Reason(text="late", rank=5))
    table.pin(c, Reason(text="output", rank=0))
    table.union(a, b)
    table.union(c, b)
    assert table.find(a) == table.find(c) == a
    assert {reason.text for reason in table.pinned.values()} == {"output"}
    table.pin(a, Reason(text="weaker", rank=3))
    assert table.pinned[a].text == "output"


def test_an_operand_is_numbered_once() -> None:
    table, value = AxisTable(), onnx_ir.val("v")
    assert table.of(Operand(value), (2, 3)) == table.of(Operand(value), (2, 3)) == 0
    assert [(axis, root) for _, axis, root in table.axes()] == [(0, 0), (1, 1)]


# -- chains ------------------------------------------------------------


def chains_of(module: Module) -> list[Chain]:
    return list(collect(module.model, infer_facts(module.model)).chains.values())


def test_a_shuffle_is_one_chain() -> None:
    (chain,) = chains_of(coupled("channel shuffle"))
    assert [node.op_type for node in chain.nodes] == ["Reshape", "Transpose", "Reshape"]
    assert [chain.permuted(axis) for axis in range(3)] == [False, True, False]
    assert chain.permutation(1).tolist() == [0, 3, 1, 4, 2, 5]
    assert chain.permutation(2).tolist() == list(range(8))


def test_a_chain_whose_middle_is_used_elsewhere_is_none() -> None:
    text = GRAPHS["channel shuffle"].replace("(float[2,5,8] y)", "(float[2,5,8] y, float[2,3,2,8] c)")
    assert chains_of(graph(text)) == []
    text = GRAPHS["channel shuffle"].replace("(float[2,5,8] y)", "(float[2,5,8] y, float[2,3,2,8] z)")
    assert chains_of(graph(text.replace("y = Conv", "z = Relu(c) y = Conv"))) == []


@pytest.mark.parametrize(
    ("batch", "groups"),
    [("N", ["g1 size=4 {@w1:0, @b1:0, @w2:1}"]), ("1", ["g1 size=4 {@w1:0, @b1:0, @w2:1}"])],
)
def test_the_batch_does_not_matter(batch: str, groups: list[str]) -> None:
    assert prunable(graph(GRAPHS["plain"].replace("N,", f"{batch},"))) == groups
