"""Which attributes of ``torch``'s own layers say the sizes of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Sizes = Callable[[Any], dict[str, Any]]


def _linear(layer: nn.Linear) -> dict[str, Any]:
    return {"out_features": layer.weight.shape[0], "in_features": layer.weight.shape[1]}


def _convolution(layer: Any) -> dict[str, Any]:
    """A convolution whose number of groups is right already."""
    rows, columns = layer.weight.shape[:2]
    if layer.transposed:
        return {"in_channels": rows, "out_channels": columns * layer.groups}
    return {"out_channels": rows, "in_channels": columns * layer.groups}


def _features(layer: Any) -> dict[str, Any]:
    first = next((t for t in (layer.weight, layer.running_mean) if t is not None), None)
    return {} if first is None else {"num_features": first.shape[0]}


def _recurrent(layer: nn.RNNBase) -> dict[str, Any]:
    return {"input_size": layer.weight_ih_l0.shape[1], "hidden_size": layer.weight_hh_l0.shape[1]}


def _attention(layer: nn.MultiheadAttention) -> dict[str, Any]:
    """An attention whose number of heads is right already."""
    width = layer.out_proj.weight.shape[0]
    own = {"embed_dim": width, "head_dim": width // layer.num_heads}
    return own | ({"kdim": width, "vdim": width} if layer._qkv_same_embed_dim else {})


_SIZES: tuple[tuple[tuple[type[Any], ...], Sizes], ...] = (
    ((nn.Linear,), _linear),
    ((nn.modules.conv._ConvNd,), _convolution),
    ((nn.modules.batchnorm._NormBase,), _features),
    (
        (nn.LayerNorm, nn.RMSNorm),
        lambda n: {"normalized_shape": tuple(n.weight.shape)} if n.weight is not None else {},
    ),
    ((nn.GroupNorm,), lambda n: {"num_channels": n.weight.shape[0]} if n.weight is not None else {}),
    (
        (nn.Embedding, nn.EmbeddingBag),
        lambda e: {"num_embeddings": e.weight.shape[0], "embedding_dim": e.weight.shape[1]},
    ),
    ((nn.PReLU,), lambda p: {"num_parameters": p.weight.shape[0]}),
    ((nn.RNNBase,), _recurrent),
    ((nn.MultiheadAttention,), _attention),
)


def sizes_of(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a layer that follow from the shapes of its weights, with the values that they must have."""
    for types, read in _SIZES:
        if isinstance(layer, types):
            yield from read(layer).items()


def is_size(held: Any) -> bool:
    """Whether an attribute can hold a size: a whole number, or a list of them."""
    entries = held if isinstance(held, list | tuple) and held else [held]
    return all(isinstance(entry, int) and not isinstance(entry, bool) for entry in entries)


def set_size(layer: nn.Module, name: str, value: Any) -> None:
    """Set an attribute, in the type that it has."""
    old = getattr(layer, name)
    kind = type(old)
    setattr(layer, name, kind(value) if kind in (torch.Size, list, tuple) else value)
