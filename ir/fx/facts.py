"""Shapes and known numbers of a captured program, by running it on tensors without contents.

``torch``'s own fake tensors know the shape, type and symbolic sizes of what every operator makes. Small
integer tensors that follow from literals alone (an ``arange`` that indexes something) are computed for real.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from prunec.ir.facts import SMALL, Facts
from prunec.ir.form import SIZES
from prunec.ir.fx.calls import arguments_of, changes_something, is_random, target_of
from prunec.ir.fx.signature import CAPTURED, FAKE, READ, STATE, State
from prunec.ir.fx.tensors import element_type, from_array, to_array

FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, NotImplementedError)
"""What torch raises where an operator refuses its arguments."""


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep from stderr the traceback that torch logs where an operator refuses stand-ins; the error says it all."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    quiet, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = quiet


def infer_fx_facts(model: onnx_ir.Model) -> Facts:
    """Derive the facts of a captured program at the sizes of its example inputs.

    The shape of a value is missing where torch cannot tell it (its size depends on data).
    """
    return _Walk(model).run()


class _Walk:
    def __init__(self, model: onnx_ir.Model) -> None:
        self.model = model
        self.facts = Facts()
        self.fakes: dict[onnx_ir.Value, Any] = {}
        self.reals: dict[onnx_ir.Value, Any] = {}
        self.captured: set[onnx_ir.Value] = set(model.graph.inputs)
        known = [v.meta[FAKE] for v in model.graph.inputs if FAKE in v.meta]
        self.mode = known[0].fake_mode if known else FakeTensorMode()

    def run(self) -> Facts:
        """Visit constants and inputs, then the nodes in order."""
        for value in self.model.graph.initializers.values():
            self._constant(value)
        for value in self.model.graph.inputs:
            self._note(value, value.meta.get(FAKE))
        with self.mode, torch.no_grad(), unlogged():
            for node in self.model.graph:
                self._visit(node)
        return self.facts

    def _constant(self, value: onnx_ir.Value) -> None:
        tensor = value.const_value
        assert tensor is not None
        shape = tuple(tensor.shape.numpy())
        self.facts.constant.add(value)
        self.facts.shapes[value] = shape
        self.facts.types[value] = int(tensor.dtype)
        state: State | None = value.meta.get(STATE)
        if state is not None and state.shape == shape:
            self.captured.add(value)
        if tensor.size <= SMALL:
            array = tensor.numpy()
            self.facts.numbers[value] = array
            if array.dtype.kind in "iub":
                self.reals[value] = from_array(array.copy())

    def _fake(self, value: onnx_ir.Value) -> Any:
        """The stand-in of a value."""
        if value not in self.fakes and value.is_initializer():
            from onnx_ir.tensor_adapters import to_torch_dtype

            dtype = to_torch_dtype(onnx_ir.DataType(self.facts.types[value]))
            self.fakes[value] = torch.empty(self.facts.shapes[value], dtype=dtype)
        return self.fakes[value]

    def _visit(self, node: onnx_ir.Node) -> None:
        for value, made in zip(node.outputs, self._made(node), strict=False):
            self._note(value, made)
        inputs = [v for v in node.inputs if v is not None]
        fixed = all(v in self.facts.constant and v not in self.facts.unstable for v in inputs)
        if fixed and not is_random(node) and not changes_something(node):
            self.facts.constant.update(node.outputs)
            self._evaluate(node)

    def _made(self, node: onnx_ir.Node) -> Sequence[Any]:
        """What a node makes of stand-ins; nothing where torch cannot tell."""
        if self._is_as_captured(node):
            self.captured.update(node.outputs)
            return [value.meta.get(FAKE) for value in node.outputs]
        try:
            target, args, kwargs = _call(node, self._fake)
            made = target(*args, **kwargs)
        except FAILURES:
            return ()
        return list(made) if isinstance(made, list | tuple) else [made]

    def _is_as_captured(self, node: onnx_ir.Node) -> bool:
        """Whether a node and all that it reads are what they were, so that the capture knows what it makes."""
        before: dict[str, onnx_ir.Attr] | None = node.meta.get(CAPTURED)
        return (
            before is not None
            and all(v is None or v in self.captured for v in node.inputs)
            and node.meta[READ][: len(node.inputs)] == [v and v.name for v in node.inputs]
            and before.keys() == node.attributes.keys()
            and all(before[name].value == a.value for name, a in node.attributes.items())
        )

    def _note(self, value: onnx_ir.Value, made: Any) -> None:
        if isinstance(made, torch.Tensor):
            self.fakes[value] = made
            sizes = [_hint(size) for size in made.shape]
            self.facts.types[value] = int(element_type(made.dtype))
            if None not in sizes:
                self.facts.shapes[value] = tuple(size for size in sizes if size is not None)
            dynamic = frozenset(axis for axis, size in enumerate(made.shape) if not _is_static(size))
            if dynamic:
                self.facts.dynamic[value] = dynamic
        elif isinstance(made, int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool):
            self._note_number(value, made)

    def _note_number(self, value: onnx_ir.Value, made: Any) -> None:
        """A size, or a number that is computed from sizes."""
        self.fakes[value] = made
        hint = _hint(made)
        self.facts.shapes[value] = ()
        self.facts.types[value] = int(onnx_ir.DataType.INT64)
        if hint is None:
            return
        self.facts.numbers[value] = np.array(hint)
        self.facts.derived.add(value)
        self.facts.constant.add(value)
        if not _is_static(made):
            self.facts.unstable.add(value)

    def _evaluate(self, node: onnx_ir.Node) -> None:
        """Compute a node of small integers for real."""
        if node.domain == SIZES or not all(self._is_small_index(v) for v in node.outputs):
            return
        if any(v is not None and v not in self.reals and v not in self.facts.derived for v in node.inputs):
            return
        with unset_fake_temporarily():
            try:
                target, args, kwargs = _call(node, self._real)
                made = target(*args, **kwargs)
            except FAILURES:
                return
            tensors = made if isinstance(made, list | tuple) else [made]
            for value, tensor in zip(node.outputs, tensors, strict=False):
                self.reals[value] = tensor
                self.facts.numbers[value] = to_array(tensor)

    def _real(self, value: onnx_ir.Value) -> Any:
        return self.reals[value] if value in self.reals else int(self.facts.numbers[value])

    def _is_small_index(self, value: onnx_ir.Value) -> bool:
        shape = self.facts.shapes.get(value)
        if shape is None or value in self.facts.dynamic or np.prod(shape, dtype=np.int64) > SMALL:
            return False
        dtype = onnx_ir.DataType(self.facts.types[value])
        return dtype == onnx_ir.DataType.BOOL or dtype.is_integer()


def _call(node: onnx_ir.Node, make: Any) -> tuple[Any, list[Any], dict[str, Any]]:
    from prunec.ir.fx.lower import standard_call

    if node.domain == "":
        return standard_call(node, make)
    args, kwargs = arguments_of(node, make)
    return target_of(node), args, kwargs


def _hint(size: Any) -> int | None:
    """A size as a number: of a symbolic one the size that the program was captured at."""
    if isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool):
        hint = size.node.hint
        return None if hint is None else int(hint)
    return int(size)


def _is_static(size: Any) -> bool:
    if not isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool):
        return True
    return bool(getattr(size.node.expr, "is_number", False))
