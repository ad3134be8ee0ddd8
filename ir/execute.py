"""Runs a model in ONNX Runtime, on the CPU, for numbers that can be compared.

Graph optimisations and weight prepacking are off by default: what runs is the graph as written, and a session
costs milliseconds instead of a copy of all weights. Large weights never pass through protobuf; the session
reads them where they are (usually the source file's memory map), so that models above protobuf's 2 GiB limit
run like any other.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir

from prunec.ir.diagnostics import PassFailure, Place, PrunecError, UserError, nearest
from prunec.ir.dialect import ATEN, TO_ONNX
from prunec.ir.draws import draw_alike
from prunec.ir.module import Module, Source
from prunec.ir.probes import probe_feeds
from prunec.ir.proto import LARGEST_PROTO, weights_of, without_weights
from prunec.ir.runtime import clean_message, runtime_errors, session_options
from prunec.ir.wire import SMALLEST_WEIGHT

__all__ = ["Runner", "probe_feeds", "run_model"]

Array = np.ndarray[Any, Any]
Blame = Literal["user", "pass"]


def run_model(
    module: Module | onnx_ir.Model,
    feeds: Mapping[str, Array],
    *,
    outputs: Iterable[str] | None = None,
    optimize: bool = False,
    threads: int = 0,
    blame: Blame = "pass",
) -> dict[str, Array]:
    """Run a model once; see ``Runner``, which costs less for several runs."""
    return Runner(module, outputs=outputs, optimize=optimize, threads=threads, blame=blame).run(feeds)


class Runner:
    """A model ready to run.

    Args:
        module: the model; weights are used where they lie and must not change while the runner lives.
        outputs: names of the values to compute, graph outputs or any value that a node of the main graph
            makes; None means the graph's outputs.
        optimize: let ONNX Runtime fuse, fold and prepack, as it does in production; numbers then differ in
            the last digits, and the weights are copied.
        threads: threads for one op; 0 lets ONNX Runtime choose.
        blame: whose mistake it is if the model does not run: ``user`` for a model as the user gave it,
            ``pass`` for one that prunec changed.

    Raises:
        UserError: ``outputs`` names no value of the model; or ONNX Runtime refuses the model, with
            ``blame="user"``.
        PassFailure: ONNX Runtime refuses the model, with ``blame="pass"``.
    """

    def __init__(
        self,
        module: Module | onnx_ir.Model,
        *,
        outputs: Iterable[str] | None = None,
        optimize: bool = False,
        threads: int = 0,
        blame: Blame = "pass",
    ) -> None:
        import onnxruntime as ort

        model, source = (module.model, module.source) if isinstance(module, Module) else (module, Source())
        self._file = source.name
        refuse_programs(model, self._file)
        self._blame = blame
        self._session: Any = None
        self._weights = _ort_values(model)  # used where they lie, so they have to live as long as the session
        proto = self._proto(model, outputs)
        if not optimize:
            draw_alike(proto.graph)
        options = session_options(optimize=optimize, threads=threads)
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            self._session = ort.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except runtime_errors() as error:
            raise self._failure("ONNX Runtime refuses the model", error) from error
        self.outputs = tuple(value.name for value in proto.graph.output)
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self._foreign = any(value.type in _FOREIGN_NAMES for value in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs.

        Args:
            feeds: an array for each graph input that is no initializer; others may be there too and are
                ignored.

        Returns:
            An array for each output, by name.

        Raises:
            UserError: a feed is missing.
            UserError or PassFailure: ONNX Runtime fails (see ``blame``).
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            place = Place(file=self._file)
            raise UserError(f"no array is given for graph input `{missing[0]}`", place=place)
        given = {name: _feed(np.asarray(feeds[name])) for name in self.inputs}
        try:
            if not self._foreign:
                results = self._session.run(list(self.outputs), given)
            else:
                results = self._run_foreign(given)
        except runtime_errors() as error:
            raise self._failure("the model fails when it runs", error) from error
        return dict(zip(self.outputs, results, strict=True))

    def _run_foreign(self, given: Mapping[str, Any]) -> list[Array]:
        """Outputs of types that numpy lacks (bfloat16, float8), which only come as ``OrtValue``."""
        import onnxruntime as ort

        values = {
            name: feed if isinstance(feed, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(feed)
            for name, feed in given.items()
        }
        return [_array(value) for value in self._session.run_with_ort_values(list(self.outputs), values)]

    def _proto(self, model: onnx_ir.Model, outputs: Iterable[str] | None) -> onnx.ModelProto:
        """The graph as ONNX Runtime gets it: the weights beside it, and what no chosen output needs left out."""
        unread = _unread_weights(model)
        proto = without_weights(model, dict.fromkeys((*self._weights, *unread), ("-", 0)))
        for index in reversed([i for i, kept in enumerate(proto.graph.initializer) if kept.name in unread]):
            del proto.graph.initializer[index]
        if outputs is not None:
            self._choose_outputs(proto, list(outputs))
            read = _drop_unneeded(proto.graph)
            self._weights = {name: weight for name, weight in self._weights.items() if name in read}
        self._check_size(proto)
        return proto

    def _choose_outputs(self, proto: onnx.ModelProto, names: list[str]) -> None:
        graph = proto.graph
        known = {info.name: info for info in (*graph.value_info, *graph.output)}
        made = {name for node in graph.node for name in node.output if name} | {
            info.name for info in graph.output
        }
        for name in names:
            if name not in made:
                close = nearest(name, made)
                help = [f"did you mean `{close}`?"] if close else []
                raise UserError(f"no node computes a value `{name}`", place=Place(file=self._file), help=help)
        chosen = [known.get(name) or onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names)]
        del graph.output[:]
        graph.output.extend(chosen)

    def _check_size(self, proto: onnx.ModelProto) -> None:
        if (size := proto.ByteSize()) > LARGEST_PROTO:
            raise UserError(
                f"the graph without its initializers is {size:,} bytes, more than one ModelProto can hold",
                place=Place(file=self._file),
                help=["store large constants as initializers instead of Constant nodes"],
            )

    def _failure(self, what: str, error: Exception) -> PrunecError:
        kind = UserError if self._blame == "user" else PassFailure
        reason = clean_message(str(error))
        unknown = "not a registered function" in reason or "No Op registered" in reason
        return kind(
            f"{what}: {reason}",
            place=Place(file=self._file),
            notes=[] if self._session is None else _empty_inputs(self._session),
            help=["the op is no op of ONNX Runtime, and prunec loads no libraries of custom ops"]
            if unknown
            else [],
        )


def _empty_inputs(session: Any) -> list[str]:
    """A note for each input of a session that is declared to hold nothing."""
    return [
        f"graph input `{value.name}` is declared with shape {value.shape}, which holds no elements"
        for value in session.get_inputs()
        if 0 in value.shape
    ]


def refuse_programs(model: onnx_ir.Model, file: str) -> None:
    """See that a model is written in ONNX.

    Raises:
        UserError: it is a program of torch.
    """
    if ATEN in model.graph.opset_imports:
        raise UserError(
            "a program of torch does not run in ONNX Runtime", place=Place(file=file), help=TO_ONNX
        )


def _drop_unneeded(graph: onnx.GraphProto) -> set[str]:
    """Remove nodes, initializers and inputs that no output depends on; ONNX Runtime would run all nodes.

    Returns:
        The names of all values that are left.
    """
    needed = {value.name for value in graph.output}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if needed.isdisjoint(node.output):
            del graph.node[index]
        else:
            needed.update(_reads(node))
    for values in (graph.initializer, graph.input):
        for index in reversed(range(len(values))):
            if values[index].name not in needed:
                del values[index]
    return needed


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node, or a graph inside it, reads."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


_FOREIGN = {
    np.dtype(ml_dtypes.bfloat16): onnx_ir.DataType.BFLOAT16,
    np.dtype(ml_dtypes.float8_e4m3fn): onnx_ir.DataType.FLOAT8E4M3FN,
    np.dtype(ml_dtypes.float8_e4m3fnuz): onnx_ir.DataType.FLOAT8E4M3FNUZ,
    np.dtype(ml_dtypes.float8_e5m2): onnx_ir.DataType.FLOAT8E5M2,
    np.dtype(ml_dtypes.float8_e5m2fnuz): onnx_ir.DataType.FLOAT8E5M2FNUZ,
}
"""Types of whole bytes that numpy itself does not have."""
_FOREIGN_NAMES = {f"tensor({dtype.name.lower()})" for dtype in _FOREIGN.values()}


def _feed(array: Array) -> Any:
    """An array as ONNX Runtime takes it: itself, or an ``OrtValue`` where numpy lacks the type."""
    return _ort_value(array) if array.dtype in _FOREIGN else array


def _ort_value(array: Array) -> Any:
    """An ``OrtValue`` over the array's own memory (over a copy, if that is not contiguous and aligned)."""
    import onnxruntime as ort

    ready = np.require(array, requirements=["C", "A"])
    if ready.dtype not in _FOREIGN:
        return ort.OrtValue.ortvalue_from_numpy(ready)
    bits = ready.view(np.uint16 if ready.itemsize == 2 else np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, int(_FOREIGN[ready.dtype]))


