"""Nodes of the conformance cases, spliced into a network: every op that they know, beside all others.

A case is tried in ONNX Runtime first, in the opset of the network and (where its batch is dynamic) at two batch
sizes; one that does not run so is passed over for another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from string import Template

import numpy as np
import onnx
from conformance import CASES, Draw
from conformance.lines import LINES, Line
from conformance.network import constants
from generators.builder import BATCH, OPSETS, Builder, Value
from generators.forms import slice_axes, transpose
from generators.registry import block
from generators.sources import linear
from generators.splicing import Fragment, batch_axis, parse, splice
from onnx import TensorProto

TRIES = 12
LARGEST = 3.0
"""Results larger than this are scaled, so that networks stay of order one."""

LEFT_OUT = ("com.microsoft.MoE", "com.microsoft.QMoE")
"""Ops whose kernel in ONNX Runtime computes something else when its operands lie elsewhere in memory: two equal graphs
differ, and so does one graph from itself as soon as another value is an output too."""


def _exists(text: str, opset: int) -> bool:
    """Whether the default domain has the ops of a text in this version (those without a schema: perhaps)."""
    return all(_has(name, opset) for name in _ops_of(text))


@lru_cache(maxsize=1024)
def _ops_of(text: str) -> Sequence[str]:
    """The ops of the default domain that have a schema in some version."""
    return [name for name in re.findall(r"= (\w+)[(<]", text) if onnx.defs.has(name, domain="")]


@cache
def _has(name: str, opset: int) -> bool:
    return onnx.defs.has(name, opset, "") and not onnx.defs.get_schema(name, opset, "").deprecated


@lru_cache(maxsize=64)
def _table(opset: int) -> Sequence[Sequence[str]]:
    """For each op that this opset has, the lines with it; several times for ops that few opsets have."""
    table: list[Sequence[str]] = []
    for names in _by_op().values():
        known = [[name for name in names if _exists(LINES[name].nodes, o)] for o in OPSETS]
        here = known[OPSETS.index(opset)]
        table += [here] * (len(OPSETS) // sum(map(bool, known))) if here else []
    return table


def _by_op() -> Mapping[str, list[str]]:
    """Names of the lines that may be spliced in, by each op that they have (``com.microsoft.FusedConv``)."""
    found: dict[str, list[str]] = {}
    for name, line in LINES.items():
        if any(op in line.nodes for op in LEFT_OUT):
            continue
        for op in dict.fromkeys(re.findall(r"= ([\w.]+)[(<]", line.nodes)):
            found.setdefault(op, []).append(name)
    return found


def _line(b: Builder) -> tuple[Line, dict[str, int], Fragment] | None:
    """A line that runs here, all ops alike, with its sizes."""
    for _ in range(TRIES):
        line, d = LINES[b.choose(b.choose(_table(b.opset)))], Draw(b.size(0, 999), "")
        sizes = line.sizes(d)
        fragment = parse(b, *_text(line, sizes, b.size(0, 99)))
        if fragment is not None:
            return line, sizes, fragment
    return None


def _text(line: Line, sizes: Mapping[str, int], seed: int) -> tuple[str, Mapping[str, np.ndarray]]:
    """A line as a function of ``a`` (and ``x`` with three channels), with its constants."""
    nodes = Template(re.sub(r"\bz = MatMul\(r, w2\)", "", line.nodes)).substitute(sizes)
    c, length = sizes["C"], sizes["L"]
    shape = {"signal": f"2,%d,{length}", "image": f"2,%d,{length},{length}", "tokens": f"2,{length},%d"}[
        line.layers
    ]
    other = f", float[{shape % 3}] x" if re.search(r"\bx\b", nodes) else ""
    text = f"(float[{shape % c}] a{other}) => (float b) {{ {nodes} }}"
    return text, constants(Template(line.more.replace("!", "")).substitute(sizes), seed)


@block("fragment", weight=12)
def fragment_block(b: Builder) -> None:
    """What stands between the two layers of a conformance line."""
    found = _line(b)
    if found is None:
        return
    line, sizes, fragment = found
    x = b.pick(line.layers)
    given = {"a": fit(b, linear(b, x, sizes["C"]), sizes["L"])}
    if len(fragment.graph.input) > 1:
        given["x"] = fit(b, linear(b, x, 3), sizes["L"])
    (result,) = splice(b, fragment, given)
    keep(b, Value(result.name, result.shape, line.layers), fragment.results["b"])


@block("case", weight=4)
def case_block(b: Builder) -> None:
    """A whole conformance network: attention, recurrent layers, tables."""
    names = [name for name in CASES if name not in LINES]
    for _ in range(TRIES):
        network = CASES[b.choose(names)](Draw(b.size(0, 999), ""))
        if not _exists(network.text, b.opset):
            continue
        arrays = {**constants(network.weights, b.size(0, 99)), **network.arrays}
        fragment = parse(b, network.text, arrays)
        if fragment is not None:
            return _bind(b, fragment)
    return None


def _bind(b: Builder, fragment: Fragment) -> None:
    given: dict[str, Value] = {}
    for value in fragment.graph.input:
        shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        if value.type.tensor_type.elem_type != TensorProto.FLOAT or len(shape) != 3:
            given[value.name] = b.input("", shape, value.type.tensor_type.elem_type)
        elif batch_axis(shape):
            y = fit(b, linear(b, b.pick("tokens"), shape[2]), shape[0])
            given[value.name] = transpose(b, y, (1, 0, 2))
        else:
            given[value.name] = fit(b, linear(b, b.pick("tokens"), shape[2]), shape[1])
    result, *others = splice(b, fragment, given)
    if len(result.shape) == 3 and batch_axis(result.shape):
        result = transpose(b, result, (1, 0, 2), "tokens")
    b.outputs += [value for value in others if value.shape[:1] == (BATCH,)]
    kind = {2: "vector", 3: "tokens"}[len(result.shape)]
    keep(b, Value(result.name, result.shape, kind), next(iter(fragment.results.values())))


def fit(b: Builder, x: Value, length: int) -> Value:
    """``x`` with this many positions on every spatial axis: cut, or repeated and then cut."""
    for axis in x.space:
        if (size := x.shape[axis]) < length:
            x = b.op("Concat", *[x] * -(-length // size), axis=axis)
        if x.shape[axis] > length:
            x = slice_axes(b, x, {axis: (0, length, 1)})
    return x


def keep(b: Builder, x: Value, measured: np.ndarray) -> None:
    """Offer a result at the usual scale, with the usual batch."""
    if x.shape[0] > BATCH:
        x = slice_axes(b, x, {0: (0, BATCH, 1)})
    if (largest := float(np.abs(measured).max())) > LARGEST:
        x = b.op("Mul", x, b.const(1 / largest), kind=x.kind)
    b.keep(x)
