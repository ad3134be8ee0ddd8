"""Rule texts: parsed, fitted to shapes, printed, refused."""

from __future__ import annotations

import pytest

from prunec.ir.rule import Rule, RuleError, fit, parse_template

CONV = "n (g c) *s, (g o) c *k, (g o) -> n (g o) *t"


@pytest.mark.parametrize(
    ("text", "inputs", "outputs", "printed"),
    [
        ("n k, m k, m -> n m", [(4, 3), (5, 3), (5,)], [(4, 5)], "n k, m k, m -> n m"),
        ("n k, m k, m -> n m", [(4, 3), (5, 3)], [(4, 5)], "n k, m k -> n m"),
        ("n k, m k, m -> n m", [(4, 3), (5, 3), None], [(4, 5)], "n k, m k, - -> n m"),
        ("n k, m k -> n m", [(1, 3), (5, 3)], [(1, 5)], "1 k, m k -> 1 m"),
        ("*b m k, *b k n -> *b m n", [(2, 7, 4, 3), (3, 6)], [(2, 7, 4, 6)], "b1 b0 m k, k n -> b1 b0 m n"),
        (
            "*b m k, *b k n -> *b m n",
            [(7, 4, 3), (2, 1, 3, 6)],
            [(2, 7, 4, 6)],
            "b0 m k, b1 1 k n -> b1 b0 m n",
        ),
        (
            CONV,
            [(2, 6, 8, 9), (10, 3, 3, 2)],
            [(2, 10, 6, 8)],
            "n (g c) s1 s0, (g o) c k1 k0 -> n (g o) t1 t0",
        ),
        ("n c *s -> n c", [(2, 3)], [(2, 3)], "n c -> n c"),
        ("k -> 1", [(3,)], [(1,)], "k -> 1"),
    ],
)
def test_a_rule_is_fitted_and_printed(
    text: str, inputs: list[tuple[int, ...] | None], outputs: list[tuple[int, ...]], printed: str
) -> None:
    known = {"g": 2} if "g" in text else {}
    assert str(fit(parse_template(text), inputs, outputs, known=known)) == printed


def test_sizes_of_factors_are_solved() -> None:
    rule = fit(parse_template(CONV), [(2, 6, 8, 9), (10, 3, 3, 2)], [(2, 10, 6, 8)], known={"g": 2})
    expected = {"n": 2, "g": 2, "c": 3, "o": 5, "s1": 8, "s0": 9, "k1": 3, "k0": 2, "t1": 6, "t0": 8}
    assert rule.sizes == expected


def test_one_group_leaves_plain_axes() -> None:
    rule = fit(parse_template(CONV), [(2, 6, 8), (10, 6, 3)], [(2, 10, 6)], known={"g": 1})
    assert str(rule) == "n c s0, o c k0 -> n o t0"


def test_stars_of_reduced_and_fixed_factors_expand() -> None:
    rule = fit(
        parse_template(CONV), [(2, 6, 8, 9), (10, 6, 3, 2)], [(2, 10, 6, 8)],
        known={"g": 1}, reduced=["c", "*k"], fixed={"*k": "kernel", "*s": "space"},
    )  # fmt: skip
    assert rule.reduced == {"c", "k0", "k1"}
    assert rule.fixed == {"k0": "kernel", "k1": "kernel", "s0": "space", "s1": "space"}
    assert str(rule).endswith("reduce c k0 k1 fixed k0 k1 s0 s1")


def test_a_starred_name_does_not_catch_longer_names() -> None:
    rule = fit(parse_template("*s sum0 -> *s sum0"), [(2, 3)], [(2, 3)], reduced=["*s"])
    assert rule.reduced == {"s0"}


def test_operands_skips_absent_ones() -> None:
    rule = fit(parse_template("n k, m k, m -> n m"), [(4, 3), (5, 3), None], [(4, 5)])
    assert [(side, at) for side, at, _ in rule.operands()] == [("in", 0), ("in", 1), ("out", 0)]


@pytest.mark.parametrize("text", ["n k, m k", "n + k -> n", "n k -> n ?", "(n k -> n"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match="not a rule"):
        parse_template(text)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([(4, 3, 2), (5, 3)], "an operand of rank 3 does not fit 'n k' of its rule"),
        ([(4,), (5, 3)], "an operand of rank 1 does not fit 'n k' of its rule"),
        ([(4, 3), (5, 7)], "an axis has size 3 where 7 was expected ('k' of its rule)"),
    ],
)
def test_shapes_that_contradict_the_rule_are_refused(inputs: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(RuleError) as caught:
        fit(parse_template("n k, m k -> n m"), inputs, [(4, 5)])
    assert str(caught.value) == message


def test_a_group_count_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RuleError, match="an axis has size 10 where 9 was expected"):
        fit(parse_template(CONV), [(2, 6, 8), (10, 2, 3)], [(2, 10, 6)], known={"g": 3})


def test_an_axis_of_size_one_is_a_broadcast_not_a_contradiction() -> None:
    rule = fit(parse_template("n c, c -> n c"), [(4, 3), (1,)], [(4, 3)])
    assert str(rule) == "n c, 1 -> n c"
    assert rule.sizes["c"] == 3


def test_a_scalar_prints_as_empty_parentheses() -> None:
    assert str(Rule(inputs=((),), outputs=((),), sizes={})) == "() -> ()"
