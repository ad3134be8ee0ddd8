"""What a pruned module has to compute, told without any of prunec: the module before it with the lost slices at zero.

Which slices were lost is read off the values: no two of a tensor are equal, so that every position of a cut tensor
is found again in the tensor that it was. Statistics across channels (LayerNorm, RMSNorm, ...) are taken over the
channels that stayed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

Kept = dict[int, NDArray[np.int64]]
"""By axis the positions that stayed."""

TOLERANCE = 1e-4
"""Largest difference, relative to the largest magnitude of the output."""
_PROBES = 7
_TABLE = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far a pruned module is from what it should compute.

    Attributes:
        error: largest difference relative to the largest magnitude, over all outputs.
        change: the same between the module before and after the cut, that is of an oracle that masks nothing.
    """

    error: float
    change: float

    @property
    def exact(self) -> bool:
        """Whether they agree, and the cut mattered to more than rounding."""
        return self.error < TOLERANCE and self.error < 0.05 * self.change


def kept_slices(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
    """By name of a tensor that lost slices and axis, what stayed.

    Raises:
        ValueError: a tensor is no part of the tensor that it was.
    """
    found = {}
    for name, tensor in after.items():
        old = before.get(name)
        if old is None or old.shape == tensor.shape or old.dtype != torch.float32:
            continue
        if old.ndim != tensor.ndim:
            raise ValueError(f"{name} has {tensor.ndim} axes, had {old.ndim}")
        found[name] = _kept(name, old.detach().numpy(), tensor.detach().numpy())
    return found


def _kept(name: str, old: NDArray[np.float32], new: NDArray[np.float32]) -> Kept:
    bits = np.ascontiguousarray(old).view(np.int32).ravel()
    rng = np.random.default_rng(0)
    kept = {}
    for axis in range(old.ndim):
        if old.shape[axis] == new.shape[axis]:
            continue
        others = [rng.integers(0, n, _PROBES) for n in new.shape]
        probes = np.stack(
            [
                new[tuple(slice(None) if a == axis else others[a][i] for a in range(new.ndim))]
                for i in range(_PROBES)
            ]
        )
        kept[axis] = _positions(bits, probes.view(np.int32), old.shape, axis)
    whole = np.ix_(*(kept.get(axis, np.arange(n)) for axis, n in enumerate(old.shape)))
    if any((k < 0).any() for k in kept.values()) or not np.array_equal(old[whole], new):
        raise ValueError(f"{name} is no part of what it was")
    return kept


def _positions(
    bits: NDArray[np.int32], probes: NDArray[np.int32], shape: tuple[int, ...], axis: int
) -> NDArray[np.int64]:
    """Where each position of a cut axis was before, from a few of its values (``[probe, position]``)."""
    mask = (1 << _TABLE) - 1
    table = np.zeros(1 << _TABLE, bool)
    table[probes.ravel() & mask] = True
    candidates = np.flatnonzero(table[bits & mask])
    values = bits[candidates]
    order = np.argsort(values, kind="stable")
    candidates, values = candidates[order], values[order]
    first = np.searchsorted(values, probes)
    counts = np.searchsorted(values, probes, side="right") - first
    places = np.repeat(np.broadcast_to(np.arange(probes.shape[1]), probes.shape).ravel(), counts.ravel())
    starts = np.repeat((first - (np.cumsum(counts).reshape(counts.shape) - counts)).ravel(), counts.ravel())
    at = np.unravel_index(candidates[starts + np.arange(len(starts))], shape)[axis]
    votes, number = np.unique(places * shape[axis] + at, return_counts=True)
    found = np.full(probes.shape[1], -1)
    order = np.argsort(number, kind="stable")  # the position with the most votes is written last
    found[votes[order] // shape[axis]] = votes[order] % shape[axis]
    return found


def mask(module: nn.Module, kept: Mapping[str, Kept]) -> nn.Module:
    """A copy of a module with the lost slices at zero, and norms over what stayed."""
    masked = copy.deepcopy(module)
    named = dict(masked.named_parameters(remove_duplicate=False)) | dict(masked.named_buffers())
    for name, axes in kept.items():
        tensor = named[name]
        for axis, positions in axes.items():
            lost = np.setdiff1d(np.arange(tensor.shape[axis]), positions)
            with torch.no_grad():
                tensor.index_fill_(axis, torch.from_numpy(lost), 0)
    for path, part in list(masked.named_modules()):
        if "Std" in type(part).__name__ and isinstance(part, nn.Conv2d) and part.groups == 1:
            weight = kept.get(f"{path}.weight", {})
            _replace(masked, path, _RestrictedConvolution(part, weight, _cut(part, path, kept)))
            continue
        stayed = kept.get(f"{path}.weight", {}).get(0)
        bare = not list(part.parameters()) and not list(part.children())
        if _is_statistic(part) and (stayed is not None or bare):
            _replace(masked, path, _Restricted(part, stayed))
    return masked


def _replace(module: nn.Module, path: str, part: nn.Module) -> None:
    owner, _, last = path.rpartition(".")
    setattr(module.get_submodule(owner), last, part)


def _cut(part: nn.Module, path: str, kept: Mapping[str, Kept]) -> dict[str, nn.Parameter]:
    """The parameters of a module as they are after the cut."""
    made = {}
    for name, tensor in part.named_parameters(recurse=False):
        axes = kept.get(f"{path}.{name}", {})
        taken = tensor.detach()
        for axis, positions in axes.items():
            taken = taken.index_select(axis, torch.from_numpy(positions))
        made[name] = nn.Parameter(taken)
    return made


def _is_statistic(part: nn.Module) -> bool:
    """Whether a module is a norm over its channels, by its name and its weight."""
    kind = type(part).__name__
    named = "norm" in kind.lower() and not any(
        k in kind for k in ("BatchNorm", "InstanceNorm", "WeightNorm", "Affine")
    )
    weight = getattr(part, "weight", None)
    return named and getattr(part, "running_mean", None) is None and (weight is None or weight.ndim == 1)


class _Restricted(nn.Module):  # type: ignore[misc]
    """A norm over some of its channels; the others come out as zeros.

    Args:
        norm: the norm.
        positions: the channels that stayed; None for those of which the data has anything else than zeros.
    """

    def __init__(self, norm: nn.Module, positions: NDArray[np.int64] | None) -> None:
        super().__init__()
        self.norm = copy.deepcopy(norm)
        self.first = getattr(norm, "data_format", "") == "channels_first" or "2d" in type(norm).__name__
        self.first |= hasattr(norm, "num_groups") or getattr(norm, "channel_dim", -1) == 1
        self.positions = None if positions is None else torch.from_numpy(positions)
        if self.positions is not None:
            self._narrow(norm.weight.shape[0], self.positions)

    def _narrow(self, size: int, positions: torch.Tensor) -> None:
        for name, tensor in list(self.norm.named_parameters(recurse=False)):
            if tensor.shape == (size,):
                setattr(self.norm, name, nn.Parameter(tensor[positions]))
        self.weight = self.norm.weight
        self._resize(len(positions))
        groups = getattr(self.norm, "num_groups", None)
        if groups:
            self.norm.num_groups = len(np.unique(positions.numpy() // (size // groups)))
        if width := getattr(self.norm, "group_size", None):
            self.norm.group_size = width * len(positions) // size

    def _resize(self, size: int) -> None:
        for name in ("normalized_shape", "num_channels", "dim", "hidden_size"):
            if hasattr(self.norm, name):
                old = getattr(self.norm, name)
                setattr(self.norm, name, (size,) if isinstance(old, tuple) else size)

    def forward(self, data: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        """As the norm, over the last axis or over axis 1."""
        axis = 1 if self.first else data.ndim - 1
        positions = self.positions
        if positions is None:
            positions = data.transpose(0, axis).flatten(1).abs().sum(1).nonzero()[:, 0]
            self._resize(len(positions))
        rest = tuple(r.index_select(axis, positions) if torch.is_tensor(r) else r for r in rest)
        made = self.norm(data.index_select(axis, positions), *rest, **options)
        return torch.zeros_like(data).index_copy_(axis, positions, made)


class _RestrictedConvolution(nn.Module):  # type: ignore[misc]
    """A convolution that standardises its weights: over what stayed of them; other channels come out as zeros.

    Args:
        layer: the convolution.
        weight: what stayed of its weight.
        tensors: its parameters after the cut.
    """

    def __init__(self, layer: nn.Module, weight: Kept, tensors: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer)
        for name, tensor in tensors.items():
            setattr(self.layer, name, tensor)
        self.layer.out_channels, self.layer.in_channels = tensors["weight"].shape[:2]
        self.size = layer.weight.shape[0]
        self.rows, self.columns = (
            torch.from_numpy(weight.get(axis, np.arange(layer.weight.shape[axis]))) for axis in (0, 1)
        )

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        """As the convolution that is cut, with zeros put back."""
        made = self.layer(data.index_select(1, self.columns))
        shape = (made.shape[0], self.size, *made.shape[2:])
        return made.new_zeros(shape).index_copy_(1, self.rows, made)


def compare(pruned: Any, masked: Any, dense: Any, kept: Mapping[str, Kept]) -> Comparison:
    """Compare the outputs of three modules, leaf by leaf.

    An output that lost slices itself is compared with those that stayed.

    Raises:
        ValueError: the outputs do not correspond.
    """
    error = change = 0.0
    made, wanted, whole = (_leaves(output) for output in (pruned, masked, dense))
    if len(made) != len(wanted) or not made:
        raise ValueError(f"{len(made)} outputs, had {len(wanted)}")
    for new, old, first in zip(made, wanted, whole, strict=True):
        if new.ndim != old.ndim:
            raise ValueError(f"an output is {list(new.shape)}, was {list(old.shape)}")
        reference, before = old, first
        for axis in range(old.ndim):
            if new.shape[axis] != old.shape[axis]:
                positions = torch.from_numpy(_of_output(old.shape[axis], new.shape[axis], kept))
                reference, before = (t.index_select(axis, positions) for t in (reference, before))
        if not torch.isfinite(new).all():
            raise ValueError("an output is not finite")
        if new.numel():
            scale = max(float(reference.abs().max()), 1e-30)
            error = max(error, float((new - reference).abs().max()) / scale)
            change = max(change, float((before - reference).abs().max()) / scale)
    return Comparison(error=error, change=change)


def _leaves(output: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(output)
    return [t.detach().double() for t in leaves if isinstance(t, torch.Tensor) and t.is_floating_point()]


def _of_output(old: int, new: int, kept: Mapping[str, Kept]) -> NDArray[np.int64]:
    """Positions of a cut output axis: those of the last tensor that lost as many of as many."""
    sizes = {name: axes[0] for name, axes in kept.items() if 0 in axes and len(axes[0]) == new}
    for name in reversed(sizes):
        if old > int(sizes[name].max()):
            return sizes[name]
    raise ValueError(f"an output axis has {new} slots, had {old}")
