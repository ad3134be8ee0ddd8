"""What running a program or a module leaves of the tensors that it holds: checks must not train them.

A module may write to its tensors in ``forward`` (a moving average, a counter, the statistics of a norm), and so may
the program that was captured of it. The runs of a check are none of the user's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import onnx_ir
import torch
from torch import fx, nn

from prunec.ir.fx.calls import changes_something, sharing_inputs
from prunec.ir.fx.signature import STATE, State


def written_constants(model: onnx_ir.Model) -> set[str]:
    """Names of the constants that a program writes to when it runs, also through views of them."""
    seen: set[onnx_ir.Value] = set()
    pending = [v for n in model.graph if changes_something(n) for v in sharing_inputs(n, written=True)]
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        if producer is not None:
            pending += sharing_inputs(producer)
    return {name for name, value in model.graph.initializers.items() if value in seen}


def changing_tensors(model: onnx_ir.Model, lowered: fx.GraphModule) -> list[torch.Tensor]:
    """The tensors of a lowered program that a run may change: its buffers, and what else the program writes to.

    Norms update their statistics without their operators saying so; so all buffers count.
    """
    written = written_constants(model)
    owned = {**dict(lowered.named_parameters()), **dict(lowered.named_buffers())}
    return [tensor for name, tensor in owned.items() if name in written or _is_buffer(model, name)]


def _is_buffer(model: onnx_ir.Model, name: str) -> bool:
    value = model.graph.initializers.get(name)
    state: State | None = None if value is None else value.meta.get(STATE)
    return state is not None and state.kind in ("buffer", "transient")


@contextmanager
def contents_kept(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Let tensors be written to, and give them back what they held."""
    held = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, contents in held:
            if not torch.equal(tensor, contents):
                tensor.data.copy_(contents)


@contextmanager
def state_kept(module: nn.Module) -> Iterator[None]:
    """Let a module run in any mode, and give it back its modes, its buffers and the contents of its tensors."""
    parts = [(part, part.training, dict(part._buffers)) for part in module.modules()]
    with contents_kept([*module.parameters(), *module.buffers()]):
        try:
            yield
        finally:
            for part, mode, buffers in parts:
                part.training = mode
                part._buffers.update(buffers)
