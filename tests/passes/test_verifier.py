"""The verifier refuses planted miscompiles: broken passes, and correct passes over ops whose rule is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, node_of, prune, weights
from coupling_graphs import GRAPHS, coupled
from sabotage import Fault, attribute, bypass, change, mutant, put, restore, rewriter, saboteur

import prunec
from prunec.ir.diagnostics import PassFailure, UserError, VerificationError
from prunec.ir.equality import TOLERANCE, coarsest_type, relative_error
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.ir.onnx_dialect import strict_inference_error
from prunec.ir.registry import OPS, find_op
from prunec.ir.rule import Rule
from prunec.passes.verifier.broadcast import broadcast_axes
from prunec.passes.verifier.compare import Comparison, _Pair, check_values, compare_outputs


def refusal(
    name: str | Module, fault: Fault, *, blind: bool = False, ratio: float = 0.5
) -> VerificationError:
    """The error that a prune with this fault ends in."""
    module = coupled(name) if isinstance(name, str) else name
    with pytest.raises(VerificationError) as caught:
        prunec.run(module, saboteur(fault, blind=blind, ratio=ratio))
    assert "sabotage" in caught.value.message
    return caught.value


# -- broken weights ------------------------------------------------------------

WRONG_VALUES: dict[str, tuple[str, Fault]] = {
    "the wrong rows": ("plain", lambda before, after: put(after, "w1", weights(before)["w1"][:2])),
    "two rows swapped": ("plain", change("w1", lambda w: w[::-1])),
    "two columns of the consumer swapped": ("plain", change("w2", lambda w: w[:, ::-1])),
    "a bias forgotten": ("plain", change("b1", np.zeros_like)),
    "two biases swapped": ("plain", change("b1", lambda b: b[::-1])),
    "not a number": ("plain", change("w1", lambda w: np.full_like(w, np.nan))),
    "infinity": ("plain", change("w2", lambda w: np.full_like(w, np.inf))),
    "a thousandth too much": ("plain", change("w1", lambda w: w * np.float32(1.001))),
    "half of a shared concat": ("concat", change("g", lambda g: np.roll(g, 1))),
    "running mean of other channels": ("concat", change("m", lambda m: m[::-1])),
    "scale of a norm": ("normalised", change("s", lambda s: np.roll(s, 1))),
    "positions of a head mixed": ("heads", change("wv", lambda w: w[:, ::-1])),
    "a dropped activation": ("plain", bypass("r")),
    "a dropped softmax": ("heads", bypass("p")),
}


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("what", WRONG_VALUES)
def test_wrong_values_are_refused(what: str, blind: bool) -> None:
    name, fault = WRONG_VALUES[what]
    assert refusal(name, fault, blind=blind).code == "V013"


def test_an_index_off_by_one_in_a_gather_is_refused() -> None:
    def fault(before: Module, after: Module) -> None:
        name = node_of(after, "d").inputs[1].name or ""  # type: ignore[union-attr]
        put(after, name, np.roll(weights(after)[name], 1))

    assert refusal("channel shuffle", fault).code == "V013"


@pytest.mark.parametrize("name", ["w1", "b1", "w2"])
def test_a_tensor_that_was_not_cut_is_refused(name: str) -> None:
    error = refusal("plain", restore(name))
    assert error.code == "V011"
    assert f"`{name}` of shape" in error.message
    assert refusal("plain", restore(name), blind=True).code == "V015"


# -- broken structure ------------------------------------------------------------


def test_a_wrong_group_count_is_refused() -> None:
    assert refusal("depthwise", attribute("b", "group", 1)).code == "V015"
    assert refusal("grouped convolution", attribute("b", "group", 1), ratio=0.67).code == "V015"


def stale(before: Module, after: Module) -> None:
    for name, array in weights(after).items():
        if array.tolist() == [2, 7, 1, 2]:
            put(after, name, np.array([2, 7, 3, 2]))


def test_a_stale_shape_literal_is_refused() -> None:
    error = refusal("heads", stale, ratio=0.67)
    assert error.render() == (
        "error[V011]: `Reshape` makes `q2` of shape [2, 7, 3, 2] after `sabotage`, expected is [2, 7, 1, 2]"
    )
    assert refusal("heads", stale, blind=True, ratio=0.67).code == "V015"


def test_a_node_that_no_shape_fits_is_refused() -> None:
    error = refusal("flatten with space", bypass("b"))
    assert error.code == "V010"
    assert error.message.startswith("after `sabotage` ONNX's shape inference rejects the graph: ")


def shrink_skip(before: Module, after: Module) -> None:
    """The branch of a residual sum keeps one channel, which every runtime broadcasts without a word."""
    put(after, "w1", weights(after)["w1"][:1])
    put(after, "b1", weights(after)["b1"][:1])


def test_a_skip_path_of_one_channel_that_broadcasts_is_refused() -> None:
    module = graph(
        GRAPHS["residual"].replace("a = Conv", "[stem] a = Conv").replace("c = Add", "[sum] c = Add")
    )
    assert refusal(module, shrink_skip, blind=True).render() == (
        "error[V012]: <memory>: node `sum`: `Add` broadcasts 1 channel to 2 after `sabotage`, unlike before\n"
        "  = note: input 1 shrank to 1 on axis 1; its inputs are %a [1, 2, 8, 8] from `stem`; "
        "%b [1, 1, 8, 8] from `Conv`\n"
        "  = help: keep more channels with `min-channels`, and report this: the coupling of this op is wrong"
    )
    assert refusal(module, shrink_skip).code == "V011"


def test_the_rendered_message_says_the_numbers() -> None:
    error = refusal("plain", change("w1", lambda w: w * 0))
    lines = error.render().splitlines()
    assert lines[0].startswith("error[V013]: output `y` is off by ")
    assert lines[0].endswith(" (relative) after `sabotage`, allowed is 1e-04")
    assert lines[1].startswith("  = note: shape [2, 5], expected [2, 5], largest magnitude ")
    assert lines[2] == "  = help: most likely the mistake is in the pass itself, which comes from `abc`"
    assert len(lines) == 3
    assert error.exit_code == 1


def test_the_error_of_a_model_that_does_not_run_says_what_the_runtime_says() -> None:
    error = refusal("depthwise", attribute("b", "group", 1))
    assert error.message == "the model does not run after `sabotage`"
    assert "kernel channels" in error.notes[0]
    assert isinstance(error.__cause__, PassFailure)


def test_without_verification_the_wrong_model_comes_out() -> None:
    fault = change("w1", lambda w: w * 2)
    result = prunec.run(coupled("plain"), saboteur(fault), verify=False)
    assert result.verdicts == ()


def test_without_a_fault_nothing_is_refused() -> None:
    (verdict,) = prunec.run(coupled("plain"), saboteur(lambda before, after: None)).verdicts
    assert verdict.equivalence == "masked"


# -- a step that is not what was done ------------------------------------------------------------


def test_a_step_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunec.passes.plan import steps

    honest = steps.make_step

    def liar(name: str, groups: object, chosen: object) -> object:
        step = honest(name, groups, chosen)  # type: ignore[arg-type]
        (cut,) = step.groups
        moved = tuple(
            replace(t, removed=tuple(i for i in range(4) if i not in t.removed)) for t in cut.tensors
        )
        return replace(step, groups=(replace(cut, tensors=moved),))

    monkeypatch.setattr(steps, "make_step", liar)
    with pytest.raises(VerificationError, match=r"off by"):
        prune(coupled("plain"))


# -- passes that must not change anything ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (change("w1", lambda w: w * np.float32(1.001)), "V013"),
        (bypass("r"), "V013"),
        (change("b1", lambda b: b[:3]), "V015"),
    ],
)
def test_a_rewrite_that_changes_what_is_computed_is_refused(fault: Fault, code: str) -> None:
    with pytest.raises(VerificationError) as caught:
        prunec.run(coupled("plain"), rewriter(fault))
    assert caught.value.code == code


def test_a_rewrite_that_computes_the_same_passes() -> None:
    def double_and_halve(before: Module, after: Module) -> None:
        put(after, "w1", weights(after)["w1"] * 2)
        put(after, "b1", weights(after)["b1"] * 2)
        put(after, "w2", weights(after)["w2"] / 2)

    (verdict,) = prunec.run(coupled("plain"), rewriter(double_and_halve)).verdicts
    assert str(verdict).startswith("rewrite: ")
    assert "equal the model before it (relative error" in str(verdict)


# -- rules of ops that are slightly wrong ------------------------------------------------------------


def without(position: int) -> Callable[[Rule], Rule]:
    return lambda rule: replace(
        rule, inputs=tuple(None if i == position else o for i, o in enumerate(rule.inputs))
    )


def rolled(rule: Rule) -> Rule:
    return replace(rule, maps=tuple(replace(m, index=np.roll(m.index, 1)) for m in rule.maps))


def unreduced(rule: Rule) -> Rule:
    return replace(rule, reduced=frozenset())


def factors_swapped(rule: Rule) -> Rule:
    """``(a b)`` read as ``(b a)`` on the way out."""
    return replace(rule, outputs=tuple(tuple(term[::-1] for term in o or ()) for o in rule.outputs))


def weight_factors_swapped(rule: Rule) -> Rule:
    data, weight, *rest = rule.inputs
    return replace(rule, inputs=(data, tuple(term[::-1] for term in weight or ()), *rest))


@pytest.mark.parametrize(
    ("op", "name", "wrong"),
    [
        ("Conv", "plain", without(2)),
        ("Conv", "depthwise", without(2)),
        ("Conv", "grouped convolution", weight_factors_swapped),
        ("ConvTranspose", "transposed convolution", without(2)),
        ("BatchNormalization", "concat", without(1)),
        ("BatchNormalization", "concat", without(3)),
        ("Gemm", "flatten with space", without(1)),
        ("Concat", "concat", rolled),
        ("Split", "split", rolled),
        ("Slice", "slice with steps", rolled),
        ("Gather", "gather", rolled),
        ("Tile", "tile", rolled),
        ("Flatten", "flatten with space", factors_swapped),
        ("Reshape", "heads", factors_swapped),
        ("DepthToSpace", "pixel shuffle", lambda r: replace(r, inputs=tuple(tuple(t[::-1] for t in o or ()) for o in r.inputs))),
        ("Add", "residual", without(0)),
        ("Add", "residual", without(1)),
        ("Mul", "gated", without(1)),
        ("LayerNormalization", "normalised", unreduced),
    ],
)  # fmt: skip
def test_an_op_whose_rule_is_wrong_is_refused(
    monkeypatch: pytest.MonkeyPatch, op: str, name: str, wrong: Callable[[Rule], Rule]
) -> None:
    find_op(onnx_ir.node("Relu", []))  # the registry is filled at its first use
    prune(coupled(name), 0.7)
    monkeypatch.setitem(OPS, ("", op), mutant(OPS["", op], wrong))
    with pytest.raises(VerificationError) as caught:
        prune(coupled(name), 0.7)
    assert caught.value.code in ("V010", "V011", "V012", "V013", "V015")


def test_a_mean_over_channels_needs_its_statistic(monkeypatch: pytest.MonkeyPatch) -> None:
    text = GRAPHS["plain"].replace(
        "c = Conv(r, w2)", "t = ReduceMean<axes=[1]>(r) u = Add(r, t) c = Conv(u, w2)"
    )
    module = graph(text)
    (verdict,) = prune(module).verdicts
    assert verdict.equivalence == "masked-kept-statistics"
    monkeypatch.setitem(OPS, ("", "ReduceMean"), mutant(OPS["", "ReduceMean"], unreduced))
    with pytest.raises(VerificationError) as caught:
        prune(module)
    assert caught.value.code == "V013"


# -- when outputs say too little ------------------------------------------------------------

DEAD = """net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[5,4,1] w2, float[5] b2>
{ a = Conv(x, w1) r = Relu(a) c = Conv(r, w2, b2) s = Mul(c, tiny) y = Sigmoid(s) }"""


def test_a_constant_output_is_no_proof_so_values_inside_are_compared() -> None:
    module = graph(DEAD, tiny=np.array(1e-7, np.float32))
    (verdict,) = prune(module).verdicts
    assert verdict.witnesses >= 2
    assert " and " in str(verdict)
    error = refusal(module, change("w1", lambda w: w[::-1]))
    assert error.code == "V013"
    assert error.message.startswith("intermediate value `")


def test_a_model_that_never_ran_is_the_users() -> None:
    text = "net (float[N,3] x) => (float[N,2] y) <float[3,4] w, float[4,2] u> "
    text += "{ a = MatMul(x, w) b = com.acme.Odd(a) c = Add(a, a) y = MatMul(c, u) }"
    with pytest.raises(UserError, match="ONNX Runtime refuses the model"):
        prunec.run(graph(text), rewriter(lambda before, after: None))


# -- small functions ------------------------------------------------------------


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([1e-6], [0.0], 1e-3),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [1.0, 1.0], np.inf),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([1.0, 1.0], [np.inf, 1.0], np.inf),
        ([np.nan], [np.nan], 0.0),
        ([1.0], [1.0, 1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_error(actual: list[float], expected: list[float], error: float) -> None:
    assert relative_error(np.array(actual), np.array(expected)) == pytest.approx(error)


def test_integers_are_equal_or_not() -> None:
    assert relative_error(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.25
    assert relative_error(np.zeros(0, int), np.zeros(0, int)) == 0.0
    assert relative_error(np.array([True]), np.array([False])) == 1.0


@pytest.mark.parametrize(
    ("kind", "coarsest"), [("float", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")]
)
def test_the_coarsest_type_bounds_the_comparison(kind: str, coarsest: str) -> None:
    module = graph(f"net ({kind}[2,3] x, float[2,3] z) => ({kind}[2,3] y) {{ y = Relu(x) }}")
    assert coarsest_type(module) == coarsest


def test_broadcast_axes() -> None:
    module = graph("net (float[2,3,8] x) => (float[2,3,8] y) <float[1,8] w> { y = Add(x, w) }")
    node = node_of(module, "y")
    assert broadcast_axes(node, infer_facts(module.model)) == {(1, 2)}


def test_strict_inference_does_not_trust_declared_shapes() -> None:
    module = coupled("flatten with space")
    assert strict_inference_error(module) is None
    put(module, "w2", np.zeros((5, 12), np.float32))
    assert "Gemm" in (strict_inference_error(module) or "")


QUANTISED = """net (float[2,3] x) => (float[2,5] y) <float[3,8] w, int8[8,5] k, float s = {0.01}>
    { h = MatMul(x, w) q, t, z = DynamicQuantizeLinear(h) i = MatMulInteger(q, k, z) f = Cast<to=1>(i) u = Mul(f, t)
      y = Mul(u, s) }"""


@pytest.mark.parametrize(("text", "differing", "passes"), [
    (QUANTISED, {0}, True), (QUANTISED, {0, 2}, False), (GRAPHS["residual"], {0}, False),
])  # fmt: skip
def test_a_value_between_two_integers_is_looked_at_again(
    text: str, differing: set[int], passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difference on one input counts as rounding, if the model rounds and agrees on two others."""
    module = graph(text)
    reference = module.clone()

    def compare(pair: _Pair, seed: int) -> Comparison:
        if seed in differing:
            raise VerificationError(f"off after {pair.pass_name}", code="V013")
        return Comparison(error=1e-7, batch=2, witnesses=0)

    monkeypatch.setattr("prunec.passes.verifier.compare._Pair.compare", compare)
    if passes:
        assert compare_outputs("p", reference, module).borderline
    else:
        with pytest.raises(VerificationError, match="off after p"):
            compare_outputs("p", reference, module)


