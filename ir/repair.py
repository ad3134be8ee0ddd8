"""Puts right what ONNX Runtime tolerates in a ``ModelProto`` and the IR cannot hold, each with a remark.

Files in the wild lack imports of domains that they use, do not list an initializer as an input where their IR version
demands it, give several nodes one name, and keep weights as sparse tensors. None of that says that the model
is wrong. What could mean two things is not repaired but refused, in :mod:`prunec.ir.structure`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from prunec.ir.diagnostics import Place, Remark, UserError
from prunec.ir.runtime import newest_opset

LARGEST_DENSE = 2**31
"""Bytes up to which a sparse tensor is made dense."""
_LISTED_BELOW = 4
"""IR version from which on initializers need not be inputs."""


def repair(proto: onnx.ModelProto, *, file: str) -> tuple[Remark, ...]:
    """Repair a model in place.

    Args:
        proto: the model; the main graph's weights may be missing.
        file: what messages call it.

    Returns:
        A remark for each kind of repair.

    Raises:
        UserError: a sparse tensor is damaged or too large.
    """
    job = _Repair(proto=proto, file=file)
    job.add_imports()
    job.make_dense()
    job.raise_ir_version()
    return tuple(job.remarks)


def may_need_repair(proto: onnx.ModelProto) -> bool:
    """Whether :func:`repair` might change something: an object of the user's is copied before."""
    graphs = list(_graphs(proto.graph))
    labels = [node.name for node in proto.graph.node if node.name]
    used = {_domain(node.domain) for graph in graphs for node in graph.node}
    sparse = any(a.HasField("sparse_tensor") for g in graphs for node in g.node for a in node.attribute)
    return (
        sparse
        or any(graph.sparse_initializer for graph in graphs)
        or len(set(labels)) < len(labels)
        or not used <= {_domain(entry.domain) for entry in proto.opset_import}
        or proto.ir_version < _LISTED_BELOW
    )


@dataclass(slots=True, kw_only=True)
class _Repair:
    proto: onnx.ModelProto
    file: str
    remarks: list[Remark] = field(default_factory=list)

    def note(self, message: str, *, node: str | None = None) -> None:
        self.remarks.append(Remark(kind="analysis", origin="load", message=message, node=node))

    def add_imports(self) -> None:
        """A domain that is used and not imported has the version that ONNX Runtime takes: its newest."""
        imported = {_domain(entry.domain) for entry in self.proto.opset_import}
        if not imported:  # no runtime takes such a file from IR version 3 on; before, it means opset 1
            return
        own = {_domain(function.domain) for function in self.proto.functions}
        used = {_domain(node.domain) for graph in _graphs(self.proto.graph) for node in graph.node}
        for domain in sorted(used - imported - own):
            version = newest_version(domain)
            if version is not None:
                self.proto.opset_import.append(helper.make_opsetid(domain, version))
                name = f"domain `{domain}`" if domain else "the default domain"
                self.note(f"the model uses {name} and does not import it: version {version} is assumed")

    def make_dense(self) -> None:
        """Sparse initializers and constants."""
        for graph in _graphs(self.proto.graph):
            for sparse in graph.sparse_initializer:
                graph.initializer.append(self._dense(sparse, sparse.values.name))
            del graph.sparse_initializer[:]
            for node in graph.node:
                for attribute in node.attribute:
                    if node.op_type == "Constant" and attribute.HasField("sparse_tensor"):
                        dense = self._dense(attribute.sparse_tensor, next(iter(node.output), ""))
                        attribute.CopyFrom(helper.make_attribute("value", dense))

    def _dense(self, sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
        shape = tuple(sparse.dims)
        try:
            values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
            if min(shape, default=0) < 0 or prod(shape) * values.dtype.itemsize > LARGEST_DENSE:
                raise ValueError(f"shape {list(shape)} is no shape, or too large")
            array = np.zeros(shape, values.dtype)
            where = np.unravel_index(indices, shape) if indices.ndim == 1 else tuple(indices.T)
            array[where] = values
        except (ValueError, IndexError, TypeError) as error:
            raise UserError(
                f"sparse tensor `{name}` cannot be read: {str(error).lower().rstrip('.')}",
                place=Place(file=self.file),
            ) from error
        self.note(f"sparse tensor `{name}` {list(shape)} is made dense: pruning cuts dense ones", node=name)
        return numpy_helper.from_array(array, name)

    def raise_ir_version(self) -> None:
        """IR version 3 wants every initializer among the inputs; later ones do not."""
        graph = self.proto.graph
        unlisted = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
        old = self.proto.ir_version
        if unlisted and 0 < old < _LISTED_BELOW:
            self.proto.ir_version = _LISTED_BELOW
            self.note(
                f"IR version {old} wants every initializer among the inputs, and {len(unlisted)} are not: "
                f"raised to {_LISTED_BELOW}"
            )


def rename_nodes(proto: onnx.ModelProto) -> tuple[Remark, ...]:
    """Give nodes of one name numbers, in place; a remark for each name."""
    times = Counter(node.name for node in proto.graph.node if node.name)
    taken = set(times)
    seen: set[str] = set()
    for node in proto.graph.node:
        if times[node.name] > 1:
            old = node.name
            node.name = _free(old, taken) if old in seen else old
            seen.add(old)
    return tuple(
        Remark(
            kind="analysis",
            origin="load",
            message=f"{count} nodes are called `{name}`: all but the first got numbers",
            node=name,
        )
        for name, count in times.items()
        if count > 1
    )


def newest_version(domain: str) -> int | None:
    """The version of a domain that ONNX Runtime takes where none is imported; None for a domain of others.

    >>> newest_version("com.microsoft"), newest_version("com.acme")
    (1, None)
    """
    if domain == "":
        return newest_opset()
    if domain == "com.microsoft":
        return 1
    return int(onnx.defs.onnx_ml_opset_version()) if domain == "ai.onnx.ml" else None


def _free(name: str, taken: set[str]) -> str:
    """A name with the smallest number behind it that no node has."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that its nodes hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            nested: Iterable[onnx.GraphProto] = attribute.graphs
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *nested):
                yield from _graphs(inner)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
