"""The dump: how axes show their groups, locations, and that nothing in it depends on weights or on the run."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from core_graphs import coupling_of, graph, node_of
from zoo import zoo_models

from prunec.ir.location import source_of
from prunec.ir.module import Module
from prunec.ir.sparsity import Pattern, crowded_groups, follows, zero_share
from prunec.passes.coupling.view import GroupView
from prunec.passes.printer import print_module

TRACE = """File "/home/me/net.py", line 11, in forward
    x = self.stem(x)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/conv.py", line 565, in forward
    return self._conv_forward(input, self.weight, self.bias)"""
OLD_TRACE = """/venv/lib/python3.8/site-packages/torch/nn/functional.py(114): relu
/home/me/net.py(9): forward
/venv/lib/python3.8/site-packages/torch/nn/modules/module.py(532): _slow_forward
/home/me/export.py(30): <module>
"""
NAMESPACE = ": my.Net/layer1: torch.Sequential/layer1.0.c2: torch.Conv2d/conv2d: aten.conv2d.default"
LINEAR = "net (float[N,4] x) => (float[N,3] y) <float[4,3] w> { [mm] y = MatMul(x, w) }"


def annotated(**metadata: str) -> onnx_ir.Node:
    doc = metadata.pop("doc", None)
    node = onnx_ir.node("Relu", [onnx_ir.val("x")])
    node.doc_string = doc
    node.metadata_props.update(metadata)
    return node


def test_source_is_the_innermost_line_of_the_users_own_code() -> None:
    trace = {"pkg.torch.onnx.stack_trace": TRACE}
    assert source_of(annotated(**trace)) == "net.py:11"
    assert source_of(annotated(**trace, namespace=NAMESPACE)) == "net.py:11 in layer1.0.c2"
    assert source_of(annotated(namespace=NAMESPACE)) == "layer1.0.c2"
    assert source_of(annotated(doc=OLD_TRACE)) == "net.py:9"


def test_source_of_other_exporters() -> None:
    assert source_of(annotated()) is None
    assert source_of(annotated(doc="a ReLU\nand more")) == "a ReLU"
    assert source_of(annotated(doc="x" * 100)) == "x" * 77 + "..."
    windows = 'File "C:\\\\work\\\\net.py", line 3, in forward'
    assert source_of(annotated(**{"pkg.torch.onnx.stack_trace": windows})) == "net.py:3"


def test_a_line_ends_in_its_source_and_the_nodes_name() -> None:
    module = graph(LINEAR)
    node_of(module, "y").metadata_props["namespace"] = NAMESPACE
    [line] = [line for line in print_module(module).splitlines() if "MatMul" in line]
    assert line.endswith("-> f32[N, g2:3]  // mm layer1.0.c2")


def test_groups_can_be_left_out() -> None:
    text = print_module(graph(LINEAR), groups=False)
    opsets = "{opset=17, ai.onnx.ml=3, com.acme=1, com.microsoft=1}"
    assert text.startswith(f"graph @net {opsets} (%x: f32[N, g1:4]) -> (%y: f32[N, g2:3]) {{\n")
    assert text.endswith("\n}\n")


def test_weights_do_not_show() -> None:
    undeclared = LINEAR.replace("<float[4,3] w>", "")
    texts = {print_module(graph(undeclared, w=np.full((4, 3), value, np.float32))) for value in (1.5, -2.5)}
    assert len(texts) == 1 and "1.5" not in texts.pop()


def test_a_given_coupling_is_used() -> None:
    module = graph(LINEAR)
    assert print_module(module, coupling=coupling_of(module)) == print_module(module)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("j = Flatten(c)", "g1:4*4"),
        ("j = Concat<axis = 1>(c, c, c)", "3*g1:4"),
        ("j = Concat<axis = 1>(c, x)", "g1:4+2"),
        ("j = Slice(c, three, before, one, back)", "g1:4~"),
        ("j = Gather<axis = 1>(c, twice)", "2*g1:4*2"),
        ("j = Gather<axis = 1>(c, uneven)", "g1:8~"),
    ],
)
def test_axis_text(body: str, text: str) -> None:
    module = graph(
        f"""net (float[1,2,2,2] x) => (float[1,5] y) <float[4,2,1,1] w1, int64[1] one = {{1}}, int64[1] three = {{3}},
        int64[1] back = {{-1}}, int64[1] before = {{-9}}, int64[16] twice = {{0,0,1,1,2,2,3,3,0,0,1,1,2,2,3,3}},
        int64[8] uneven = {{0,1,2,3,3,2,1,0}}>
        {{ c = Conv(x, w1) {body} p = ReduceMean(j) y = Expand(p, shape) }}""",
        shape=np.array([1, 5]),
    )
    coupling = coupling_of(module)
    view = GroupView.of(coupling)
    [value] = node_of(module, "j").outputs
    numbers = view.numbers(value)
    assert numbers is not None
    assert view.text(numbers[1]) == text


def test_groups_that_alternate_are_mixed() -> None:
    order = np.arange(16).reshape(2, 8).T.ravel()
    module = graph(
        """net (float[1,3,2,2] x) => (float[1,5,2,2] y) <float[8,3,1,1] w1, float[8,3,1,1] w2, float[5,16,1,1] w3>
        { a = Conv(x, w1) b = Conv(x, w2) j = Concat<axis = 1>(a, b) s = Gather<axis = 1>(j, order) y = Conv(s, w3) }""",
        order=order,
    )
    assert "-> f32[1, mix(g1:8,g2:8), 2, 2]" in print_module(module)


def test_zero_share_and_pattern() -> None:
    array = np.tile([1, 0, 0, 2], (2, 2))
    assert zero_share(array) == 0.5
    assert zero_share(np.zeros((0, 4))) == 0
    assert follows(array, 2, 4)
    assert not follows(array.T, 2, 4)
    assert not follows(np.ones((4, 4)), 2, 4)
    crowded = np.array([[1, 1, 1, 0, 0, 0, 0, 0]])
    assert (follows(crowded, 2, 4), crowded_groups(crowded, 2, 4), crowded_groups(crowded, 3, 4)) == (
        False,
        1,
        0,
    )
    assert not follows(np.zeros((2, 6)), 2, 4)
    assert str(Pattern(2, 4, 1)) == "2:4(axis=1)"


@pytest.mark.parametrize("path", zoo_models(runs=True))
def test_dumps_of_real_models_are_stable(path: str) -> None:
    import prunec

    texts = [print_module(module) for module in (prunec.load(path), Module(prunec.load(path).model.clone()))]
    assert texts[0] == texts[1]
    nodes = sum(line.startswith(("  %", "  _")) for line in texts[0].splitlines())
    assert nodes > 0
