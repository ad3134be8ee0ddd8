"""Torch-Pruning on one architecture: without hints, or with those that its own examples give.

Without hints the last layer is left alone, so that the number of classes stays. Its examples add, model by model:
layers to leave alone where a network has several outputs, how many heads the projections of attention have, and
attributes (the size of a head, the hidden size) that are set by hand afterwards. Here these follow from the names of
the layers and attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time
from typing import Any

from torch import nn

from torch_trial import Trial

_QUERIES = (
    "q",
    "query",
    "q_proj",
    "q_lin",
    "q_attn",
    "qkv",
    "query_key_value",
    "c_attn",
    "Wqkv",
    "qkv_proj",
    "in_proj",
)
_KEYS = ("k", "v", "key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "kv")
_FUSED = ("qkv", "query_key_value", "c_attn", "Wqkv", "qkv_proj", "in_proj")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_OUTPUTS = (
    "head",
    "classifier",
    "fc",
    "aux_classifier",
    "lm_head",
    "roi_heads",
    "rpn",
    "update_block",
    "mask_predictor",
    "corr_block",
)


def prune(trial: Trial, *, hints: bool) -> None:
    """Cut the module of a trial in place, and judge it; the row gets the seconds of the graph and of the cut.

    Raises:
        Exception: whatever Torch-Pruning or the cut module raises.
    """
    import torch_pruning

    module = trial.module
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    ignored: list[nn.Module] = layers[-1:]
    heads = dict(_projections(module)) if hints else {}
    if hints:
        ignored += [part for name, part in module.named_children() if name in _OUTPUTS]
    started = process_time()
    pruner = torch_pruning.pruner.MetaPruner(
        module,
        trial.args,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=ignored,
        num_heads=heads,
        forward_fn=lambda m, _: m(*trial.args, **trial.kwargs),
        output_transform=_sum,
    )
    trial.row["graph_seconds"] = process_time() - started
    pruner.step()
    trial.row["seconds"] = process_time() - started
    if hints:
        _fix_attributes(module)
    trial.judge(module)


def _sum(output: Any) -> Any:
    """One number that depends on every output, whatever their structure."""
    import torch

    leaves = torch.utils._pytree.tree_leaves(output)
    return sum(t.float().sum() for t in leaves if isinstance(t, torch.Tensor) and t.requires_grad)


def _count_of(module: nn.Module, names: tuple[str, ...]) -> int | None:
    holders = (module, getattr(module, "config", None))
    found = (getattr(holder, name, None) for holder in holders for name in names)
    return next((n for n in found if isinstance(n, int)), None)


def _projections(module: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """The projections of attention and how many heads each has."""
    for part in module.modules():
        heads = _count_of(part, _HEADS)
        if heads is None:
            continue
        for name, child in part.named_children():
            if not isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d):
                continue
            if name in _QUERIES:
                yield child, heads * (3 if name in _FUSED else 1)
            elif name in _KEYS:
                yield child, _count_of(part, _KEY_HEADS) or heads


def _fix_attributes(module: nn.Module) -> None:
    """Set the sizes that modules keep as attributes after what their projections have become."""
    for part in module.modules():
        heads = _count_of(part, _HEADS)
        query = next(
            (c for n, c in part.named_children() if n in _QUERIES and isinstance(c, nn.Linear)), None
        )
        if heads is not None and query is not None:
            name = next(n for n, c in part.named_children() if c is query)
            width = query.out_features // (3 if name in _FUSED else 1)
            sizes = {
                "head_dim": width // heads,
                "attention_head_size": width // heads,
                "head_size": width // heads,
                "all_head_size": width,
                "embed_dim": width,
                "attn_dim": width,
                "inner_dim": width,
            }
            for attribute, size in sizes.items():
                if isinstance(getattr(part, attribute, None), int):
                    setattr(part, attribute, size)
        if isinstance(getattr(part, "hidden_dim", None), int) and hasattr(part, "conv_proj"):
            part.hidden_dim = part.conv_proj.out_channels
