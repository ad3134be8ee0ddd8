"""Cuts the user's own module: tensors by name, and the attributes that hold sizes; then proves the result.

The attributes of ``torch``'s layers follow from their weights. Those of the user's modules (``num_heads``,
``hidden_size``) are found through the graph: a literal that the cut changed stands in a call that some module
made, and an attribute of that module, or of one around it, that holds the old number gets the new one. Whether
that was right is not guessed: the module has to compute what the graph module computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir
import torch
from torch import nn
from torch.utils import _pytree as pytree

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import UserError
from prunec.ir.fx.capture import users_line
from prunec.ir.fx.contents import state_kept
from prunec.ir.fx.draws import drawn_alike, draws
from prunec.ir.fx.evidence import require_as_captured
from prunec.ir.fx.feeds import example_feeds
from prunec.ir.fx.lower import lower_switchable
from prunec.ir.fx.signature import CAPTURED, STATE, State, signature_of
from prunec.ir.fx.sizes import is_size, set_size, sizes_of
from prunec.ir.fx.tensors import from_array, unwrap
from prunec.ir.fx.training.masks import require_masks_hold
from prunec.ir.location import module_path, source_of
from prunec.ir.module import Module

TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest magnitude of an output."""


def write_back(result: Module, module: nn.Module) -> list[Resized]:
    """Cut a module in place, or leave it as it is.

    Args:
        result: the program after the passes; the module gets its values.
        module: the module that the program was captured from.

    Returns:
        The attributes that were changed.

    Raises:
        UserError: the module is another one, changed since the capture, has masks kept on it that the result
            does not fit, or cannot be cut; nothing is changed.
    """
    if not isinstance(module, nn.Module):
        raise UserError(
            f"only an nn.Module can be cut in place, got {type_of(module)}",
            help=["give the module that was captured"],
        )
    states = _states(result, module)
    require_masks_hold(module, states)
    literals = list(_changed_literals(result))
    wanted = _wanted_sizes(module, literals)
    undo = _Undo.of(module)

    def failure_with(sizes: _Sizes) -> Exception | str | None:
        """What is wrong with the module if these attributes follow; None leaves it cut."""
        _cut_tensors(module, states)
        for (path, name), value in sizes.items():
            set_size(module.get_submodule(path), name, value)
        _set_layers(module)
        failure = _difference(result, module)
        if failure is not None:
            undo.restore()
        return failure

    first = failure_with(wanted)
    if first is None:
        undo.restore()
        _cut_with_fewest(wanted, failure_with, undo)
        return list(undo.resized(module))
    for sizes in _fewer(wanted):
        if failure_with(sizes) is None:
            return list(undo.resized(module))
    if taken := [n for n in signature_of(result.model).tensors if n not in result.graph.initializers]:
        raise _other_structure(
            module, f"a pass took `{taken[0]}` out of the program, and the module computes with it"
        )
    raise _refusal(result, module, literals, first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """An attribute that holds a size and was changed.

    Attributes:
        path: of the module that has it.
        name: its name.
        old: before the cut.
        new: after it.
    """

    path: str
    name: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{f'{self.path}.{self.name}'.lstrip('.')} {self.old} -> {self.new}"


_Sizes = dict[tuple[str, str], Any]
"""New values of attributes, by path of the module and name."""


def _cut_with_fewest(
    sizes: _Sizes, failure_with: Callable[[_Sizes], Exception | str | None], undo: _Undo
) -> None:
    """Cut with those attributes alone that are needed: another number may be equal by chance."""
    for key in list(sizes):
        fewer = {k: v for k, v in sizes.items() if k != key}
        if failure_with(fewer) is None:
            undo.restore()
            sizes = fewer
    failure_with(sizes)


def _fewer(sizes: _Sizes) -> Iterator[_Sizes]:
    """No attributes, each alone, and all but one."""
    yield {}
    for key, value in sizes.items():
        yield {key: value}
    for key in sizes:
        yield {k: v for k, v in sizes.items() if k != key}


def _states(result: Module, module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers of the result, by name, all of which the module must have as captured."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    own: dict[str, torch.Tensor] = {**parameters, **dict(module.named_buffers(remove_duplicate=False))}
    states: dict[str, torch.Tensor] = {}
    made: list[str] = []
    for name, value in result.graph.initializers.items():
        state: State | None = value.meta.get(STATE)
        if state is None or state.kind == "literal" or value.const_value is None:
            continue
        if name not in own and name not in signature_of(result.model).tensors:
            made.append(name)
            continue
        if name not in own or tuple(own[name].shape) != state.shape:
            has = f"has shape {list(own[name].shape)} in" if name in own else "is missing in"
            raise UserError(
                f"`{name}` {has} `{type(module).__name__}`, it was captured with shape {list(state.shape)}",
                help=["give the module that was captured, before any cut"],
            )
        states[name] = unwrap(value.const_value)
    if made:
        raise _other_structure(module, f"a pass gave the program `{made[0]}`, which the module lacks")
    require_as_captured(result.model, own)
    return states


# -- sizes in the code ------------------------------------------------------------


_EVERYTHING = 2**31
"""Numbers from here on are no sizes: the end of an open slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """A number, or a list of numbers, that a cut changed in a call.

    Attributes:
        node: the call.
        path: of the module whose code made the call.
        old: before the cut.
        new: after it.
    """

    node: onnx_ir.Node
    path: str
    old: int | tuple[int, ...]
    new: int | tuple[int, ...]

    def __str__(self) -> str:
        where = source_of(self.node) or self.path
        return f"{where}: `{self.node.op_type.partition('.')[0]}` has {self.old}, needs {self.new}"


def _changed_literals(result: Module) -> Iterator[Literal]:
    """The numbers of all calls that are not what they were at the capture, lists entry by entry too."""
    for node in result.graph:
        before: Mapping[str, onnx_ir.Attr] = node.meta.get(CAPTURED) or {}
        path = module_path(node) or ""
        for name, attribute in node.attributes.items():
            if name not in before or before[name].value == attribute.value:
                continue
            old, new = before[name].value, attribute.value
            if isinstance(old, int) and old < _EVERYTHING:
                yield Literal(node=node, path=path, old=old, new=int(new))
            elif not isinstance(old, int) and len(old) == len(new):
                yield Literal(node=node, path=path, old=tuple(old), new=tuple(new))
                for a, b in zip(old, new, strict=True):
                    if a != b and 0 < a < _EVERYTHING:
                        yield Literal(node=node, path=path, old=int(a), new=int(b))


def _wanted_sizes(module: nn.Module, literals: Sequence[Literal]) -> _Sizes:
    """Attributes that hold an old number, with the new one, where all calls agree on it."""
    wanted: dict[tuple[str, str], set[int | tuple[int, ...]]] = {}
    for literal in literals:
        for name in _holders(module, literal):
            wanted.setdefault((literal.path, name), set()).add(literal.new)
        layer = module.get_submodule(literal.path)
        if isinstance(layer, nn.MultiheadAttention) and literal.old == layer.embed_dim:
            # Its calls hold the number of heads times the batch, which no attribute does.
            heads, rest = divmod(int(literal.new), layer.head_dim)  # type: ignore[arg-type]
            if heads and not rest:
                wanted.setdefault((literal.path, "num_heads"), set()).add(heads)
    return {key: values.pop() for key, values in wanted.items() if len(values) == 1}


def _holders(module: nn.Module, literal: Literal) -> list[str]:
    """Names of the attributes that hold a literal's old number."""
    found = vars(module.get_submodule(literal.path))
    return [name for name, held in found.items() if is_size(held) and _plain(held) == literal.old]


def _plain(held: Any) -> Any:
    return tuple(held) if isinstance(held, list | tuple) else held


def _set_layers(module: nn.Module) -> None:
    for layer in module.modules():
        for name, value in sizes_of(layer):
            if _plain(getattr(layer, name)) != value:
                set_size(layer, name, value)


# -- tensors ------------------------------------------------------------


def _cut_tensors(module: nn.Module, states: Mapping[str, torch.Tensor]) -> None:
    """Parameters stay the objects that they are, so that optimizers and ties go on holding them."""
    for name, tensor in states.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        held = getattr(owner, last)
        if held.shape == tensor.shape and held.data_ptr() == tensor.data_ptr():
            continue
        if isinstance(held, nn.Parameter):
            _replace(held, tensor.clone())
        else:
            setattr(owner, last, tensor.clone())


def _replace(parameter: nn.Parameter, tensor: torch.Tensor) -> None:
    """Give a parameter another tensor. The detour over another type makes autograd forget the old shape, which
    it remembers for as long as some old loss is alive.
    """
    parameter.grad = None
    detour = torch.int8 if not tensor.dtype.is_floating_point else torch.float64
    parameter.data = torch.empty(0, dtype=torch.float32 if tensor.dtype == detour else detour)
    parameter.data = tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Undo:
    """What a module was before it was cut."""

    parameters: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor | None]]
    buffers: list[tuple[nn.Module, dict[str, torch.Tensor | None]]]
    sizes: list[tuple[nn.Module, dict[str, Any]]]

    @classmethod
    def of(cls, module: nn.Module) -> _Undo:
        """Remember a module."""
        return cls(
            parameters=[(p, p.data, p.grad) for p in module.parameters()],
            buffers=[(m, dict(m._buffers)) for m in module.modules()],
            sizes=[(m, {n: v for n, v in vars(m).items() if is_size(v)}) for m in module.modules()],
        )

    def resized(self, module: nn.Module) -> Iterator[Resized]:
        """The attributes that are not what they were, in the order of the module's parts."""
        paths = {part: path for path, part in module.named_modules()}
        for owner, sizes in self.sizes:
            for name, old in sizes.items():
                if (new := vars(owner)[name]) != old:
                    yield Resized(path=paths[owner], name=name, old=old, new=new)

    def restore(self) -> None:
        """Make it what it was."""
        for parameter, data, gradient in self.parameters:
            _replace(parameter, data)
            parameter.grad = gradient
        for owner, buffers in self.buffers:
            owner._buffers.update(buffers)
        for owner, sizes in self.sizes:
            vars(owner).update(sizes)


