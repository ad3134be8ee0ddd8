"""The unit that passes work on: an ``onnx_ir.Model`` and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir

from prunec.ir.diagnostics import Remark


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a module came from.

    Attributes:
        name: what messages call it: the path as the user gave it, or ``<memory>``.
        path: the file, or None for a model made in memory.
        sha256: hash of the main file's bytes (None for a model made in memory).
        size: bytes of the main file and its external data together (None for a model made in memory).
        data: real paths of the files that hold its external data.
        made_from: where the model came from that this one was made from by passes; None where it is as it came.
    """

    name: str = "<memory>"
    path: Path | None = None
    sha256: str | None = None
    size: int | None = None
    data: tuple[Path, ...] = ()
    made_from: Source | None = None

    @property
    def original(self) -> Source:
        """Where the model came from before passes changed it."""
        return self if self.made_from is None else self.made_from

    def changed(self) -> Source:
        """The source of what passes made from the model: of the same name, but the content of no file."""
        return Source(name=self.name, made_from=self.original)


@dataclass(slots=True)
class Module:
    """A model in the IR.

    Attributes:
        model: the graph, its functions, opset imports and metadata. Weights stay memory-mapped until a pass
            reads them.
        source: where it came from; used by messages, plans and reports.
        repairs: what was put right in it when it was loaded.
    """

    model: onnx_ir.Model
    source: Source = field(default_factory=Source)
    repairs: tuple[Remark, ...] = ()

    @property
    def graph(self) -> onnx_ir.Graph:
        """The main graph."""
        return self.model.graph

    def clone(self) -> Module:
        """An independent graph over the same (immutable) weight tensors; costs milliseconds, not the weights'
        bytes.
        """
        model = self.model.clone()
        model.model_version = self.model.model_version  # onnx_ir forgets it
        return Module(model, self.source, self.repairs)

    def opset(self, domain: str) -> int:
        """The version of a domain's operator set that the model imports; the default domain's where it
        imports none.
        """
        return opset_of(self.graph, domain)


def opset_of(graph: onnx_ir.Graph, domain: str) -> int:
    """The version of a domain's operator set that a graph imports; the default domain's where it imports
    none.
    """
    imports = graph.opset_imports
    default = imports.get("", imports.get("ai.onnx", 1))
    return imports.get(domain, default) if domain not in ("", "ai.onnx") else default
