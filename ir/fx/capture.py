"""Captures an ``nn.Module`` with ``torch.export``, ready to be pruned and trained on."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.fx.evidence import record_evidence
from prunec.ir.fx.facts import unlogged
from prunec.ir.fx.importer import import_program
from prunec.ir.module import Module, Source

_MISFIT = (
    "do the example inputs have the shapes and types that the module takes? module(*example_inputs) must run"
)

_HINTS = (
    (
        "data-dependent",
        "a size or a branch depends on the contents of a tensor; compute both sides, and choose with torch.where",
    ),
    (
        "control flow",
        "branches on tensors cannot be captured; compute both sides, and choose with torch.where",
    ),
    (
        "constraints violated",
        "the module fixes a size that is meant to be dynamic, or the example has size 1 there, which is always fixed: "
        "give examples of size 2 or more along dynamic axes",
    ),
    ("item()", "a number is read out of a tensor; keep it a tensor, or make it an argument"),
    ("dynamic_shapes", "the dynamic shapes do not fit the arguments, or the module fixes one of the sizes"),
    ("specialized", "the module fixes a size that is meant to be dynamic; leave it out of dynamic_shapes"),
    ("unsupported input type", "inputs are tensors, numbers, and lists, tuples and dicts of them"),
    ("same device", "the inputs must lie on the CPU, as the module does: x.cpu()"),
    (".numpy() is not supported", "numpy works outside of the graph; use the operator of torch"),
    ("shape", _MISFIT),
    ("size of tensor", _MISFIT),
    ("reduction dim", _MISFIT),
    ("expected input", _MISFIT),
    ("same dtype", _MISFIT),
    ("should be the same", _MISFIT),
    ("does not match weight dtype", _MISFIT),
    ("scalar type", _MISFIT),
    ("embedding dimension", _MISFIT),
    ("input size", _MISFIT),
    ("positional argument", "example_inputs must be a tuple that `forward` accepts"),
    ("required argument", "example_inputs and kwargs must be what `forward` accepts"),
    ("keyword argument", "example_inputs and kwargs must be what `forward` accepts"),
    ("fake_impl", "a custom operator needs torch.library.register_fake to be captured"),
)


def capture(
    module: torch.nn.Module,
    example_inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> Module:
    """Capture a module; see :func:`prunec.ir.fx.entry.trace`."""
    if not isinstance(module, torch.nn.Module):
        what = f"the class `{module.__name__}`" if isinstance(module, type) else type_of(module)
        exported = isinstance(module, torch.export.ExportedProgram)
        _refuse(
            f"only an nn.Module can be captured, got {what}",
            "its module() is one" if exported else "give an instance of a subclass of nn.Module",
        )
    _check_module(module)
    if not isinstance(example_inputs, tuple):
        raise UserError(
            f"example_inputs is {type_of(example_inputs)}, must be a tuple of positional arguments",
            help=["write (x,) for a single one"],
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UserError(
            f"kwargs is {type_of(kwargs)}, must be a mapping of keyword arguments",
            help=["write {'mask': mask} for forward(x, mask=mask)"],
        )
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused op would hide the attention of torch.nn
    try:
        with _without_partial_graph(), unlogged():
            program = torch.export.export(
                module,
                example_inputs,
                dict(kwargs or {}),
                dynamic_shapes=dynamic_shapes,
                strict=False,  # older releases have another default, which hides the user's lines
            )
    except Exception as error:
        raise _not_captured(module, error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    name = f"<{type(module).__name__}>"
    captured = import_program(program, training=module.training, source=Source(name=name))
    record_evidence(captured.model)
    return captured


@contextmanager
def _without_partial_graph() -> Iterator[None]:
    """Leave out of stderr the graph that torch could not finish: thousands of lines in front of the reason."""
    held, partial = io.StringIO(), None
    try:
        with redirect_stderr(held):
            yield
    except Exception as error:
        partial = getattr(error, "partial_fx_graph", None)
        raise
    finally:
        said = held.getvalue()
        sys.stderr.write(said if partial is None else said.replace(f"{partial}\n", ""))


def _check_module(module: torch.nn.Module) -> None:
    """Refuse what could be captured but not pruned, by name."""
    kind = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        _refuse(f"`{kind}` is a TorchScript module, which torch.export cannot capture", "give the nn.Module")
    inner = {"DataParallel": ".module", "DistributedDataParallel": ".module", "OptimizedModule": "._orig_mod"}
    if kind in inner:
        _refuse(f"`{kind}` is a wrapper around a module", f"give the module inside it: model{inner[kind]}")
    for name, part in module.named_modules():
        if "quantized" in type(part).__module__.split("."):
            _refuse(f"module `{name}` is quantised ({type(part).__name__})", "prune before quantising")
    for name, tensor in _tensors(module):
        if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
            _refuse(
                f"`{name}` has no size yet: its layer is lazy", "run the module once: module(*example_inputs)"
            )
        if tensor.is_sparse:
            _refuse(f"`{name}` is a sparse tensor ({tensor.layout})", "make it dense: tensor.to_dense()")
        if tensor.device.type == "meta":
            _refuse(f"`{name}` is on the meta device: it has no values", "load the weights first")
        if tensor.device.type != "cpu":
            _refuse(f"`{name}` is on device `{tensor.device}`", "move the module to the CPU: module.cpu()")
        if tensor.is_quantized:
            _refuse(f"`{name}` is quantised ({tensor.dtype})", "prune before quantising")


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _refuse(message: str, help: str) -> None:
    raise UserError(message, help=[help])


def _not_captured(module: torch.nn.Module, error: Exception) -> UserError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    reason = reason.rstrip(".")
    text = str(error).lower()
    hints = [
        hint for word, hint in _HINTS if word.lower() in text or word.lower() in type(error).__name__.lower()
    ]
    line = users_line(error)
    return UserError(
        f"torch.export cannot capture `{type(module).__name__}`: {reason[:1].lower()}{reason[1:]}",
        place=line,
        notes=[f"{type(error).__module__}.{type(error).__qualname__}"],
        help=hints[:1] or ["see what torch.export.export(module, example_inputs) says by itself"],
    )


def users_line(error: BaseException) -> Place | None:
    """The innermost line of the user's own code that an error went through, None where it is in none."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _is_own(frame.filename) and frame.lineno is not None
    ]
    return Place(file=Path(own[-1].filename).name, line=own[-1].lineno) if own else None


_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).resolve().parents[2] / "ir"))


def _is_own(file: str) -> bool:
    library = "site-packages" in file or file.startswith("<") or "/lib/python" in file
    ours = Path(file).resolve().is_relative_to(_LIBRARIES[1]) or file.startswith(_LIBRARIES[0])
    return not library and not ours
