"""What canonicalize does to the bodies of If and Loop; the manager compares the outputs before and after."""

from __future__ import annotations

import pytest
from canonical import Canonical, model, weights


@pytest.mark.parametrize(("condition", "op"), [("{1}", "Relu"), ("{0}", "Tanh")])
def test_a_decided_branch_takes_the_place_of_its_if(condition: str, op: str) -> None:
    text = f"""net (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) <bool c = {condition}> {{
        y, h = If (c) <
            then_branch = yes () => (float[N, 4] p, float[N, 4] r)
            <float[4] u = {{1, 2, 3, 4}}> {{ a = Add (x, u)  p = Relu (a)  r = Neg (a) }},
            else_branch = no () => (float[N, 4] q, float[N, 4] s) {{ q = Tanh (x)  s = Identity (x) }}
        >
        z = Abs (h)
    }}"""
    after = Canonical(model(text))
    assert "If" not in after.ops and after.ops[op] == 1 and after.ops["Abs"] == 1
    assert "1 decided branches taken" in after.messages()


def test_a_branch_that_the_shape_decides_is_taken_with_what_it_holds() -> None:
    text = """net (float[N, 4] x, bool d) => (float[N, 4] y) <int64 one = {1}, int64 two = {4}> {
        shape = Shape (x)
        width = Gather (shape, one)
        c = Equal (width, two)
        y = If (c) <
            then_branch = yes () => (float[N, 4] p) {
                p = If (d) <
                    then_branch = yes2 () => (float[N, 4] p2) { a = Identity (x)  p2 = Relu (a) },
                    else_branch = no2 () => (float[N, 4] q2) { q2 = Neg (x) }
                >
            },
            else_branch = no () => (float[N, 4] q) { q = Tanh (x) }
        >
    }"""
    after = Canonical(model(text))
    assert after.ops == {"If": 1}
    inner = {n.op_type for a in after.proto.graph.node[0].attribute for n in a.g.node}
    assert inner == {"Relu", "Neg"}


def test_a_branch_of_a_dynamic_size_is_not_decided() -> None:
    text = """net (float[N, 4] x) => (float[M, 4] y) <int64 zero = {0}, int64 two = {2}> {
        shape = Shape (x)
        rows = Gather (shape, zero)
        c = Less (rows, two)
        y = If (c) <
            then_branch = yes () => (float[N, 4] p) { p = Relu (x) },
            else_branch = no () => (float[N, 4] q) { q = Tanh (x) }
        >
    }"""
    assert Canonical(model(text)).ops["If"] == 1


def test_what_a_dropped_branch_captured_is_not_held_back() -> None:
    text = """net (float[N, 4] x) => (float[N, 4] y) <bool c = {1}> {
        y = If (c) <
            then_branch = yes () => (float[N, 4] p) { p = Relu (x) },
            else_branch = no () => (float[N, 4] q) { q = MatMul (x, w) }
        >
    }"""
    after = Canonical(model(text, **weights(w=(4, 4))))
    assert after.ops == {"Relu": 1}
    assert not after.constants


def test_bodies_of_loops_are_simplified() -> None:
    text = """net (float[2, 4] x) => (float[2, 4] y) <int64 n = {3}, bool go = {1}, float[4] a = {1, 2, 3, 4}, float[4] b = {1, 1, 1, 1}> {
        y = Loop <body = block (int64 i, bool c, float[2, 4] s) => (bool d, float[2, 4] t) {
            d = Identity (c)
            sum = Add (a, b)
            e = Identity (s)
            f = Transpose <perm = [1, 0]> (e)
            g = Transpose <perm = [1, 0]> (f)
            t = Mul (g, sum)
        }> (n, go, x)
    }"""
    after = Canonical(model(text))
    (loop,) = after.proto.graph.node
    assert [n.op_type for n in loop.attribute[0].g.node] == ["Identity", "Mul"]
    assert after.constants["sum"].tolist() == [2, 3, 4, 5]
