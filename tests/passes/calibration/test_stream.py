"""What layers read, stage by stage: the same numbers as one run of the whole model as it then stands."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, node_of

from prunec.ir.diagnostics import PassFailure, PrunecError, UserError
from prunec.ir.execute import Runner, run_model
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.calibration.stages import find_stages
from prunec.passes.calibration.stream import Stream, runner_between, types_by_name

BLOCK = """
net (float[N,6] x, float[N,6] late) => (float[N,4] y) <float[6,6] w1, float[6,6] w2, float[6,6] w3, float[6,6] w4,
    float[6,4] w5, float[6] b> {
    q = MatMul(x, w1)
    k = MatMul(x, w2)
    bias = Exp(b)
    sum = Add(q, k)
    shifted = Add(sum, bias)
    h = Relu(shifted)
    g = MatMul(h, w3)
    skip = Add(g, x)
    l = Mul(skip, late)
    m = MatMul(l, w4)
    last = Add(m, skip)
    y = MatMul(last, w5)
}
"""
LAYERS = ("q", "k", "g", "m", "y")


def parts(module: Module, *names: str) -> dict[onnx_ir.Node, list[onnx_ir.Value]]:
    nodes = [node_of(module, name) for name in names or LAYERS]
    return {node: [value for value in node.inputs[:1] if value is not None] for node in nodes}


@pytest.mark.parametrize(("changed", "kind"), [(False, UserError), (True, PassFailure)])
def test_what_fails_is_the_users_only_as_it_was_given(changed: bool, kind: type[PrunecError]) -> None:
    module = graph(BLOCK)
    if changed:
        module.source = module.source.changed()
    module.graph.initializers["w2"].const_value = onnx_ir.tensor(np.ones((5, 6), np.float32))
    with pytest.raises(kind):
        runner_between(module, [], ["y"], {}).run(
            {"x": np.ones((2, 6), np.float32), "late": np.ones((2, 6), np.float32)}
        )


def test_stages_hold_what_does_not_depend_on_each_other() -> None:
    module = graph(BLOCK)
    stages = find_stages(module.graph, parts(module), infer_facts(module.model).constant)
    assert [[node.outputs[0].name for node in stage.layers] for stage in stages] == [
        ["q", "k"],
        ["g"],
        ["m"],
        ["y"],
    ]
    assert [stage.reads for stage in stages] == [("x",), ("h",), ("l",), ("last",)]
    assert [stage.keeps for stage in stages] == [(), ("h",), ("skip", "l"), ()]


@pytest.mark.parametrize("memory", [1 << 30, 900, 0], ids=["all kept", "some kept", "none kept"])
@pytest.mark.parametrize("room", [2, 1], ids=["whole stages", "layer by layer"])
def test_layers_read_what_the_changed_layers_before_them_compute(memory: int, room: int) -> None:
    module, rng = graph(BLOCK), np.random.default_rng(0)
    arrays = {name: rng.standard_normal((19, 6)).astype(np.float32) for name in ("x", "late")}
    feeds = CalibrationData.of(arrays).bind(module, batch=4)
    layers = parts(module)
    holding = {node: {node: 1} for node in layers}
    stream = Stream(
        module, layers, feeds, infer_facts(module.model), memory=memory, holding=holding, room=room
    )
    assert [len(stage.layers) for stage in stream.stages] == ([2, 1, 1, 1] if room == 2 else [1] * 5)
    for stage in stream.stages:
        whole = arrays | run_model(module, arrays, outputs=["h", "l", "last"])
        seen = [values for _, values in stream.runs(stage)]
        for name in stage.reads:
            assert [len(values[name]) for values in seen] == [2] * 9 + [1]
            np.testing.assert_allclose(
                np.concatenate([v[name] for v in seen]), whole[name], rtol=1e-4, atol=1e-4
            )
        for node in stage.layers:  # a change that no later stage can overlook
            value = node.inputs[1]
            assert value is not None and value.const_value is not None
            value.const_value = onnx_ir.tensor(-2 * value.const_value.numpy(), name=value.name)


def test_every_node_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[tuple[set[str], set[str]]] = []
    original = Runner.__init__

    def counted(self: Runner, *args: object, **options: object) -> None:
        original(self, *args, **options)  # type: ignore[arg-type]
        cuts.append((set(self.inputs), set(self.outputs)))

    monkeypatch.setattr(Runner, "__init__", counted)
    module = graph(BLOCK)
    arrays = {name: np.ones((16, 6), np.float32) for name in ("x", "late")}
    stream = Stream(module, parts(module), CalibrationData.of(arrays).bind(module), infer_facts(module.model))
    for stage in stream.stages:
        for _ in stream.runs(stage):
            pass
    graph_inputs = {"x", "late"}
    assert cuts == [
        (graph_inputs, {"h"}),
        (graph_inputs | {"h"}, {"skip", "l"}),
        (graph_inputs | {"skip", "l"}, {"last"}),
    ]


def test_a_layer_inside_reach_of_a_nested_graph_keeps_what_that_reads() -> None:
    module = graph("""
    net (float[N,4] x, bool c) => (float[N,4] y) <float[4,4] w1, float[4,4] w2> {
        a = MatMul(x, w1)
        b = If (c) <then_branch = t () => (float[N,4] p) { n = Neg(a) p = Neg(n) }, else_branch = e () => (float[N,4] q)
            { q = Neg(a) }>
        y = MatMul(b, w2)
    }
    """)
    layers = parts(module, "a", "y")
    stages = find_stages(module.graph, layers, infer_facts(module.model).constant)
    assert [stage.reads for stage in stages] == [("x",), ("b",)]
    data = {"x": np.ones((4, 4), np.float32), "c": np.array([True, False, True, False])}
    stream = Stream(module, layers, CalibrationData.of(data).bind(module), infer_facts(module.model))
    seen = [[values for _, values in stream.runs(stage)] for stage in stream.stages]
    signs = [np.sign(run["b"][0, 0]) for run in seen[1]]
    assert signs[0] == -signs[1] == signs[2] == -signs[3]


LOOP = """
net (float[N,4] x) => (float[N,4] y) <float[4,4] w1, float[4,4] w2, int64 steps = {2}, bool go = {1}> {
    a, b = Loop (steps, go, x, x) <body = one (int64 i, bool c, float[N,4] p, float[N,4] q)
        => (bool d, float[N,4] r, float[N,4] s) { d = Identity(c) r = Tanh(p) s = Neg(q) }>
    g = MatMul(a, w1)
    h = Add(g, b)
    y = MatMul(h, w2)
}
"""
SCAN = """
net (float[N,4] x) => (float[N,4] y) <float[4,4] w1, float[4,4] w2> {
    g = MatMul(x, w1)
    z = Relu(g)
    t = Scan <num_scan_inputs = 1, body = one (p) => (r) { r = Tanh(p) }> (z)
    y = MatMul(t, w2)
}
"""
NORM = """
net (double[N,4] x) => (float[N,4] y) <float[4] g, float[4] b, float two = {2.0}, float eps = {0.00001}> {
    t = Tanh(x)
    c = Cast <to = 1> (t)
    m = ReduceMean <axes = [-1]> (c)
    s = Sub(c, m)
    p = Pow(s, two)
    v = ReduceMean <axes = [-1]> (p)
    a = Add(v, eps)
    q = Sqrt(a)
    d = Div(s, q)
    e = Mul(d, g)
    n = Add(e, b)
    y = Add(n, c)
}
"""


@pytest.mark.parametrize(
    ("text", "cut", "wanted"),
    [
        (NORM, [], ["n"]),
        (LOOP, ["a"], ["h"]),
        (LOOP, ["b"], ["g", "h"]),
        (SCAN, ["z"], ["t"]),
        (SCAN, ["g"], ["y"]),
    ],
)
def test_a_part_computes_what_the_whole_does(text: str, cut: list[str], wanted: list[str]) -> None:
    """One of several results of a loop may be known, a scan asks for the ranks of what it reads, and a part may be
    optimised into what no kernel takes.
    """
    module = graph(text)
    kind = np.float64 if text is NORM else np.float32
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype(kind)}
    whole = run_model(module, feeds, outputs=[*cut, *wanted])
    types = types_by_name(infer_facts(module.model))
    found = runner_between(module, cut, wanted, types).run({name: whole[name] for name in cut} | feeds)
    for name in wanted:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-5)
