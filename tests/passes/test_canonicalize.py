"""Each rewrite of canonicalize, by hand; the manager compares the outputs of every case before and after."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from canonical import Canonical, model, weights

import prunec
from prunec.ir.load import load

# -- shape arithmetic ----------------------------------------------------------------------------------------


def test_a_computed_shape_becomes_a_literal() -> None:
    after = Canonical(
        model("""net (float[2, 6, 4] x) => (float[2, 24] y) <int64[1] end = {-1}> {
            s = Shape <end = 1> (x)
            to = Concat <axis = 0> (s, end)
            y = Reshape (x, to)
        }""")
    )
    assert after.ops == {"Reshape": 1}
    assert [array.tolist() for array in after.constants.values()] == [[2, -1]]
    assert after.messages() == ["1 computed shapes frozen", "2 dead nodes removed", "3 dead values removed"]


def test_a_shape_that_follows_the_batch_stays_computed() -> None:
    after = Canonical(
        model("""net (float[N, 6, 4] x) => (float[N, M] y) <int64[1] end = {-1}> {
            s = Shape <end = 1> (x)
            to = Concat <axis = 0> (s, end)
            y = Reshape (x, to)
        }""")
    )
    assert after.ops == {"Shape": 1, "Concat": 1, "Reshape": 1}
    assert not after.result.changed


def test_a_shape_that_is_an_output_stays_computed() -> None:
    after = Canonical(model("net (float[2, 6] x) => (int64[2] y) { y = Shape (x) }"))
    assert after.ops == {"Shape": 1}


def test_names_of_literals_do_not_depend_on_the_run() -> None:
    text = """net (float[2, 6, 4] x) => (float[24, 2] y, float[4, 12] z) <int64 two = {2}> {
        n = Size (x)
        m = Div (n, two)
        a = Shape <end = 1> (x)
        b = Shape <start = 2> (x)
        r = Shape <start = 1> (x)
        p = ReduceProd (r)
        q = Concat <axis = 0> (p, a)
        y = Reshape (x, q)
        m1 = Div (p, two)
        t = Concat <axis = 0> (b, m1)
        z = Reshape (x, t)
    }"""
    runs = [list(Canonical(model(text)).constants) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == 2


# -- constants -----------------------------------------------------------------------------------------------


def test_a_weight_goes_through_casts_transposes_and_scales() -> None:
    half = weights(w=(4, 3))["w"].astype(np.float16)
    after = Canonical(
        model(
            """net (float[N, 3] x) => (float[N, 4] y) <float two = {2.0}> {
                a = Cast <to = 1> (w)
                b = Transpose (a)
                c = Mul (b, two)
                y = MatMul (x, c)
            }""",
            w=half,
        )
    )
    assert after.ops == {"MatMul": 1}
    assert list(after.constants) == ["c"]
    assert np.array_equal(after.constants["c"], half.T.astype(np.float32) * 2)
    assert "3 nodes folded" in after.messages()


def test_constant_nodes_become_initializers_of_the_same_name() -> None:
    after = Canonical(
        model("""net (float[N, 3] x) => (float[N, 3] y, float[2] z) {
            c = Constant <value = float[3] {1.0, 2.0, 3.0}> ()
            y = Add (x, c)
            z = Constant <value = float[2] {4.0, 5.0}> ()
        }""")
    )
    assert after.ops == {"Add": 1, "Constant": 1}  # an output is no initializer
    assert after.constants["c"].tolist() == [1, 2, 3]


def test_nothing_is_folded_where_that_is_switched_off() -> None:
    text = "net (float[N, 3] x) => (float[N, 4] y) { t = Transpose (w)  y = MatMul (x, t) }"
    after = Canonical(model(text, **weights(w=(4, 3))), "{fold-constants=false}")
    assert after.ops == {"Transpose": 1, "MatMul": 1}


ROW = np.ones((1, 32), np.float32)
"""One value only, and so no weight."""


def test_a_constant_above_the_limit_stays_computed() -> None:
    text = """net (float[32, 32] x) => (float[32, 32] y) <int64[2] to = {32, 32}> {
        e = Expand (w, to)
        y = Add (x, e)
    }"""
    grown = 32 * 32 * 4 - 32 * 4 - 2 * 8
    after = Canonical(model(text, w=ROW), f"{{limit={grown - 1}}}")
    assert after.ops == {"Expand": 1, "Add": 1}
    (missed,) = [r for r in after.result.remarks if r.kind == "missed"]
    assert missed.message == "1 nodes that read only constants stay"
    assert missed.reason == "the smallest adds 3,952 bytes, and `limit` is 3,951 in all"
    assert Canonical(model(text, w=ROW), f"{{limit={grown}}}").ops == {"Add": 1}


def test_the_limit_is_for_all_constants_together() -> None:
    text = """net (float[32, 32] x) => (float[32, 32] y) <int64[2] to = {32, 32}> {
        e = Expand (v, to)
        f = Expand (w, to)
        g = Add (x, e)
        y = Add (g, f)
    }"""
    after = Canonical(model(text, v=ROW, w=ROW), "{limit=6000}")
    assert after.ops == {"Expand": 1, "Add": 2}


def test_an_enormous_constant_is_never_made() -> None:
    """The size is known before anything is computed: this one would not fit into any memory."""
    after = Canonical(
        model("""net (float[2] x) => (float[2] y) <int64[3] to = {1000000, 1000000, 1000}> {
            z = ConstantOfShape (to)
            s = Shape <start = 2> (z)
            f = Cast <to = 1> (s)
            y = Add (x, f)
        }"""),
        verify=False,  # ONNX Runtime would make it
    )
    assert after.ops == {"Add": 1}


def test_quantised_weights_stay_quantised() -> None:
    text = """net (float[N, 3] x) => (float[N, 4] y) <float scale = {0.5}, int8 zero = {0}> {
        d = DequantizeLinear (w, scale, zero)
        y = MatMul (x, d)
    }"""
    after = Canonical(model(text, w=np.arange(12, dtype=np.int8).reshape(3, 4)))
    assert after.ops == {"DequantizeLinear": 1, "MatMul": 1}
    assert after.constants["w"].dtype == np.int8


def test_fake_quantisation_of_a_trained_weight_stays() -> None:
    text = """net (float[N, 3] x) => (float[N, 4] y) <float scale = {0.5}, int8 zero = {0}> {
        q = QuantizeLinear (w, scale, zero)
        d = DequantizeLinear (q, scale, zero)
        y = MatMul (x, d)
    }"""
    after = Canonical(model(text, **weights(w=(3, 4))))
    assert after.ops == {"QuantizeLinear": 1, "DequantizeLinear": 1, "MatMul": 1}


def test_tied_weights_stay_tied() -> None:
    text = """net (int64[N] i) => (float[N, 7] y) {
        e = Gather (table, i)
        t = Transpose (table)
        y = MatMul (e, t)
    }"""
    after = Canonical(model(text, **weights(table=(7, 3))))
    assert after.ops == {"Gather": 1, "Transpose": 1, "MatMul": 1}
    assert list(after.constants) == ["table"]


def test_a_weight_is_not_repeated() -> None:
    text = """net (float[8, 1, 4] x) => (float[8, 2, 4] y) <int64[3] to = {8, 1, 4}> {
        e = Expand (token, to)
        y = Concat <axis = 1> (e, x)
    }"""
    after = Canonical(model(text, **weights(token=(1, 1, 4))))
    assert after.ops == {"Expand": 1, "Concat": 1}
    assert after.constants["token"].size == 4


def test_random_numbers_stay_random() -> None:
    text = """net (float[2] x) => (float[2] y) <float[2] like = {1.0, 2.0}> {
        r = RandomUniformLike <seed = 1.0> (like)
        z = Sub (r, r)
        y = Add (x, z)
    }"""
    assert Canonical(model(text)).ops["RandomUniformLike"] == 1


def test_a_softmax_keeps_its_old_meaning() -> None:
    """Before opset 13 it normalised all axes from the second on, which ONNX's kernel does not know."""
    text = "net (float[2, 3, 4] x) => (float[2, 3, 4] y) { s = Softmax (w)  y = Add (x, s) }"
    assert Canonical(model(text, opset=12, **weights(w=(2, 3, 4)))).ops["Softmax"] == 1
    assert "Softmax" not in Canonical(model(text, opset=13, **weights(w=(2, 3, 4)))).ops


