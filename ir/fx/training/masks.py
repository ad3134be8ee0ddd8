"""Masks that hold while a module trains, whatever trains it.

A weight that is zero stays zero if every update of it is zero there. Three things see to that: gradients are
zeroed where they are accumulated (so that momentum, second moments and the norm for clipping never see them);
weights are zeroed behind every step of any optimizer of ``torch`` (against momentum from before, and updates that
do not follow from the gradient alone); and again when a state dict is loaded. All of these are hooks: the module, its
parameters, their names and its state dict are what they were.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.optimizer import register_optimizer_step_post_hook

from prunec.ir.diagnostics import UserError, nearest

Bools = NDArray[np.bool_]


class Masks:
    """Masks on the parameters of a module, kept until :meth:`remove` or the end of a ``with`` block.

    They stay with the module also where this object is let go. Copies of the module are not held.

    Args:
        module: the module, on any device.
        keep: per parameter what stays, in its shape.

    Raises:
        UserError: the module has no such parameter, or it has another shape; nothing is changed.
    """

    def __init__(self, module: torch.nn.Module, keep: Mapping[str, Bools]) -> None:
        _check(module, keep)
        self._zeros = _Zeros({name: torch.from_numpy(~mask) for name, mask in keep.items()})
        self._module = weakref.ref(module)
        self._hooked: dict[str, tuple[weakref.ref[torch.nn.Parameter], Any]] = {}
        self._handles: list[Any] = []
        self.hold()

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are held."""
        return tuple(self._zeros.of)

    def hold(self) -> None:
        """Hold the weights again behind :meth:`remove`, as the constructor does for the first time."""
        module = self._module()
        if module is None or self._handles:
            return
        self._handles = [
            module.register_load_state_dict_post_hook(_Reload(self)),
            register_optimizer_step_post_hook(_after_step(weakref.ref(self))),
        ]
        # The module's own hook keeps the masks alive for as long as there is a module.
        self._ended = weakref.finalize(module, _remove, [self._handles[1]])
        self.apply()

    def apply(self) -> None:
        """Set to zero what must be; for an optimizer that is none of ``torch.optim.Optimizer``, after its step."""
        module = self._module()
        if module is None:
            return
        self._zeros.apply(module)
        for name in self.names:
            self._hold_gradient(name, module.get_parameter(name))

    def broken(self) -> dict[str, int]:
        """Per parameter how many weights are not zero although they must be; empty where all holds."""
        module = self._module()
        counts = {} if module is None else self._zeros.count(module)
        return {name: count for name, count in counts.items() if count}

    def remove(self) -> None:
        """Let the weights go; those that are zero stay zero until something changes them."""
        self._ended.detach()
        _remove([*self._handles, *(handle for _, handle in self._hooked.values())])
        self._handles, self._hooked = [], {}

    def __enter__(self) -> Masks:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _hold_gradient(self, name: str, parameter: torch.nn.Parameter) -> None:
        """Zero a parameter's gradient from now on; again where another object has taken the parameter's place."""
        known = self._hooked.get(name)
        if not parameter.requires_grad or (known is not None and known[0]() is parameter):
            return
        zero = _ZeroGradient(self._zeros, name)
        self._hooked[name] = (weakref.ref(parameter), parameter.register_post_accumulate_grad_hook(zero))

    def _owns(self, optimizer: torch.optim.Optimizer) -> bool:
        module = self._module()
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return module is not None and any(id(module.get_parameter(name)) in held for name in self.names)


