"""Training and evaluation of a captured program: dropout, batch norms and recurrent layers follow the mode.

``torch.export`` writes the mode of a module into its calls as literals. Here the literals that say so are
found, and switched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

FLAGS = frozenset({"train", "training"})
"""Arguments of operators that say in which mode they run."""

_SWITCHED = FLAGS | {"use_input_stats"}
"""Those and that of instance norms, which is always on where they keep no statistics."""

_CAPTURED = "prunec.captured_training"
_COUNTER = "num_batches_tracked"


class Switchable(fx.GraphModule):  # type: ignore[misc]
    """A graph module whose ``train`` and ``eval`` do what those of the captured module did.

    What was captured in evaluation mode lacks what only training does: a batch norm then counts no batches
    (that matters with ``momentum=None`` alone), and attention has no dropout of its probabilities.

    Args:
        root: where the graph finds its parameters and buffers.
        graph: the graph.
        captured: whether the program was captured in training mode.
    """

    def __init__(self, root: torch.nn.Module, graph: fx.Graph, captured: bool) -> None:
        super().__init__(root, graph)
        self.training = captured
        self.meta[_CAPTURED] = captured  # copies of a graph module keep its meta

    def train(self, mode: bool = True) -> Switchable:
        """Switch to training, or to evaluation with ``mode=False``."""
        if set_mode(self.graph, mode, captured=self.meta[_CAPTURED]):
            self.recompile()
        super().train(mode)
        return self


def set_mode(graph: fx.Graph, training: bool, *, captured: bool, every: bool = False) -> bool:
    """Switch the operators of a graph to a mode.

    Args:
        graph: the graph, changed in place.
        training: the mode.
        captured: the mode of the capture. What trains in a program that was captured for evaluation always
            does (a dropout that is always on), and is left alone.
        every: switch those too.

    Returns:
        Whether anything changed.
    """
    changed = False
    for node in graph.nodes:
        for name, on, off in _switches(node):
            meta = node.meta.setdefault("prunec.switch", {})
            now = _read(node, name)
            if name not in meta:
                meta[name] = (now, not captured and now == on)
            original, always = meta[name]
            if always and not every:
                continue
            wanted = (original if original not in (off, True, False) else on) if training else off
            if now != wanted:
                _write(node, name, wanted)
                changed = True
    return changed


def _switches(node: fx.Node) -> Iterator[tuple[str, Any, Any]]:
    """Arguments that the mode decides: name, value in training, value in evaluation."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return
    names = {a.name for a in node.target._schema.arguments}
    if "running_mean" in names and _read(node, "running_mean") is None:
        return  # without running statistics a norm takes those of the batch in both modes
    for name in sorted(names & _SWITCHED):
        yield name, True, False
    if "dropout_p" in names and _read(node, "dropout_p"):
        yield "dropout_p", _read(node, "dropout_p"), 0.0
    elif "dropout_p" in names and "dropout_p" in node.meta.get("prunec.switch", {}):
        yield "dropout_p", node.meta["prunec.switch"]["dropout_p"][0], 0.0
    if node.target is torch.ops.aten.add_.Tensor and _counts_batches(node):
        yield "other", 1, 0


def is_switched(target: Any) -> bool:
    """Whether an operator has an argument that the mode decides."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return any(a.name in FLAGS | {"dropout_p"} for a in target._schema.arguments)


def _counts_batches(node: fx.Node) -> bool:
    buffer = node.args[0]
    return isinstance(buffer, fx.Node) and str(buffer.target).endswith(_COUNTER)


def _position(node: fx.Node, name: str) -> int | None:
    assert isinstance(node.target, torch._ops.OpOverload)
    for position, argument in enumerate(node.target._schema.arguments):
        if argument.name == name:
            return None if argument.kwarg_only else position
    return None


def _read(node: fx.Node, name: str) -> Any:
    position = _position(node, name)
    if position is None:
        return node.kwargs.get(name)
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


def _write(node: fx.Node, name: str, value: Any) -> None:
    position = _position(node, name)
    if position is None or position >= len(node.args):
        node.kwargs = {**node.kwargs, name: value}
    else:
        node.update_arg(position, value)