# -- the pass ------------------------------------------------------------


def test_the_verify_pass_accepts_a_good_model() -> None:
    result = prunec.run(coupled("residual"), "verify, prune-channels{round-to=1}, verify", verify=False)
    said = [str(r) for r in result.remarks if r.origin == "verify"]
    assert said == ["remark[passed]: verify: shapes are consistent and 1 outputs are finite"] * 2


def test_the_verify_pass_refuses_what_is_not_finite() -> None:
    module = coupled("residual")
    put(module, "w4", np.full((5, 4, 1, 1), np.nan, np.float32))
    with pytest.raises(VerificationError, match="output `y` is not finite on probe inputs") as caught:
        prunec.run(module, "verify")
    assert caught.value.code == "V014"


def test_the_verify_pass_finds_a_batch_that_the_model_runs_at() -> None:
    """The second sample is read by its number, so that there have to be two."""
    module = graph(
        "net (float[N,3] x) => (float[M,3] y) <int64[1] i = {1}> { g = Gather(x, i) y = Add(x, g) }"
    )
    assert not prunec.run(module, "verify").changed


def test_the_verify_pass_refuses_inconsistent_shapes() -> None:
    module = coupled("flatten with space")
    module.graph.outputs[0].shape = onnx_ir.Shape(["N", 6])
    with pytest.raises(VerificationError, match="shape inference rejects the graph") as caught:
        prunec.run(module, "verify")
    assert caught.value.code == "V010"
    put(module, "w2", np.zeros((5, 12), np.float32))
    with pytest.raises(UserError, match="cannot take operands of shapes"):
        prunec.run(module, "verify")


