"""fold-norm: weights that others use too, values that others see, and names that stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from fold_norm_harness import Feeds, batch_norm, fold, model, random

NORM = "BatchNormalization (c, gamma, beta, mean, var)"
HEAD = "g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y)"
TWO_HEADS = "g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y, float[n, o, h, v] z)"
X = random(2, 4, 9, 8)
WEIGHTS: Feeds = {"w": random(6, 4, 3, 3), **batch_norm(6)}


def test_a_weight_that_another_convolution_uses_is_copied() -> None:
    folded = fold(model(f"{TWO_HEADS} {{ c = Conv (x, w) y = {NORM} z = Conv (x, w) }}", **WEIGHTS))
    assert sorted(folded.weights()) == ["w", "w_bias", "w_folded"]
    assert np.array_equal(folded.weights()["w"], WEIGHTS["w"])
    assert folded.outcome.statistics["tensors unshared"] == 1
    folded.must_compute_the_same(x=X)


def test_a_weight_that_two_folded_convolutions_share() -> None:
    other = NORM.replace("(c", "(d").replace("mean", "shifted")
    text = f"{TWO_HEADS} {{ c = Conv (x, w) y = {NORM} d = Conv (x, w) z = {other} }}"
    folded = fold(model(text, **WEIGHTS, shifted=random(6, seed=5)))
    assert folded.ops() == ["Conv", "Conv"]
    folded.must_compute_the_same(x=X)


def test_zero_biases_that_all_layers_share_are_copied() -> None:
    text = f"{TWO_HEADS} {{ c = Conv (x, w, zero) y = {NORM} z = Conv (x, v, zero) }}"
    folded = fold(model(text, **WEIGHTS, v=random(6, 4, 1, 1), zero=np.zeros(6, np.float32)))
    assert not folded.weights()["zero"].any()
    folded.must_compute_the_same(x=X)


def test_a_weight_that_a_subgraph_uses_is_copied() -> None:
    text = f"""{TWO_HEADS} {{ c = Conv (x, w) y = {NORM} yes = Cast <to = 9> (one)
        z = If (yes) <then_branch = t () => (float[n, o, h, v] p) {{ p = Conv (x, w) }},
                      else_branch = e () => (float[n, o, h, v] q) {{ q = Relu (x) }}> }}"""
    folded = fold(model(text, **WEIGHTS, one=np.float32(1)))
    assert "w_folded" in folded.weights()
    folded.must_compute_the_same(x=X)


def test_a_weight_that_is_a_graph_output_is_copied() -> None:
    head = HEAD.replace(" y)", " y, float[6, 4, 3, 3] w)")
    text = f"{head} {{ c = Conv (x, w) y = {NORM} }}"
    folded = fold(model(text, **WEIGHTS))
    assert np.array_equal(folded.weights()["w"], WEIGHTS["w"])
    folded.must_compute_the_same(x=X)


def test_an_alias_of_a_weight_is_resolved_and_goes_when_dead() -> None:
    folded = fold(model(f"{HEAD} {{ k = Identity (w) c = Conv (x, k) y = {NORM} }}", **WEIGHTS))
    assert folded.ops() == ["Conv"]
    assert "w" not in folded.weights()
    folded.must_compute_the_same(x=X)


def test_a_constant_node_keeps_its_name() -> None:
    text = f"""g (float[2, 1, 4] x) => (float[n, o, l] y) {{
        w = Constant <value = float[2, 1, 1] {{3.0, 5.0}}> () c = Conv (x, w) y = {NORM} }}"""
    folded = fold(model(text, **batch_norm(2)))
    assert folded.ops() == ["Constant", "Conv"]
    assert folded.after.graph.node[0].output[0] == "w"
    folded.must_compute_the_same(x=random(2, 1, 4))


def test_constant_nodes_of_the_norm_go_and_shared_ones_stay() -> None:
    text = """g (float[2, 1, 4] x) => (float[n, o, l] y, float[n, o, l] z) {
        w = Constant <value = float[2, 1, 1] {3.0, 5.0}> () g = Constant <value_floats = [1.5, 2.5]> ()
        c = Conv (x, w) y = BatchNormalization (c, g, beta, mean, var) z = Conv (x, w) }"""
    folded = fold(model(text, **batch_norm(2)))
    assert folded.ops() == ["Constant", "Conv", "Conv"]
    folded.must_compute_the_same(x=random(2, 1, 4))


@pytest.mark.parametrize("name", ["w", "gamma"])
def test_an_initializer_that_callers_may_override_is_no_constant(name: str) -> None:
    shape = ", ".join(str(size) for size in WEIGHTS[name].shape)
    head = HEAD.replace(" x)", f" x, float[{shape}] {name})")
    text = f"{head} {{ c = Conv (x, w) y = {NORM} }}"
    folded = fold(model(text, **WEIGHTS))
    folded.must_be_unchanged(f"`{name}` is also a graph input, so a caller may override it")
    assert folded.remarks[0].help == "take the initializers out of the graph's inputs"


def test_a_computed_weight_is_no_constant() -> None:
    folded = fold(model(f"{HEAD} {{ k = Relu (w) c = Conv (x, k) y = {NORM} }}", **WEIGHTS))
    folded.must_be_unchanged("`k` is not a constant")


def test_a_dynamic_bias_is_no_constant() -> None:
    text = f"g (float[2, 4, 9, 8] x, float[6] b) => (float[n, o, h, v] y) {{ c = Conv (x, w, b) y = {NORM} }}"
    fold(model(text, **WEIGHTS)).must_be_unchanged("`b` is not a constant")


def test_a_quantized_weight_is_no_constant() -> None:
    text = f"{HEAD} {{ w = DequantizeLinear (q, s) c = Conv (x, w) y = {NORM} }}"
    weights: Feeds = {"q": random(6, 4, 3, 3).astype(np.int8), "s": np.float32(0.1), **batch_norm(6)}  # type: ignore[dict-item]
    fold(model(text, **weights)).must_be_unchanged("`w` is not a constant")


def test_a_layer_whose_output_is_a_graph_output_stays() -> None:
    text = f"{TWO_HEADS.replace(' z)', ' c)')} {{ c = Conv (x, w) y = {NORM} }}"
    fold(model(text, **WEIGHTS)).must_be_unchanged("`c` is a graph output")


def test_a_layer_that_another_node_reads_stays() -> None:
    text = f"{TWO_HEADS} {{ c = Conv (x, w) y = {NORM} [act] z = Relu (c) }}"
    fold(model(text, **WEIGHTS)).must_be_unchanged("`c` is also used by `act`")


def test_a_layer_that_a_subgraph_captures_stays() -> None:
    text = f"""{TWO_HEADS} {{ c = Conv (x, w) y = {NORM} yes = Cast <to = 9> (one)
        z = If (yes) <then_branch = t () => (float[n, o, h, v] p) {{ [deep] p = Relu (c) }},
                      else_branch = e () => (float[n, o, h, v] q) {{ q = Relu (x) }}> }}"""
    folded = fold(model(text, **WEIGHTS, one=np.float32(1)))
    folded.must_be_unchanged("`c` is captured by a subgraph, at `deep`")


def test_a_norm_in_a_subgraph_folds_into_the_layer_beside_it() -> None:
    text = f"""{HEAD} {{ yes = Cast <to = 9> (one)
        y = If (yes) <then_branch = t () => (float[n, o, h, v] p) {{ c = Conv (x, w) p = {NORM} }},
                      else_branch = e () => (float[n, o, h, v] q) {{ q = Conv (x, w) }}> }}"""
    folded = fold(model(text, **WEIGHTS, one=np.float32(1)))
    assert [node.op_type for node in folded.after.graph.node[1].attribute[0].g.node] == ["Conv"]
    folded.must_compute_the_same(x=X)


def test_a_norm_in_a_subgraph_does_not_reach_a_layer_outside() -> None:
    text = f"""{HEAD} {{ yes = Cast <to = 9> (one) [out] c = Conv (x, w)
        y = If (yes) <then_branch = t () => (float[n, o, h, v] p) {{ p = {NORM} }},
                      else_branch = e () => (float[n, o, h, v] q) {{ q = Relu (x) }}> }}"""
    fold(model(text, **WEIGHTS, one=np.float32(1))).must_be_unchanged(
        "`out` before it lies in an outer graph"
    )


def test_a_norm_in_a_function_is_left_alone() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[2, 6, 9, 8] x, float[6] s) => (float[n, o, h, v] y) {{ y = mine.Block (x, s) }}
        <domain: "mine", opset_import: ["" : 17]>
        Block (c, gamma) => (y) {{ [bn] y = {NORM.replace("beta, mean, var", "gamma, gamma, gamma")} }}"""
    fold(onnx.parser.parse_model(text)).must_be_unchanged("it lies in function `Block`")


def test_every_remaining_name_means_what_it_meant() -> None:
    text = f"{TWO_HEADS} {{ c = Conv (x, w) d = {NORM} y = Relu (d) z = Sigmoid (d) }}"
    folded = fold(model(text, **WEIGHTS))
    assert [node.output[0] for node in folded.after.graph.node] == ["d", "y", "z"]
    folded.must_compute_the_same(x=X)


def test_new_names_avoid_those_of_the_model() -> None:
    text = f"""{TWO_HEADS} {{ c = Conv (x, w) y = {NORM}
        w_bias = Relu (x) w_folded = Relu (w_bias) z = Conv (w_folded, w) }}"""
    folded = fold(model(text, **WEIGHTS))
    assert {"w", "w_bias_1", "w_folded_1"} == set(folded.weights())
    folded.must_compute_the_same(x=X)


def test_an_old_opset_is_left_alone() -> None:
    norm = NORM.replace("BatchNormalization", "BatchNormalization <is_test = 1>")
    folded = fold(model(f"{HEAD} {{ c = Conv (x, w) y = {norm} }}", opset=6, **WEIGHTS))
    folded.must_be_unchanged("the model's opset is older than 7")
