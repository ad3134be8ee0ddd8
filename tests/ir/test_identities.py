"""Nodes that hand their input on, and nodes that only seem to."""

from __future__ import annotations

import onnx.parser
import pytest

from prunec.ir.facts import infer_facts
from prunec.ir.identities import is_identity
from prunec.ir.load import load
from prunec.ir.site import Site

HEADER = '<ir_version: 9, opset_import: ["" : 18]> net (float[N, 4, 6] x) => (float[A, B, C] y)'


def decides(line: str, literals: str = "", *, opset: int = 18) -> bool:
    """Whether the node of ``line``, which makes y of x, is an identity."""
    text = HEADER.replace("18", str(opset)).replace("y)", "y)" + (f" <{literals}>" if literals else ""))
    module = load(onnx.parser.parse_model(f"{text} {{ {line} }}"))
    return is_identity(Site(module.graph[0], infer_facts(module.model), opset))


@pytest.mark.parametrize(
    ("line", "literals"),
    [
        ("y = Identity (x)", ""),
        ("y = Sum (x)", ""),
        ("y = Concat <axis = 1> (x)", ""),
        ("y = Dropout (x)", ""),
        ("y = Dropout (x, ratio, off)", "float ratio = {0.5}, bool off = {0}"),
        ("y = Cast <to = 1> (x)", ""),
        ("y = CastLike (x, x)", ""),
        ("y = Transpose <perm = [0, 1, 2]> (x)", ""),
        ("y = Reshape (x, s)", "int64[3] s = {0, 4, 6}"),
        ("y = Reshape (x, s)", "int64[3] s = {-1, 4, 6}"),
        ("y = Reshape (x, s)", "int64[3] s = {0, 0, -1}"),
        ("y = Expand (x, s)", "int64[3] s = {1, 1, 6}"),
        ("y = Expand (x, s)", "int64[1] s = {1}"),
        ("y = Tile (x, s)", "int64[3] s = {1, 1, 1}"),
        ("y = Pad (x, s)", "int64[6] s = {0, 0, 0, 0, 0, 0}"),
        ("y = Slice (x, a, b)", "int64[1] a = {0}, int64[1] b = {9223372036854775807}"),
        ("y = Slice (x, a, b, axes)", "int64[1] a = {0}, int64[1] b = {6}, int64[1] axes = {-1}"),
        ("y = Slice (x, a, b, a, s)", "int64[1] a = {0}, int64[1] b = {2147483647}, int64[1] s = {1}"),
    ],
)
def test_identities(line: str, literals: str) -> None:
    assert decides(line, literals)


@pytest.mark.parametrize(
    ("line", "literals"),
    [
        ("y = Relu (x)", ""),
        ("y = Sum (x, x)", ""),
        ("y = Dropout (x, ratio, on)", "float ratio = {0.5}, bool on = {1}"),
        ("y = Cast <to = 10> (x)", ""),
        ("y = Transpose (x)", ""),
        ("y = Transpose <perm = [0, 2, 1]> (x)", ""),
        ("y = Reshape (x, s)", "int64[3] s = {1, 4, 6}"),  # N is 1 only while it is probed
        ("y = Reshape (x, s)", "int64[3] s = {0, 6, 4}"),
        ("y = Reshape (x, s)", "int64[3] s = {-1, 4, 3}"),
        ("y = Reshape <allowzero = 1> (x, s)", "int64[3] s = {0, 4, 6}"),
        ("y = Expand (x, s)", "int64[3] s = {2, 4, 6}"),
        ("y = Expand (x, s)", "int64[4] s = {1, 1, 4, 6}"),
        ("y = Tile (x, s)", "int64[3] s = {1, 2, 1}"),
        ("y = Pad (x, s)", "int64[6] s = {0, 0, 1, 0, 0, -1}"),
        ("y = Slice (x, a, b)", "int64[1] a = {1}, int64[1] b = {9223372036854775807}"),
        ("y = Slice (x, a, b)", "int64[1] a = {0}, int64[1] b = {8}"),  # N may be more than 8
        ("y = Slice (x, a, b, axes)", "int64[1] a = {0}, int64[1] b = {5}, int64[1] axes = {2}"),
        ("y = Slice (x, a, b, a, s)", "int64[1] a = {0}, int64[1] b = {2147483647}, int64[1] s = {2}"),
    ],
)
def test_no_identities(line: str, literals: str) -> None:
    assert not decides(line, literals)


def test_an_operand_that_is_computed_proves_nothing() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]>
    net (float[N, 4, 6] x, int64[3] s) => (float[A, B, C] y) { y = Reshape (x, s) }"""
    module = load(onnx.parser.parse_model(text))
    assert not is_identity(Site(module.graph[0], infer_facts(module.model), 18))


def test_older_opsets_write_operands_as_attributes() -> None:
    assert decides("y = Slice <starts = [0], ends = [6], axes = [2]> (x)", opset=9)
    assert decides("y = Pad <pads = [0, 0, 0, 0, 0, 0]> (x)", opset=9)
    assert not decides("y = Slice <starts = [0], ends = [5], axes = [2]> (x)", opset=9)


def test_flatten_of_a_matrix_is_one() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]>
    net (float[N, 4] x) => (float[N, 4] y) { y = Flatten (x) }"""
    module = load(onnx.parser.parse_model(text))
    assert is_identity(Site(module.graph[0], infer_facts(module.model), 18))
    assert not decides("y = Flatten (x)")


def test_the_same_name_in_another_domain_is_another_op() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18, "com.acme" : 1]>
    net (float[N, 4] x) => (float[N, 4] y) { y = com.acme.Identity (x) }"""
    module = load(onnx.parser.parse_model(text))
    assert not is_identity(Site(module.graph[0], infer_facts(module.model), 1))
