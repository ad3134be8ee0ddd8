"""Numbers that depend on sizes of the inputs are dynamic even where they are the same at every size tried."""

from __future__ import annotations

import pytest
from core_graphs import graph, prune

import prunec
from prunec.ir.dependence import behind_counts
from prunec.ir.facts import infer_facts

TEXT = """net (float[N,T,6] x, float[N,S,6] z) => (float[A] y) <int64 one = {1}, int64[1] ones = {1}, int64[1] two = {2},
    int64[1] three = {3}, int64[1] far = {1000}, int64[1] none = {-1}>
{
    s = Shape(x) r = Shape(z) size = Size(x) t = Gather(s, one) u = Gather(r, one) y = ConstantOfShape(s)
    NUMBER
}"""

FOLLOWS = {
    "more than one token": "q = Greater(t, one)",
    "clipped": "q = Max(s, far)",
    "the difference of two lengths": "q = Sub(t, u)",
    "a slice that starts at a length": "m = Sub(t, u) n = Unsqueeze(m, two0) q = Slice(s, n, three)",
    "moved": "m = Sub(s, r) q = Gather(m, ones)",
    "joined": "m = Slice(s, ones, three) n = Sub(m, m) q = Concat<axis=0>(ones, n)",
    "reduced": "m = Min(s, ones) q = ReduceProd<keepdims=0>(m)",
    "the size of all": "m = Sub(size, size) q = Unsqueeze(m, two0)",
}
STAYS = {
    "a static entry": "q = Slice(s, two, three)",
    "arithmetic on a static entry": "m = Slice(s, two, three) q = Div(m, two)",
    "static entries behind a move of all": "m = Concat<axis=0>(s, none) q = Slice(m, two, far)",
    "the rank": "q = Shape(s)",
}


def unstable(number: str) -> set[str | None]:
    text = TEXT.replace("NUMBER", number).replace("-1}>", "-1}, int64[1] two0 = {0}>")
    return {value.name for value in infer_facts(graph(text).model).unstable}


@pytest.mark.parametrize("what", FOLLOWS)
def test_what_follows_a_size(what: str) -> None:
    assert "q" in unstable(FOLLOWS[what])


@pytest.mark.parametrize("what", STAYS)
def test_what_does_not(what: str) -> None:
    assert "q" not in unstable(STAYS[what])


def test_a_comparison_of_a_length_is_not_folded() -> None:
    text = """net (float[N,T,6] x) => (float[N,T,5] y) <float[6,8] w, float[8,5] f, int64 one = {1}, int64 many = {1000},
        float two = {2}, float three = {3}>
    {
        s = Shape(x) t = Gather(s, one) long = Greater(t, many) k = Where(long, two, three)
        h = MatMul(x, w) scaled = Mul(h, k) y = MatMul(scaled, f)
    }"""
    module = graph(text)
    for made in (prunec.run(module, "canonicalize").module, prune(module, 0.5).module):
        assert {"Shape", "Greater", "Where"} <= {node.op_type for node in made.graph}


@pytest.mark.parametrize("find", ["NonZero(h)", "Unique(h)", "Compress(h, x)"])
def test_a_count_is_not_folded(find: str) -> None:
    """Masking shows it: a channel of zeros is not found."""
    text = f"""net (bool[2] x, float[2,6] z) => (float[2,5] y) <float[6,8] w, float[8,5] f, int64[1] last = {{-1}},
        int64[1] end = {{9}}>
    {{
        h = MatMul(z, w) found = {find} s = Shape(found) k = Slice(s, last, end) n = Cast<to=1>(k)
        scaled = Mul(h, n) y = MatMul(scaled, f)
    }}"""
    module = graph(text)
    assert "k" in {value.name for value in infer_facts(module.model).unstable}
    made = prune(module, 0.5).module
    assert find.split("(")[0] in {node.op_type for node in made.graph}


def test_what_is_found_may_change_with_the_weights() -> None:
    """A scale that becomes 1 for all leaves fewer different numbers; no shape is predicted for them."""
    text = """net (float[2,3] x) => (float[2,5] y) <float[3,4] w, float[4,6] v, float[6,5] f>
    { a = MatMul(x, w) r = Relu(a) h = MatMul(r, v) u = Unique(h) m = ReduceMean(u) s = Mul(h, m) y = MatMul(s, f) }"""
    module = graph(text)
    assert behind_counts(module.graph) == {"u", "m", "s", "y"}
    assert prune(module, 0.75).plan.steps