def test_a_weight_that_a_constant_node_holds_is_no_result() -> None:
    """Where a dead ReLU ends the graph, intermediate values are compared; a folded weight is none of them."""
    text = """net (float[2,1,4,4] x) => (float[2,2,4,4] y)
        <float[2] g, float[2] b, float[2] m, float[2] var, float big = {1000.0}> {
        w = Constant <value = float[2,1,1,1] {3.0, 5.0}> () s = Neg (x) c = Conv (s, w)
        n = BatchNormalization (c, g, b, m, var) d = Sub (n, big) y = Relu (d) }"""
    result = prunec.run(graph(text), "fold-norm")
    assert result.changed and "1 intermediate value equal" in str(result.verdicts[0])


@pytest.mark.parametrize(("error", "help"), [(1.2e-4, "can be rounding"), (1e-3, "this is a bug in prunec")])
def test_an_error_just_above_the_tolerance_may_be_rounding(error: float, help: str) -> None:
    values = {"y": np.float32([1, 0.5])}
    with pytest.raises(VerificationError) as caught:
        check_values("p", values, {"y": values["y"] * np.float32(1 + error)}, "output", TOLERANCE["float32"])
    assert help in caught.value.render()


def test_shape_inference_that_ends_the_process_is_not_asked() -> None:
    """ONNX looks at the shape of what EyeLike reads, which is unknown behind an op of another domain."""
    module = graph(
        """net (float[4,3] x) => (float[4,4] y) <float[3,8] w, float[8,4] f>
        { h = MatMul(x, w) p = com.microsoft.FusedMatMul(h, f) e = EyeLike<dtype=1>(p) y = Add(p, e) }"""
    )
    assert strict_inference_error(module) is None
    assert prune(module, 0.5).plan.steps