class _Zeros:
    """Where parameters are zero, on every device that asked for it."""

    def __init__(self, of: Mapping[str, torch.Tensor]) -> None:
        self.of = dict(of)

    def on(self, name: str, device: torch.device) -> torch.Tensor:
        """True where a parameter must be zero; moved along with the parameter."""
        if self.of[name].device != device:
            self.of[name] = self.of[name].to(device)
        return self.of[name]

    def apply(self, module: torch.nn.Module) -> None:
        for name, zero in self.of.items():
            parameter = module.get_parameter(name).detach()
            if parameter.shape != zero.shape:
                raise UserError(
                    f"`{name}` was cut from {list(zero.shape)} to {list(parameter.shape)} while a mask was kept on it",
                    help=["remove() the masks before the cut, and keep those of the new plan"],
                )
            parameter.masked_fill_(self.on(name, parameter.device), 0)

    def count(self, module: torch.nn.Module) -> dict[str, int]:
        """Per parameter how many elements are not zero where they must be."""
        parameters = {name: module.get_parameter(name).detach() for name in self.of}
        return {n: int(torch.count_nonzero(p[self.on(n, p.device)])) for n, p in parameters.items()}


class _ZeroGradient:
    """Zeroes the gradient of one parameter as it comes."""

    def __init__(self, zeros: _Zeros, name: str) -> None:
        self.zeros, self.name = zeros, name

    def __call__(self, updated: torch.Tensor) -> None:
        if updated.grad is not None and updated.grad.layout == torch.strided:
            updated.grad.masked_fill_(self.zeros.on(self.name, updated.grad.device), 0)


class _Reload:
    """Zeroes the weights of a module that has loaded a state dict; in a copy of the module, the copy's."""

    def __init__(self, masks: Masks) -> None:
        self.masks: Masks | None = masks
        self.zeros = masks._zeros

    def __call__(self, module: torch.nn.Module, _: object) -> None:
        if self.masks is None:
            self.zeros.apply(module)
        else:
            self.masks.apply()

    def __deepcopy__(self, _: object) -> _Reload:
        copied: _Reload = _Reload.__new__(_Reload)
        copied.masks, copied.zeros = None, self.zeros
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {"masks": None, "zeros": self.zeros}


def require_masks_hold(module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Raise a UserError where parameters would get values that the masks kept on them do not fit.

    Args:
        module: the module; the masks may be kept on it, on a part of it, or on a module around it.
        values: what its parameters are to be, by name.
    """
    for name, zero in _kept_on(module):
        new = values.get(name)
        if new is None:
            continue
        if new.shape != zero.shape:
            change = f"would be cut from {list(zero.shape)} to {list(new.shape)}"
        elif lost := int(torch.count_nonzero(new.cpu()[zero.cpu()])):
            change = f"would have {lost:,} other values than zero where its mask is"
        else:
            continue
        raise UserError(
            f"`{name}` {change} while masks are kept on `{type(module).__name__}`",
            help=[
                "remove() the masks first, and keep those of the new plan behind the cut",
                "prunec.torch.schedule does both in every step",
            ],
        )


def _kept_on(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names of the parameters that masks are kept on, with where they are zero."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
        yield from ((name, h.zeros.of[h.name]) for h in hooks.values() if isinstance(h, _ZeroGradient))
    for path, part in module.named_modules():  # these know frozen parameters, too
        for hook in part._load_state_dict_post_hooks.values():
            if isinstance(hook, _Reload) and hook.masks is not None:
                yield from ((f"{path}.{name}".lstrip("."), zero) for name, zero in hook.zeros.of.items())


def _after_step(
    masks: weakref.ref[Masks],
) -> Callable[[torch.optim.Optimizer, tuple[Any, ...], dict[Any, Any]], None]:
    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = masks()
        if held is not None and held._owns(optimizer):
            held.apply()

    return hook


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()


def _check(module: torch.nn.Module, keep: Mapping[str, Bools]) -> None:
    """See that a module has parameters of the names and shapes of masks."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, mask in keep.items():
        if name not in parameters:
            close = nearest(name, parameters)
            raise UserError(
                f"the plan masks `{name}`, which is no parameter of `{type(module).__name__}`"
                + (f" (did you mean `{close}`?)" if close else ""),
                help=["give the module that the plan was made of, not one around or inside of it"],
            )
        if tuple(parameters[name].shape) != mask.shape:
            raise UserError(
                f"the plan masks `{name}` in shape {list(mask.shape)}, "
                f"the parameter has {list(parameters[name].shape)}",
                help=["cut the module first with result.apply_to, or take result.to_torch()"],
            )
