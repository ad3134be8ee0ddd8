"""Cuts the user's own module: tensors by name, and the attributes that hold sizes; then proves the result.

The attributes of ``torch``'s layers follow from their weights. Those of the user's modules (``num_heads``,
``hidden_size``) are found through the graph (:mod:`prunec.ir.fx.resizing`). Whether that was right is not guessed:
the module has to compute what the graph module computes (:mod:`prunec.ir.fx.proof`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir
import torch
from torch import nn

from prunec.ir.callables import type_of
from prunec.ir.diagnostics import UserError
from prunec.ir.fx.capture import users_line
from prunec.ir.fx.evidence import require_as_captured
from prunec.ir.fx.proof import IN_TRAINING, Failure, Proof
from prunec.ir.fx.resizing import Literal, Sizes, changed_literals, choose_sizes, holders, plain, wanted_sizes
from prunec.ir.fx.signature import STATE, State, signature_of
from prunec.ir.fx.sizes import is_size, set_size, sizes_of
from prunec.ir.fx.tensors import unwrap
from prunec.ir.fx.training.masks import require_masks_hold
from prunec.ir.module import Module


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
    literals = list(changed_literals(result))
    proof, undo = Proof(result, module), _Undo.of(module)

    def failure_with(sizes: Sizes) -> Failure | None:
        """What is wrong with the module if these attributes follow."""
        try:
            _cut(module, states, sizes)
            return proof.failure(module)
        finally:
            undo.restore()

    sizes = choose_sizes(module, wanted_sizes(module, literals), failure_with)
    if isinstance(sizes, dict):
        _cut(module, states, sizes)
        return list(undo.resized(module))
    if taken := [n for n in signature_of(result.model).tensors if n not in result.graph.initializers]:
        raise _other_structure(
            module, f"a pass took `{taken[0]}` out of the program, and the module computes with it"
        )
    raise _refusal(result, module, literals, sizes)


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


# -- the cut ------------------------------------------------------------


def _cut(module: nn.Module, states: Mapping[str, torch.Tensor], sizes: Sizes) -> None:
    """Give a module its tensors, and the sizes that go with them."""
    _cut_tensors(module, states)
    for (path, name), value in sizes.items():
        set_size(module.get_submodule(path), name, value)
    _set_layers(module)


def _set_layers(module: nn.Module) -> None:
    for layer in module.modules():
        for name, value in sizes_of(layer):
            if plain(getattr(layer, name)) != value:
                set_size(layer, name, value)


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


# -- refusals ------------------------------------------------------------


def _other_structure(module: nn.Module, reason: str) -> UserError:
    return UserError(
        f"`{type(module).__name__}` cannot be cut in place: the program has other layers now",
        notes=[reason],
        help=["result.to_torch() is a module of these layers; or leave out the pass (fold-norm)"],
    )


def _plain_tensors(result: Module, module: nn.Module) -> Iterator[str | None]:
    """What would have to be cut and is no state of the module: the names of attributes, None for any other."""
    for name, value in result.graph.initializers.items():
        state: State | None = value.meta.get(STATE)
        if state is not None and state.kind == "literal" and _was_cut(value, state):
            path, _, last = name.rpartition(".")
            yield name if last in vars(module.get_submodule(path)) else None


def _was_cut(value: onnx_ir.Value, state: State) -> bool:
    return value.shape is not None and state.shape != tuple(value.shape.numpy())


def _attentions_that_lose_heads(result: Module) -> list[str]:
    """Paths of attentions of which a part of the heads would go."""
    return [
        name.rpartition(".")[0]
        for name, value in result.graph.initializers.items()
        if name.endswith("in_proj_weight")
        and isinstance(state := value.meta.get(STATE), State)
        and _was_cut(value, state)
        and value.shape is not None
        and value.shape[1] == state.shape[1]
    ]


def _what_holds_it_back(tensors: Sequence[str | None], attentions: Sequence[str]) -> Iterator[str]:
    """What to do about what is known to keep sizes outside of parameters, buffers and numbers."""
    for name in tensors:
        what = "the code holds a tensor" if name is None else f"`{name}` is a plain tensor"
        yield f"{what} that would have to be cut: make it self.register_buffer(name, tensor)"
    if attentions:
        more = f" and {len(attentions) - 1} more" if len(attentions) > 1 else ""
        yield (
            f"`{attentions[0]}`{more}: an nn.MultiheadAttention cannot lose heads while its embedding is pinned; "
            f"prune-channels{{ignore=*{attentions[0].rpartition('.')[2]}.*}} leaves it alone"
        )


def _refusal(result: Module, module: nn.Module, literals: Sequence[Literal], failure: Failure) -> UserError:
    """What could not be changed, and where it stands."""
    unresolved = [str(x) for x in literals if isinstance(x.old, int) and not holders(module, x)]
    place, said = None, failure
    if isinstance(failure, Exception):
        place = users_line(failure)
        mode = f"{IN_TRAINING} " if IN_TRAINING in getattr(failure, "__notes__", ()) else ""
        said = f"{mode}{type(failure).__name__}: {(str(failure).strip().splitlines() or [''])[0]}"
    tensors, attentions = list(_plain_tensors(result, module)), _attentions_that_lose_heads(result)
    named = next((f", `{name}`" for name in tensors if name is not None), "")
    if tensors:
        cause, way = f"it computes with a tensor that is neither parameter nor buffer{named}", None
    elif unresolved or attentions or isinstance(failure, Exception):
        cause, way = "its code holds sizes that no attribute changes", _ATTRIBUTES
    else:
        cause, way = (
            "its code does not follow the cut, or its mode, as the captured program does",
            _ATTRIBUTES,
        )
    return UserError(
        f"`{type(module).__name__}` cannot be cut in place: {cause}",
        place=place,
        notes=[str(said), *dict.fromkeys(unresolved[:4])],
        help=[
            *_what_holds_it_back(tensors, attentions),
            *([] if way is None else [way]),
            "result.to_torch() gives a module that needs no change of the code",
        ],
    )


_ATTRIBUTES = "make these numbers attributes of their module, or leave its groups alone with `ignore`"
