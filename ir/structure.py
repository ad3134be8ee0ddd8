"""Checks a ``ModelProto`` that somebody else wrote before the IR is built from it.

``onnx.checker`` is too strict for this and not strict enough: it refuses unsorted nodes, undeclared
``com.microsoft`` imports and custom ops, all of which ONNX Runtime runs and real files contain, it needs the
weights, and it does not look for cycles. Here a model is refused only for what no runtime could give a
meaning to.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import onnx

from prunec.ir.runtime import newest_opset
from prunec.ir.tensors import Scope, check_tensor

OLDEST_OPSET = 7
"""The oldest default-domain opset that ONNX Runtime's kernels cover."""
COMMON_OPSET = 21
"""An opset that every ONNX Runtime which prunec accepts runs; only for newer ones it must be asked."""
Attribute = onnx.AttributeProto


def check_model(proto: onnx.ModelProto, *, file: str, stored: Sequence[int | None] = ()) -> None:
    """Raise a ``UserError`` unless ``proto`` is a model that the IR can hold and a runtime could run.

    Args:
        proto: the model; the main graph's weights may be missing.
        file: what messages call it.
        stored: per initializer of the main graph, bytes of weight data kept outside of ``proto``, or None.
    """
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    functions = frozenset((_domain(function.domain), function.name) for function in proto.functions)
    scope = Scope(file=file, opsets=opsets, functions=functions)
    _check_envelope(proto, scope)
    _check_imports(proto, scope)
    _check_opset(proto, scope)
    _check_graph(proto.graph, scope, stored)
    for function in proto.functions:
        _check_function(function, scope)


def _check_envelope(proto: onnx.ModelProto, scope: Scope) -> None:
    hint = "check that the file is an ONNX model and complete; export it again"
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        scope.fail("the file parses but holds no graph, so it is not an ONNX model", help=hint)
    if not proto.graph.output:
        scope.fail(f"the graph has {len(proto.graph.node)} nodes but no outputs", help=hint)
    if proto.ir_version < 1:
        scope.fail("the model does not say which ONNX IR version it uses", help=hint)
    if proto.ir_version > onnx.IR_VERSION:
        scope.fail(
            f"IR version {proto.ir_version} is not supported; supported are 1 to {onnx.IR_VERSION}",
            help="upgrade onnx and onnxruntime, or export with an older IR version",
        )
    if proto.training_info:
        scope.fail("the model holds training_info, which the IR cannot keep", help="export for inference")


def _check_imports(proto: onnx.ModelProto, scope: Scope) -> None:
    """No domain is imported in two versions; twice in the same one is harmless."""
    for entry in proto.opset_import:
        domain = _domain(entry.domain)
        if entry.version != (other := scope.opsets[domain]):
            scope.fail(
                f"domain `{domain or 'ai.onnx'}` is imported in two versions, {entry.version} and {other}",
                help="keep the one that its ops were written for",
            )


def _check_opset(proto: onnx.ModelProto, scope: Scope) -> None:
    version = scope.opsets.get("")
    if version is None:
        if all(_domain(node.domain) for node in proto.graph.node):
            return
        if proto.ir_version >= 3:
            scope.fail(
                "the model imports no opset at all, so that nothing says what its ops mean",
                help="export it again",
            )
        version = 1  # the ONNX specification's rule for files from before opset imports
    newest = version if OLDEST_OPSET <= version <= COMMON_OPSET else newest_opset()
    if not OLDEST_OPSET <= version <= newest:
        scope.fail(
            f"opset {version} is not supported; supported are {OLDEST_OPSET} to {newest}",
            help="export with a supported opset, or convert with onnx.version_converter.convert_version",
        )


def _check_function(function: onnx.FunctionProto, outer: Scope) -> None:
    opsets = {_domain(entry.domain): entry.version for entry in function.opset_import} or outer.opsets
    scope = Scope(file=outer.file, opsets=opsets, functions=outer.functions)
    _check_body(function.node, function.output, scope, given=list(function.input), what=function.name)


def _check_graph(graph: onnx.GraphProto, scope: Scope, stored: Sequence[int | None] = ()) -> None:
    if graph.sparse_initializer:
        scope.fail(
            f"sparse initializer `{graph.sparse_initializer[0].values.name}` is not supported",
            help="store it as a dense initializer",
        )
    _check_types(graph, scope)
    for index, tensor in enumerate(graph.initializer):
        check_tensor(tensor, scope, stored=stored[index] if index < len(stored) else None)
    inputs = [value.name for value in graph.input]
    weights = [tensor.name for tensor in graph.initializer]
    _check_unique(inputs, "graph input", scope)
    _check_unique(weights, "initializer", scope)
    given = [*inputs, *(set(weights) - set(inputs))]
    outputs = [value.name for value in graph.output]
    _check_body(graph.node, outputs, scope, given=given, what=graph.name)


def _check_body(
    nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], scope: Scope, *, given: list[str], what: str
) -> None:
    """Names resolve, each is made once, nothing depends on itself, and every node fits its op's schema."""
    made = [name for node in nodes for name in node.output if name]
    _check_made_once(nodes, given, scope)
    local = set(given) | set(made)
    inner = Scope(file=scope.file, opsets=scope.opsets, functions=scope.functions, names=scope.names | local)
    for node in nodes:
        _check_node(node, inner)
    for name in outputs:
        if name not in local:
            scope.fail(f"output `{name}` of graph `{what}` is computed by no node")
    _check_acyclic(nodes, scope)