# -- proof ------------------------------------------------------------


def _difference(result: Module, module: nn.Module) -> Exception | str | None:
    """How a module differs from the program when both run: an error, a text, or None where they agree."""
    # Code that draws in training alone was captured so, and its program draws in evaluation, too.
    training = module.training and signature_of(result.model).training and draws(result.model)
    try:
        with torch.no_grad(), state_kept(module):
            expected = pytree.tree_leaves(_run(result, lower_switchable(result.model).train(training)))
            actual = pytree.tree_leaves(_run(result, module if training else module.eval()))
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything on sizes that it does not know
        return error
    for position, (a, b) in enumerate(zip(actual, expected, strict=False)):
        if isinstance(b, torch.Tensor) and (off := _relative_error(a, b)) > TOLERANCE:
            return f"result {position} differs by {off:.1e} (relative), allowed is {TOLERANCE:.0e}"
    return None if len(actual) == len(expected) else "it returns another number of results"


def _run(result: Module, program: nn.Module) -> Any:
    feeds = example_feeds(result, seed=1)
    signature = signature_of(result.model)
    leaves = [a.example if a.name is None else from_array(feeds[a.name]).clone() for a in signature.arguments]
    args, kwargs = pytree.tree_unflatten(leaves, signature.in_spec)
    with drawn_alike():
        return program(*args, **kwargs)