def test_a_computed_mask_is_no_parameter() -> None:
    text = """net (float[4, 4] x) => (float[4, 4] y) <int64[2] square = {4, 4}, float low = {-100.0}> {
        ones = ConstantOfShape <value = float[1] {1.0}> (square)
        upper = Trilu <upper = 1> (ones)
        mask = Mul (upper, low)
        z = Add (x, mask)
        y = MatMul (z, w)
    }"""
    after = Canonical(model(text, **weights(w=(4, 4))))
    assert after.ops == {"Add": 1, "MatMul": 1}
    assert after.constants["mask"].shape == (4, 4)
    assert after.result.cost_before.parameters == after.result.cost_after.parameters == 16
    again = prunec.run(load(after.proto), "canonicalize")  # the mark is in the file
    assert again.cost_before.parameters == 16


def test_a_constant_that_a_branch_reads_is_the_same_there() -> None:
    text = """net (float[2] x, bool c) => (float[2] y) <float[2] a = {1.0, 2.0}, float[2] b = {3.0, 4.0}> {
        s = Add (a, b)
        i = Identity (x)
        y = If (c) <
            then_branch = yes () => (float[2] p) { p = Add (i, s) },
            else_branch = no () => (float[2] q) { q = Sub (i, s) }
        >
    }"""
    after = Canonical(model(text))
    assert after.ops == {"If": 1}
    assert after.constants["s"].tolist() == [4, 6]


