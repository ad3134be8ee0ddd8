"""ONNX Runtime's quantizer, as a function from a module to a module."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from prunec.ir.diagnostics import PassFailure, Place, UserError
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.proto import to_proto
from prunec.ir.runtime import clean_message, runtime_errors
from prunec.ir.scopes import fresh_name, graph_of, values_in, walk
from prunec.passes.quantization.library import quantization

if TYPE_CHECKING:
    from prunec.passes.calibration.data import Feeds
    from prunec.passes.quantize import Quantize

Array = NDArray[Any]

_MARK = "onnx.infer"
"""Metadata that the quantizer leaves for itself."""
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_BIASED = ("Conv", "ConvTranspose", "Gemm")
_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
_TYPES = {"int8": "QInt8", "uint8": "QUInt8"}
_FAILURES: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
)
"""What its Python code raises on a model that it does not expect."""
_WARNING = 2
"""ONNX Runtime's own level of logging, which cannot be asked for."""


def refuse(module: Module) -> None:
    """See that a model can be quantised at all.

    Raises:
        UserError: it is quantised already.
    """
    place = Place(file=module.source.name)
    if count := sum(node.op_type in _QUANTISED for node in walk(module.graph)):
        raise UserError(
            f"the model is quantised already: {count} of its nodes quantise or dequantise",
            place=place,
            help=["take `quantize` out of the pipeline, or start from the model in float"],
        )


def prepared(module: Module, *, dynamic: bool) -> Module:
    """A copy in the form that the quantizer expects: constants are initializers, nodes have names, and what it would
    rewrite for one of several readers has one reader.

    Args:
        module: the module; it stays as it is.
        dynamic: for the dynamic quantizer, which transposes the weights of Gemm in place.
    """
    copy = module.clone()
    LiftConstantsToInitializersPass(size_limit=0)(copy.model)
    taken = {value.name or "" for value in values_in(copy.graph)}
    for node in copy.graph:
        node.name = node.name or f"{node.op_type}_{node.outputs[0].name}"
        for position in (
            (1, 2) if dynamic and node.op_type == "Gemm" else (2,) if node.op_type in _BIASED else ()
        ):
            if position < len(node.inputs):
                _unshare(node, position, taken)
    return copy


def _unshare(node: onnx_ir.Node, position: int, taken: set[str]) -> None:
    """Give a node a copy of a constant that others read too, under a name that nothing has."""
    shared = node.inputs[position]
    if shared is None or not shared.is_initializer() or len(shared.uses()) < 2:
        return
    copy = onnx_ir.Value(
        name=fresh_name(shared.name or "", taken),
        type=shared.type,
        shape=shared.shape,
        const_value=shared.const_value,
    )
    graph_of(node).register_initializer(copy)
    node.replace_input_with(position, copy)


def quantised(module: Module, options: Quantize, excluded: Collection[str], feeds: Feeds | None) -> Module:
    """A quantised copy of a module.

    Args:
        module: the module, as :func:`prepared` gives it; it stays as it is.
        options: how.
        excluded: names of nodes that stay in float.
        feeds: the samples to take ranges from (static only); the last eighth of their runs is left out.

    Raises:
        PassFailure: the quantizer fails.
        UserError: the weights are more than one ``ModelProto`` holds.
    """
    proto = to_proto(module)
    failures: tuple[type[Exception], ...] = (*_FAILURES, *runtime_errors(), onnx.checker.ValidationError)
    with _quietly(), tempfile.TemporaryDirectory(prefix="prunec-") as folder:
        target = Path(folder) / "model.onnx"
        try:
            _quantise(proto, target, options, excluded, feeds)
        except failures as error:
            message = clean_message(str(error)) or type(error).__name__
            raise PassFailure(
                f"ONNX Runtime's quantizer fails: {message}",
                place=Place(file=module.source.name),
                help=["leave what it does not take in float: `ops=Conv,Gemm,MatMul`, or `ignore=NAME`"],
            ) from error
        made = onnx.load(target)
    return _restored(made, module)


def _quantise(
    proto: onnx.ModelProto, target: Path, options: Quantize, excluded: Collection[str], feeds: Feeds | None
) -> None:
    ort = quantization()
    kinds = [*options.ops, *(["MatMul"] if "Gemm" in options.ops and feeds is None else [])]
    shared: dict[str, Any] = {
        "op_types_to_quantize": kinds or None,
        "per_channel": options.per_channel,
        "weight_type": getattr(ort.QuantType, _TYPES[options.weights]),
        # The dynamic quantizer turns Gemm into MatMul first.
        "nodes_to_exclude": [*excluded, *(f"{name}_MatMul" for name in excluded if feeds is None)],
    }
    if feeds is None:
        ort.quantize_dynamic(proto, target, **shared)
        return
    ort.quantize_static(
        proto,
        target,
        _reader(feeds, options.samples),
        quant_format=ort.QuantFormat.QDQ,
        activation_type=getattr(ort.QuantType, _TYPES[options.activations]),
        calibrate_method=getattr(ort.CalibrationMethod, _METHODS[options.calibrate]),
        **shared,
    )


def _reader(feeds: Feeds, samples: int) -> Any:
    """The samples in the form in which ONNX Runtime asks for them: runs of one size, which its histograms need."""
    whole = feeds.samples // feeds.batch
    runs = max(1, min(feeds.fitting, whole, -(-samples // feeds.batch)))

    class Reader(quantization().CalibrationDataReader):  # type: ignore[misc]
        """Hands out one run after the other, then None."""

        def __init__(self) -> None:
            self._runs = iter([*range(runs)])

        def get_next(self) -> Mapping[str, Array] | None:
            """The arrays of the next run."""
            run = next(self._runs, None)
            return None if run is None else feeds[run]

    return Reader()


def _restored(proto: onnx.ModelProto, module: Module) -> Module:
    """The model with the module's own metadata, and without shapes that were inferred on the way."""
    original = module.model
    declared = {value.name for node in original.graph for value in node.outputs if value.shape is not None}
    kept = [info for info in proto.graph.value_info if info.name in declared]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    marks = [entry for entry in proto.metadata_props if entry.key != _MARK]
    del proto.metadata_props[:]
    proto.metadata_props.extend(marks)
    proto.producer_name = original.producer_name or ""
    proto.producer_version = original.producer_version or ""
    model = load(proto).model
    model.graph.meta.update(original.graph.meta)
    return Module(model, module.source, module.repairs)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the quantizer prints and logs to itself."""
    import onnxruntime as ort

    root, nothing = logging.getLogger(), logging.NullHandler()
    root.addHandler(nothing)  # without a handler the first message would install one for good
    root.addFilter(_drop)
    ort.set_default_logger_severity(_WARNING + 1)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        ort.set_default_logger_severity(_WARNING)
        root.removeFilter(_drop)
        root.removeHandler(nothing)


def _drop(record: logging.LogRecord) -> bool:
    del record
    return False