def _relative_error(actual: Any, expected: torch.Tensor) -> float:
    if not isinstance(actual, torch.Tensor) or actual.shape != expected.shape:
        return float("inf")
    a, b = actual.double(), expected.double()
    scale = max(float(b.abs().max()), 1e-3) if b.numel() else 1.0
    return float((a - b).abs().max()) / scale if b.numel() else 0.0


def _other_structure(module: nn.Module, reason: str) -> UserError:
    return UserError(
        f"`{type(module).__name__}` cannot be cut in place: the program has other layers now",
        notes=[reason],
        help=["result.to_torch() is a module of these layers; or leave out the pass (fold-norm)"],
    )


def _what_holds_it_back(result: Module, module: nn.Module) -> Iterator[str]:
    """What is known to keep sizes outside of parameters, buffers and numbers."""
    attentions = []
    for name, value in result.graph.initializers.items():
        state: State | None = value.meta.get(STATE)
        if state is None or value.shape is None or state.shape == tuple(value.shape.numpy()):
            continue
        path, _, last = name.rpartition(".")
        if state.kind == "literal":
            held = last in vars(module.get_submodule(path))
            what = f"`{name}` is a plain tensor" if held else "the code holds a tensor"
            yield f"{what} that would have to be cut: make it self.register_buffer(name, tensor)"
        elif last == "in_proj_weight" and value.shape[1] == state.shape[1]:
            attentions.append(path)
    if attentions:
        more = f" and {len(attentions) - 1} more" if len(attentions) > 1 else ""
        yield (
            f"`{attentions[0]}`{more}: an nn.MultiheadAttention cannot lose heads while its embedding is pinned; "
            f"prune-channels{{ignore=*{attentions[0].rpartition('.')[2]}.*}} leaves it alone"
        )


def _refusal(
    result: Module, module: nn.Module, literals: Sequence[Literal], failure: Exception | str
) -> UserError:
    """What could not be changed, and where it stands."""
    unresolved = [
        text for x in literals if isinstance(x.old, int) and not _holders(module, x) for text in [str(x)]
    ]
    if isinstance(failure, Exception):
        place = users_line(failure)
        reason = f"{type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}"
    else:
        place, reason = None, failure
    return UserError(
        f"`{type(module).__name__}` cannot be cut in place: its code holds sizes that no attribute changes",
        place=place,
        notes=[reason, *dict.fromkeys(unresolved[:4])],
        help=[
            *_what_holds_it_back(result, module),
            "make these numbers attributes of their module, or leave its groups alone with `ignore`",
            "result.to_torch() gives a module that needs no change of the code",
        ],
    )
