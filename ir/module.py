"""The unit that passes work on: an ``onnx_ir.Model`` and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import Remark, UserError


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


def require_module(given: object) -> None:
    """Raise a UserError that says how to come to a module unless something is one."""
    if not isinstance(given, Module):
        raise not_a_module(given)


def not_a_module(given: object) -> UserError:
    """What is said of something that is neither a module nor can be loaded as one."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(given).__mro__}
    name = type(given).__name__
    if ("torch", "Module") in kinds:
        return UserError(
            f"`{name}` is a torch module: capture it first",
            help=["captured = prunec.trace(module, example_inputs)"],
        )
    if ("torch", "ExportedProgram") in kinds:
        return UserError(
            "a program of torch.export cannot be taken as it is",
            help=[
                "prunec.trace(program.module(), example_inputs), or torch.export.save it and load the file"
            ],
        )
    if isinstance(getattr(given, "module", None), Module):
        return UserError(f"{type_of(given)} holds a module and is none", help=["give its attribute `module`"])
    return UserError(
        f"this takes a module, got {type_of(given)}",
        help=[
            "prunec.load gives one of a path, onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph",
            "prunec.trace gives one of a torch module",
        ],
    )


def opset_of(graph: onnx_ir.Graph, domain: str) -> int:
    """The version of a domain's operator set that a graph imports; the default domain's where it imports
    none.
    """
    imports = graph.opset_imports
    default = imports.get("", imports.get("ai.onnx", 1))
    return imports.get(domain, default) if domain not in ("", "ai.onnx") else default