# -- nodes that do nothing -----------------------------------------------------------------------------------


def test_no_ops_go_and_outputs_keep_their_names() -> None:
    after = Canonical(
        model("""net (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) <int64[2] same = {0, 4}> {
            a = Identity (x)
            b = Relu (a)
            c = Reshape (b, same)
            y = Identity (c)
            d = Dropout (c)
            e = Cast <to = 1> (d)
            f = Neg (e)
            z = Transpose <perm = [0, 1]> (f)
        }""")
    )
    assert after.ops == {"Relu": 1, "Neg": 1}
    assert "6 no-ops removed" in after.messages()
    assert [node.output[0] for node in after.proto.graph.node] == ["y", "z"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("net (float[2] x) => (float[2] y) { y = Identity (x) }", 1),  # an input cannot take another name
        ("net (float[2] x) => (float[2] y) <float[2] c = {1.0, 2.0}> { y = Identity (c) }", 1),
        (
            "net (float[2] x) => (float[2] a, float[2] b) { a = Relu (x)  b = Identity (a) }",
            1,
        ),  # both are outputs
        (
            "net (float[2] x) => (float[2] a, float[2] b) { r = Relu (x) a = Identity (r) b = Identity (r) }",
            1,
        ),
    ],
)
def test_an_identity_that_gives_an_output_its_name_stays(text: str, left: int) -> None:
    assert Canonical(model(text)).ops["Identity"] == left


def test_a_dropout_whose_mask_is_read_stays() -> None:
    text = """net (float[2] x) => (float[2] y, bool[2] m) { d, m = Dropout (x)  y = Relu (d) }"""
    assert Canonical(model(text)).ops["Dropout"] == 1


def test_transposes_in_a_row_become_one_or_none() -> None:
    text = """net (float[2, 3, 4] x) => (float[4, 3, 2] y, float[2, 3, 4] z) {
        a = Transpose <perm = [1, 2, 0]> (x)
        b = Transpose <perm = [1, 0, 2]> (a)
        y = Relu (b)
        c = Transpose <perm = [0, 2, 1]> (x)
        r = Neg (c)
        d = Transpose <perm = [0, 2, 1]> (c)
        z = Add (d, d)
        unused = Neg (r)
    }"""
    after = Canonical(model(text))
    assert after.ops == {"Transpose": 1, "Relu": 1, "Add": 1}
    (transpose,) = [node for node in after.proto.graph.node if node.op_type == "Transpose"]
    assert list(transpose.attribute[0].ints) == [2, 1, 0]


