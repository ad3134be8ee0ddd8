"""What a cut does to nodes and constants; every pruned graph here is verified by execution as well."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from core_graphs import Array, graph, node_of, ops, outputs, prune, shape_of, weights
from coupling_graphs import GRAPHS, coupled

from prunec.ir.module import Module


def cut(
    text: str,
    ratio: float = 0.5,
    *,
    opset: int = 17,
    arrays: dict[str, Array] | None = None,
    **options: object,
) -> Module:
    """The pruned module of ONNX text; the verifier has agreed."""
    result = prune(graph(text, opset=opset, **(arrays or {})), ratio, **options)
    assert len(result.verdicts) == 1
    return result.module


def ints(module: Module, output: str, name: str) -> list[int] | int:
    """An integer attribute of the node that computes ``output``."""
    attribute = node_of(module, output).attributes[name]
    return attribute.as_int() if name in ("group", "axis") else list(attribute.as_ints())


def operand(module: Module, output: str, position: int) -> list[int]:
    """A constant operand of the node that computes ``output``."""
    value = node_of(module, output).inputs[position]
    assert value is not None
    assert value.const_value is not None, f"input {position} of `{output}` is computed"
    return value.const_value.numpy().tolist()


@pytest.mark.parametrize("unit", ["head", "head-dim"])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_coupled_graph_is_cut_and_verified(name: str, ratio: float, unit: str) -> None:
    module = coupled(name)
    result = prune(module, ratio, unit=unit)
    assert (result.cost_after.parameters < result.cost_before.parameters) == bool(result.plan.steps)
    if ratio > 0.5:
        assert result.plan.steps


# -- attributes ------------------------------------------------------------


def test_group_count_follows_where_groups_carry() -> None:
    module = prune(coupled("depthwise")).module
    assert ints(module, "b", "group") == 2
    assert shape_of(module, "w2") == (2, 1, 3)
    module = prune(coupled("depthwise with multiplier")).module
    assert ints(module, "b", "group") == 2
    assert shape_of(module, "w2") == (4, 1, 3)


def test_group_count_stays_where_channels_carry() -> None:
    module = prune(coupled("grouped convolution"), 0.7).module
    assert ints(module, "b", "group") == 2
    assert (shape_of(module, "w1"), shape_of(module, "w2")) == ((2, 3, 1), (2, 1, 1))


def test_a_depthwise_convolution_of_one_channel_keeps_its_attribute_true() -> None:
    module = prune(coupled("depthwise"), 0.75).module
    assert ints(module, "b", "group") == 1
    assert shape_of(module, "w2") == (1, 1, 3)


# -- split ------------------------------------------------------------

SPLIT = """net (float[N,3,8] x) => (float[N,5,8] y) <float[10,3,1] w1, float[5,4,1] w2, float[5,6,1] w3 SIZES>
{ a = Conv(x, w1) b, c = Split<axis=-2 HOW>(a MORE) d = Conv(b, w2) e = Conv(c, w3) y = Add(d, e) }"""


def test_split_sizes_in_an_attribute() -> None:
    text = SPLIT.replace("SIZES", "").replace("HOW", ", split=[4, 6]").replace("MORE", "")
    module = cut(text, opset=11)
    assert ints(module, "b", "split") == [2, 3]
    assert len(node_of(module, "b").inputs) == 1


def test_split_sizes_in_an_input() -> None:
    text = SPLIT.replace("SIZES", ", int64[2] sizes = {4, 6}").replace("HOW", "").replace("MORE", ", sizes")
    module = cut(text, opset=13)
    assert operand(module, "b", 1) == [2, 3]
    assert "sizes" not in weights(module)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_even_splits_get_sizes(opset: int) -> None:
    how = ", num_outputs=2" if opset == 18 else ""
    text = SPLIT.replace("SIZES", "").replace("HOW", how).replace("MORE", "").replace("5,4,1", "5,5,1")
    module = cut(text.replace("5,6,1", "5,5,1"), 0.4, opset=opset, ignore="w3")
    assert "num_outputs" not in node_of(module, "b").attributes
    assert (ints(module, "b", "split") if opset == 11 else operand(module, "b", 1)) == [3, 5]


# -- slice ------------------------------------------------------------


def sliced(window: slice, keep: list[int], count: int, *, opset: int = 17) -> Module:
    """Eight channels, sliced, read by a convolution; pruned so that the channels ``keep`` stay."""
    strong = np.ones((8, 3, 1), np.float32)
    strong[keep] = 10
    arrays: dict[str, Array] = {"w1": strong, "w2": np.ones((5, count, 1), np.float32)}
    if opset < 10:
        step = f"Slice<starts=[{window.start}], ends=[{window.stop}], axes=[1]>(a)"
    else:
        step = "Slice(a, first, last, axis, step)"
        numbers = {"first": window.start, "last": window.stop, "axis": 1, "step": window.step}
        arrays |= {name: np.array([number]) for name, number in numbers.items()}
    text = f"net (float[N,3,8] x) => (float[N,5,8] y) {{ a = Conv(x, w1) b = {step} y = Conv(b, w2) }}"
    module = graph(text, opset=opset, **arrays)
    result = prune(module, 1 - len(keep) / 8, scope="local" if window.step == 1 else "global", max_ratio=1)
    assert np.array_equal(weights(result.module)["w1"], strong[keep])
    return result.module


def window_of(module: Module) -> slice:
    """The slice of the node that computes ``b``, after the cut."""
    first, last, axis, step = (operand(module, "b", i)[0] for i in (1, 2, 3, 4))
    assert axis == 1
    return slice(first, last, step)


def test_slice_from_the_front() -> None:
    module = sliced(slice(0, 8, 1), [1, 2, 5, 7], 8)
    assert window_of(module) == slice(0, 4, 1)


def test_slice_with_a_step() -> None:
    assert window_of(sliced(slice(0, 8, 2), [0, 1, 4, 5], 4)) == slice(0, 4, 2)


def test_slice_with_a_step_that_becomes_one() -> None:
    assert window_of(sliced(slice(0, 8, 2), [0, 2, 4, 5], 4)) == slice(0, 3, 1)


def test_slice_backwards_to_the_front() -> None:
    module = sliced(slice(-1, -9, -1), [0, 2, 3, 6], 8)
    window = window_of(module)
    assert (window.start, window.step) == (3, -1)
    assert window.stop < -4


def test_slice_whose_rest_is_not_evenly_spaced_becomes_a_gather() -> None:
    module = sliced(slice(0, 8, 2), [0, 1, 2, 4, 5], 4)
    assert ops(module) == ["Conv", "Gather", "Conv"]
    assert operand(module, "b", 1) == [0, 2, 3]
    assert {"first", "last", "axis", "step"}.isdisjoint(weights(module))


def test_slice_in_attributes() -> None:
    module = sliced(slice(0, 8, 1), [0, 2, 3, 6], 8, opset=9)
    assert ints(module, "b", "starts") == [0]
    assert ints(module, "b", "ends") == [4]
    assert ints(module, "b", "axes") == [1]


def test_other_axes_of_a_slice_stay() -> None:
    text = """net (float[N,3,8] x) => (float[N,5,3] y) <float[8,3,1] w1, float[5,4,1] w2,
        int64[2] first = {2, 0}, int64[2] last = {5, 4}, int64[2] axes = {2, 1}>
        { a = Conv(x, w1) b = Slice(a, first, last, axes) y = Conv(b, w2) }"""
    module = cut(text, only="w2")
    assert [operand(module, "b", i) for i in (1, 2, 3, 4)] == [[2, 0], [5, 2], [2, 1], [1, 1]]


# -- gather, concat, chains ------------------------------------------------------------


def test_gather_indices_are_renumbered() -> None:
    strong = np.ones((6, 3, 1), np.float32)
    strong[[1, 3, 5]] = 10
    text = "net (float[N,3,8] x) => (float[N,5,8] y) <float[5,4,1] w2> { a = Conv(x, w1) b = Gather<axis=1>(a, i) y = Conv(b, w2) }"
    module = cut(text, 0.5, arrays={"w1": strong, "i": np.array([5, 1, 2, -5])}, scope="global", max_ratio=1)
    assert operand(module, "b", 1) == [2, 0, 0]
    assert shape_of(module, "w2") == (5, 3, 1)


def test_gather_as_a_strided_view_keeps_its_shape() -> None:
    module = prune(coupled("strided view")).module
    index = np.array(operand(module, "b", 1))
    assert index.shape == (3, 2)
    assert sorted(index.ravel().tolist()) == list(range(6))


def test_a_shuffle_that_loses_arbitrary_channels_becomes_a_gather() -> None:
    module = prune(coupled("channel shuffle")).module
    assert ops(module) == ["Conv", "Gather", "Conv"]
    assert sorted(operand(module, "d", 1)) == [0, 1, 2]
    assert {"s1", "s2"}.isdisjoint(weights(module))


def test_a_shuffle_of_untouched_channels_stays() -> None:
    text = GRAPHS["channel shuffle"].replace("y = Conv(d, w2)", "e = Conv(d, w3) y = Conv(e, w2)")
    text = text.replace("float[5,6,1] w2", "float[4,6,1] w3, float[5,4,1] w2")
    module = cut(text, ignore="w1")
    assert ops(module) == ["Conv", "Reshape", "Transpose", "Reshape", "Conv", "Conv"]


# -- shapes ------------------------------------------------------------


def reshaped(shape: list[int], batch: str = "N") -> Module:
    text = f"net (float[{batch},3,2,2] x) => (float[{batch},5] y) <float[4,3,1,1] w1, float[16,5] w2> "
    text += "{ a = Conv(x, w1) f = Reshape(a, s) y = MatMul(f, w2) }"
    return cut(text, arrays={"s": np.array(shape)})


@pytest.mark.parametrize(
    ("shape", "batch", "after"),
    [
        ([0, -1], "N", [0, 8]), ([-1, 16], "N", [-1, 8]), ([0, 16], "N", [0, 8]),
        ([2, 16], "2", [2, 8]), ([2, -1], "2", [2, 8]), ([0, -1], "2", [2, 8]),
    ],
)  # fmt: skip
def test_a_written_shape_keeps_its_dynamic_entries(shape: list[int], batch: str, after: list[int]) -> None:
    assert operand(reshaped(shape, batch), "f", 1) == after


def test_a_shape_that_is_not_cut_stays_as_it_is() -> None:
    module = prune(coupled("plain")).module
    assert operand(module, "y", 1) == [0, -1]
    assert "s" in weights(module)


def test_a_computed_shape_gets_its_static_entries_overwritten() -> None:
    module = prune(coupled("computed shape")).module
    assert node_of(module, "f").inputs[1].producer().op_type == "Where"  # type: ignore[union-attr]
    assert ops(module).count("Where") == 1


def test_a_computed_literal_becomes_a_constant() -> None:
    module = prune(graph(GRAPHS["computed shape"].replace("N,", "2,"))).module
    assert operand(module, "f", 1) == [2, 8]
    assert "Shape" not in ops(module)


def test_expand_to_a_width_that_shrinks() -> None:
    module = prune(coupled("class token")).module
    assert operand(module, "t", 1) == [2, 1, 3]
    assert shape_of(module, "token") == (1, 1, 3)


def test_numbers_made_from_a_shape_that_shrinks_do_not_change() -> None:
    """The scale of attention is computed from the width of a head, which loses positions."""
    text = """net (float[2,7,4] x) => (float[2,7,5] y) <float[4,6] w1, float[6,5] w2, int64 last = {2}>
    {
        a = MatMul(x, w1)
        s = Shape(a)
        d = Gather(s, last)
        f = Cast<to=1>(d)
        r = Sqrt(f)
        b = Div(a, r)
        y = MatMul(b, w2)
    }"""
    module = cut(text)
    assert operand(module, "b", 1) == pytest.approx(6**0.5)
    assert "Shape" not in ops(module)


def test_a_dynamic_size_that_holds_a_cut_factor_shrinks_in_proportion() -> None:
    """Parts of the channels become entries of the batch: three times N, which is only known at run time."""
    text = """net (float[N,3] x) => (float[N,5] y)
    <float[3,12] w1, int64[1] ax = {0}, int64 zero = {0}, int64 three = {3}, int64[1] one = {1}, int64[1] four = {4},
     float[1,1,3] k, int64[1] rest = {-1}, float[12,5] w2>
    {
        a = MatMul(x, w1)
        s = Shape(x)
        n = Gather(s, zero)
        m = Mul(n, three)
        mu = Unsqueeze(m, ax)
        nu = Unsqueeze(n, ax)
        parts = Concat<axis=0>(mu, one, four)
        b = Reshape(a, parts)
        c = Conv<pads=[1,1]>(b, k)
        whole = Concat<axis=0>(nu, rest)
        d = Reshape(c, whole)
        y = MatMul(d, w2)
    }"""
    module = cut(text, 0.4)
    assert (shape_of(module, "w1"), shape_of(module, "w2")) == ((3, 8), (8, 5))
    feeds = {"x": np.ones((5, 3), np.float32)}
    assert outputs(module, feeds, ["b"])["b"].shape == (10, 1, 4)


# -- constants ------------------------------------------------------------


def test_a_constant_node_is_lifted_under_its_name() -> None:
    module = prune(coupled("weight in a Constant node")).module
    assert ops(module) == ["MatMul", "MatMul"]
    assert shape_of(module, "w") == (3, 2)


def test_a_constant_node_that_holds_a_list_is_lifted_too() -> None:
    text = (
        GRAPHS["plain"]
        .replace("float[4] b1, ", "")
        .replace("{ a =", "{ b1 = Constant<value_floats=[1.0, 2.0, 3.0, 4.0]>() a =")
    )
    module = cut(text)
    assert shape_of(module, "b1") == (2,)
    assert "Constant" not in ops(module)


def test_a_shared_bias_whose_users_differ_is_copied() -> None:
    module = prune(coupled("shared zero bias")).module
    biases = [node_of(module, name).inputs[2].name for name in ("a", "b")]  # type: ignore[union-attr]
    assert biases[0] != biases[1]
    assert {shape_of(module, name or "") for name in biases} == {(2,)}


def test_a_shared_bias_whose_users_agree_stays_one() -> None:
    text = "net (float[N,3,8] x) => (float[N,5,8] y) <float[4,3,1] w1, float[4] b, float[4,3,1] w2, float[5,4,1] w3> "
    text += "{ a = Conv(x, w1, b) c = Conv(x, w2, b) d = Add(a, c) y = Conv(d, w3) }"
    module = cut(text)
    assert shape_of(module, "b") == (2,)
    assert sum(name.startswith("b") for name in weights(module)) == 1


def test_a_user_that_is_not_cut_keeps_the_whole_tensor() -> None:
    module = prune(coupled("shared zero bias"), ignore="w3").module
    assert sorted(shape_of(module, node_of(module, n).inputs[2].name or "")[0] for n in ("a", "b")) == [2, 4]  # type: ignore[union-attr]
    assert shape_of(module, "zero") == (4,)


def test_tied_weights_stay_tied() -> None:
    module = prune(coupled("tied weights")).module
    assert weights(module).keys() == {"w", "u"}
    assert (shape_of(module, "w"), shape_of(module, "u")) == ((4, 3), (3, 3))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_element_type_stays(dtype: str) -> None:
    text = "net (T[N,3] x) => (T[N,5] y) <T[3,4] w1, T[4,5] w2> { a = MatMul(x, w1) y = MatMul(a, w2) }"
    module = cut(text.replace("T[", f"{dtype.replace('float64', 'double')}["))
    assert {str(array.dtype) for array in weights(module).values()} == {dtype}


def test_kept_rows_are_those_of_the_input() -> None:
    module = coupled("plain")
    before, result = weights(module), prune(module)
    (step,) = result.plan.steps
    (group,) = step.groups
    after, kept = weights(result.module), np.setdiff1d(np.arange(4), group.removed)
    np.testing.assert_array_equal(after["w1"], before["w1"][kept])
    np.testing.assert_array_equal(after["b1"], before["b1"][kept])
    np.testing.assert_array_equal(after["w2"], before["w2"][:, kept])


def test_names_of_nodes_values_and_weights_are_kept() -> None:
    module = coupled("squeeze and excite")
    after = prune(module).module
    names = [[o.name for n in m.graph for o in n.outputs] for m in (module, after)]
    assert names[0] == names[1]
    assert weights(module).keys() == weights(after).keys()
    assert [v.name for v in after.graph.outputs] == ["y"]


def test_new_constants_avoid_names_that_are_taken() -> None:
    text = GRAPHS["channel shuffle"].replace("y = Conv(d, w2)", "d_index = Relu(d) y = Conv(d_index, w2)")
    module = cut(text)
    names = [o.name for n in module.graph for o in n.outputs] + list(module.graph.initializers)
    assert len(names) == len(set(names))
    assert "d_index_1" in names


def test_declared_shapes_follow() -> None:
    module = prune(coupled("residual")).module
    shapes = {o.name: o.shape for n in module.graph for o in n.outputs}
    assert [str(d) for d in shapes["y"] or ()] == ["N", "5", "8", "8"]
    declared = graph(GRAPHS["plain"])
    node_of(declared, "r").outputs[0].shape = onnx_ir.Shape(["N", 4, 6, 6])
    after = node_of(prune(declared).module, "r").outputs[0].shape
    assert [str(d) for d in after or ()] == ["N", "2", "6", "6"]