def _check_node(node: onnx.NodeProto, scope: Scope) -> None:
    texts = (node.name, node.op_type, node.domain, *(attribute.name for attribute in node.attribute))
    if not all(isinstance(text, str) for text in texts):
        scope.fail(f"a name is not UTF-8 text: {next(text for text in texts if not isinstance(text, str))!r}")
    label = label_of(node)
    if not node.op_type:
        scope.fail("a node has no op type", node=label)
    for name in node.input:
        if name and name not in scope.names:
            scope.fail(
                f"`{node.op_type}` reads `{name}`, which is no input, initializer or output of a node",
                node=label,
            )
    for attribute in node.attribute:
        for tensor in (attribute.t, *attribute.tensors) if attribute.type != Attribute.GRAPH else ():
            if tensor.data_type or tensor.dims:
                check_tensor(tensor, scope, owner=label)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            scope.fail(f"sparse tensor in attribute `{attribute.name}` is not supported", node=label)
        for graph in subgraphs_of(attribute):
            _check_graph(graph, scope)
    _check_schema(node, scope, label)


def _check_schema(node: onnx.NodeProto, scope: Scope, label: str) -> None:
    """Required attributes, attribute types and the number of inputs and outputs, for ONNX's own ops."""
    domain = _domain(node.domain)
    schema = (
        None
        if (domain, node.op_type) in scope.functions
        else _schema(node.op_type, domain, scope.opsets.get(domain))
    )
    if schema is None:
        return
    present = {attribute.name: attribute for attribute in node.attribute}
    for name, declared in schema.attributes.items():
        if name not in present:
            if declared.required:
                scope.fail(f"`{node.op_type}` lacks its required attribute `{name}`", node=label)
            continue
        expected = str(declared.type).rpartition(".")[2]
        found = Attribute.AttributeType.Name(present[name].type)
        if found not in (expected, "UNDEFINED"):
            scope.fail(f"attribute `{name}` of `{node.op_type}` is {found}, must be {expected}", node=label)
    for what, count, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            bounds = str(least) if least == most else f"{least} to {most}"
            scope.fail(f"`{node.op_type}` has {count} {what}, must have {bounds}", node=label)


@lru_cache(maxsize=4096)
def _schema(op: str, domain: str, version: int | None) -> onnx.defs.OpSchema | None:
    """The schema of an op, or None for one that ONNX does not define: custom ops and ONNX Runtime's own."""
    if version is None:
        return None
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


def _check_acyclic(nodes: Sequence[onnx.NodeProto], scope: Scope) -> None:
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    before = {
        index: {producer[name] for name in reads_of(node) if name in producer}
        for index, node in enumerate(nodes)
    }
    if all(index > max(needed, default=-1) for index, needed in before.items()):
        return
    try:
        graphlib.TopologicalSorter(before).prepare()
    except graphlib.CycleError as error:
        cycle = list(dict.fromkeys(error.args[1]))
        path = " -> ".join(label_of(nodes[index]) for index in error.args[1][:7])
        scope.fail(
            f"{len(cycle)} nodes depend on each other in a cycle: {path}", node=label_of(nodes[cycle[0]])
        )


def reads_of(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, those that its subgraphs read from around them included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in subgraphs_of(attribute):
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            yield from (name for inner in graph.node for name in reads_of(inner) if name not in own)


def subgraphs_of(attribute: onnx.AttributeProto) -> tuple[onnx.GraphProto, ...]:
    """The graphs that an attribute holds: none, one (``then_branch``) or several."""
    single = (attribute.g,) if attribute.HasField("g") else ()
    return (*single, *attribute.graphs)


def _check_types(graph: onnx.GraphProto, scope: Scope) -> None:
    hint = "remove it from the model (for a classifier from scikit-learn: export with zipmap=False)"
    for value in graph.input:
        kind = value.type.WhichOneof("value")
        if kind not in ("tensor_type", None):
            name = kind.removesuffix("_type").replace("_", " ")
            scope.fail(f"graph input `{value.name}` is a {name}, only tensors are supported", help=hint)
    for value in (*graph.output, *graph.value_info):
        if _holds_map(value.type):
            scope.fail(f"value `{value.name}` is or holds a map, which is not supported", help=hint)


def _holds_map(kind: onnx.TypeProto) -> bool:
    which: str | None = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return _holds_map(getattr(kind, which).elem_type)
    return which == "map_type"


def _check_unique(names: Sequence[str], what: str, scope: Scope) -> None:
    if not all(isinstance(name, str) for name in names):
        scope.fail(f"{what} name that is not UTF-8 text")
    if len(set(names)) < len(names):
        again = next(name for name, times in Counter(names).items() if times > 1)
        scope.fail(f"{what} `{again}` is defined more than once")


def _check_made_once(nodes: Sequence[onnx.NodeProto], given: Sequence[str], scope: Scope) -> None:
    """Each value has one source: a node, or an input or initializer of the graph."""
    _check_unique(given, "value", scope)
    source = dict.fromkeys(given, "an input or initializer of the graph")
    for node in nodes:
        for name in filter(None, node.output):
            if not isinstance(name, str):
                scope.fail("value name that is not UTF-8 text", node=label_of(node))
            if name in source:
                scope.fail(f"value `{name}` is already made by {source[name]}", node=label_of(node))
            source[name] = f"node `{label_of(node)}`"


def label_of(node: onnx.NodeProto) -> str:
    """What messages call a node: its name, or its op type and first output."""
    return node.name or f"{node.op_type} -> {next(iter(node.output), '?')}"


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