def test_a_transpose_that_others_read_too_is_not_merged() -> None:
    text = """net (float[2, 3, 4] x) => (float[4, 3, 2] y, float[3, 4, 2] z) {
        a = Transpose <perm = [1, 2, 0]> (x)
        b = Transpose <perm = [1, 0, 2]> (a)
        y = Relu (b)
        z = Relu (a)
    }"""
    assert Canonical(model(text)).ops["Transpose"] == 2


# -- what stands around the ops ------------------------------------------------------------------------------


def test_dead_code_goes_and_inputs_stay() -> None:
    after = Canonical(
        model(
            """net (float[2] x, float[2] spare) => (float[2] y) {
                y = Relu (x)
                a = Neg (spare)
                b = com.microsoft.FastGelu (a)
            }""",
            imports=', "com.acme" : 1, "com.microsoft" : 1',
            **weights(unused=(3,)),
        )
    )
    assert after.ops == {"Relu": 1}
    assert not after.constants
    assert [v.name for v in after.proto.graph.input] == ["x", "spare"]
    assert [entry.domain for entry in after.proto.opset_import] == [""]
    assert "2 unused imports removed" in after.messages()


def test_an_import_that_only_a_branch_uses_stays() -> None:
    text = """net (float[1, 4] x, bool c) => (float[1, 4] y) {
        y = If (c) <
            then_branch = yes () => (float[1, 4] p) { p = com.microsoft.FastGelu (x) },
            else_branch = no () => (float[1, 4] q) { q = Relu (x) }
        >
    }"""
    after = Canonical(model(text, imports=', "com.microsoft" : 1'))
    assert {entry.domain for entry in after.proto.opset_import} == {"", "com.microsoft"}


@pytest.mark.parametrize("ir_version", [3, 9])
def test_initializers_are_no_inputs(ir_version: int) -> None:
    proto = model("net (float[2] x, float[2] c) => (float[2] y) { y = Add (x, c) }", **weights(c=(2,)))
    proto.ir_version = ir_version
    after = Canonical(proto)
    assert [v.name for v in after.proto.graph.input] == ["x"]
    assert after.messages() == [
        "1 initializers are no graph inputs any more, so that no caller can override them"
    ]


FUNCTION = """
<ir_version: 9, opset_import: ["" : 18, "local" : 1]>
net (float[N, 4] x) => (float[N, 4] y) {
    a = local.twice <alpha = 2.0> (x)
    y = local.twice <alpha = 3.0> (a)
}
<domain: "local", opset_import: ["" : OPSET]>
twice <alpha> (v) => (w) {
    c = Constant <value_float: float = @alpha> ()
    d = Mul (v, c)
    w = Add (d, v)
}
"""


def test_local_functions_are_inlined() -> None:
    after = Canonical(onnx.parser.parse_model(FUNCTION.replace("OPSET", "18")))
    assert after.ops == {"Mul": 2, "Add": 2}
    assert not after.proto.functions
    assert [entry.domain for entry in after.proto.opset_import] == [""]
    assert {float(c) for c in after.constants.values()} == {2.0, 3.0}


def test_functions_stay_where_that_is_asked_for() -> None:
    after = Canonical(onnx.parser.parse_model(FUNCTION.replace("OPSET", "18")), "{inline=false}")
    assert after.ops == {"twice": 2}
    assert {entry.domain for entry in after.proto.opset_import} == {"", "local"}


def test_a_function_of_another_opset_stays_with_a_remark() -> None:
    after = Canonical(onnx.parser.parse_model(FUNCTION.replace("OPSET", "17")))
    assert after.ops == {"twice": 2}
    assert after.messages("missed") == ["local function `twice` stays a function"]


def test_the_second_time_nothing_is_left_to_do() -> None:
    text = """net (float[2, 6, 4] x) => (float[2, 24] y) <int64[1] end = {-1}> {
        i = Identity (x)
        s = Shape <end = 1> (i)
        to = Concat <axis = 0> (s, end)
        t = Transpose (w)
        a = Add (i, t)
        y = Reshape (a, to)
    }"""
    once = Canonical(model(text, **weights(w=(4, 6, 1))))
    twice = prunec.run(once.result.module, "canonicalize")
    assert once.result.changed
    assert not twice.changed
    assert not len(twice.remarks)
