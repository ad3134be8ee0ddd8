"""What a captured program has around its graph: how a caller passes arguments, and what came as an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx_ir
import torch
from torch.utils import _pytree as pytree

SIGNATURE = "prunec.fx.signature"
"""Key in ``Graph.meta``: the :class:`Signature`."""

STATE = "prunec.fx.state"
"""Key in ``Value.meta`` of an initializer: the :class:`State` that it is."""

FAKE = "prunec.fx.fake"
"""Key in ``Value.meta``: the stand-in without contents, with symbolic sizes, that the capture made of a value."""

CAPTURED = "prunec.fx.captured"
"""Key in ``Node.meta``: the attributes of the node as it was captured, by name."""

READ = "prunec.fx.read"
"""Key in ``Node.meta``: the names of what the node read as it was captured."""

GRAD = "prunec.fx.no_grad"
"""Key in ``Node.meta``: the node ran with gradients switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A tensor that a program owns.

    Attributes:
        kind: a parameter, a buffer (of the state dict, or of none), or a literal of the program.
        shape: at the capture.
        trained: whether a parameter wants a gradient.
    """

    kind: Literal["parameter", "buffer", "transient", "literal"]
    shape: tuple[int, ...] = ()
    trained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One leaf of a program's inputs.

    Attributes:
        name: of the graph input; None for a leaf that is no tensor.
        example: the tensor that it was captured with, or the constant.
    """

    name: str | None
    example: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How a program is called and what it returns.

    Attributes:
        names: of the positional arguments of ``forward``.
        in_spec: structure of ``(args, kwargs)``.
        out_spec: structure of the result.
        arguments: the leaves of the inputs, in order.
        results: the leaves of the result: position among the graph's outputs, or a constant.
        dynamic: per tensor argument the dynamic axes, as {axis: (symbol, smallest, largest)}.
        training: whether the module was captured in training mode.
        tensors: names of the parameters and buffers that the program reads.
        aliases: the further names of those that are tied.
    """

    names: tuple[str, ...]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    arguments: tuple[Argument, ...]
    results: tuple[tuple[int | None, Any], ...]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    training: bool = False
    tensors: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def examples(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the program was captured with, as positional and keyword arguments."""
        args, kwargs = pytree.tree_unflatten([a.example for a in self.arguments], self.in_spec)
        return tuple(args), dict(kwargs)

    def dynamic_shapes(self) -> Any:
        """The dynamic axes in the form that ``torch.export.export`` takes, None where there are none."""
        if not self.dynamic:
            return None
        leaves = [
            dict.fromkeys(self.dynamic.get(a.name or "", {}), torch.export.Dim.AUTO)
            if isinstance(a.example, torch.Tensor)
            else None
            for a in self.arguments
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self.in_spec)
        if not kwargs:
            return tuple(args)
        return dict(zip(self.names, args, strict=False)) | dict(kwargs)


def signature_of(model: onnx_ir.Model) -> Signature:
    """The signature of a captured program."""
    signature: Signature = model.graph.meta[SIGNATURE]
    return signature