def _ort_values(model: onnx_ir.Model) -> dict[str, Any]:
    """The large weights that a node reads as ``OrtValue``, by name; types of less than a byte stay in the proto.

    ONNX Runtime drops a weight that nothing reads first, and then misses it.
    """
    weights = weights_of(model, smallest=SMALLEST_WEIGHT)
    read = {name for name, value in model.graph.initializers.items() if value.uses()}
    return {
        name: _ort_value(tensor.numpy())
        for name, tensor in weights.items()
        if name in read and tensor.dtype.bitwidth >= 8
    }


def _unread_weights(model: onnx_ir.Model) -> frozenset[str]:
    """Large weights that nothing needs (a masked reference replaces many); a session would copy them twice."""
    values = model.graph.initializers
    return frozenset(
        name
        for name in weights_of(model, smallest=SMALLEST_WEIGHT)
        if not (values[name].uses() or values[name].is_graph_output() or values[name].is_graph_input())
    )


def _array(value: Any) -> Array:
    """An ``OrtValue``'s content as an array of its own."""
    dtype = next((dtype for dtype, code in _FOREIGN.items() if int(code) == value.element_type()), None)
    if dtype is None:
        content: Array = value.numpy()
        return content
    count = math.prod(value.shape())
    memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(value.data_ptr())
    return np.frombuffer(bytes(memory), dtype=dtype).reshape(value.shape())
