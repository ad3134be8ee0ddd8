"""The pass ``quantize``: 8-bit weights and activations, by ONNX Runtime's quantizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import at_least, within
from prunec.passes.text.option_types import Ratio

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import Feeds

PER_CHANNEL_OPSET = 13
"""The first opset whose DequantizeLinear takes a scale for every channel."""
HALF_OPSET = 19
"""The first opset whose QuantizeLinear and DequantizeLinear take float16; DynamicQuantizeLinear never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Pass):
    """Store weights in 8 bits and compute in integers, calibrated on the model as it stands.

    `static` takes the range of every activation from the calibration data and writes QuantizeLinear and
    DequantizeLinear pairs around the ops. `dynamic` takes it from the input of each run, needs no data, and covers
    convolutions, matrix products, LSTM and fused attention. What ONNX Runtime has no 8-bit form of stays in float.
    Put it last, behind `fold-norm` and all that removes something.
    """

    name: ClassVar[str] = "quantize"
    contract: ClassVar[Contract] = "quantised"
    rescales: ClassVar[bool] = True
    onnx_only: ClassVar[bool] = True

    mode: Literal["static", "dynamic"] = option(
        "static", help="ranges of activations from calibration data (`--data`), or from the input of each run"
    )
    per_channel: bool = option(
        True, help="give every output channel of a weight a scale of its own (from opset 13 on)"
    )
    calibrate: Literal["minmax", "entropy", "percentile"] = option(
        "minmax",
        help="the range of an activation: all that was seen, what loses the least information, or 99.999 % of it "
        "(static)",
    )
    samples: int = option(
        256, help="take the ranges from this many samples at most (static)", check=at_least(1)
    )
    weights: Literal["int8", "uint8"] = option("int8", help="type of the weights")
    activations: Literal["int8", "uint8"] = option("int8", help="type of the activations (static)")
    ops: tuple[str, ...] = option(
        (), help="take ops of these types alone, such as `Conv,Gemm`; without it all that have an 8-bit form"
    )
    ignore: tuple[str, ...] = option(
        (), help="leave layers in float whose node or weight has such a name (globs or paths)"
    )
    warn: Ratio = option(
        0.01,
        help="warn where pruning and quantising together lose more than this beyond what each loses by itself",
        check=within(0, 1),
    )

    @property
    def needs_data(self) -> bool:
        """Whether ranges come from samples."""
        return self.mode == "static"

    def run(self, module: Module, context: Context) -> Outcome:
        """Quantise, and say which layers stay in float and why."""
        from prunec.passes.quantization.layers import check_ops, float_layers, quantised_weights
        from prunec.passes.quantization.quantizer import prepared, quantised, refuse

        refuse(module)
        check_ops(self.ops, self.mode)
        ready = prepared(module, dynamic=self.mode == "dynamic")
        excluded = self._excluded(ready, context)
        options = self._fitting(module, context)
        left = excluded.keys() | self._untouched(ready)
        result = quantised(ready, options, left, self._feeds(module, context))
        weights = quantised_weights(result.graph)
        if not weights:
            half = self._half(ready, context)
            reason = self._no_half if half else "ONNX Runtime's quantizer finds no op that it takes"
            help = "start from the model in float32" if half else None
            context.remarks.missed(self.name, "nothing is quantised", reason=reason, help=help, urgent=True)
            return Outcome(changed=False)
        layers = [layer for layer in context.analyses.cost().layers if layer.macs]
        stay = list(float_layers(layers, result.graph, options, excluded))
        module.model = result.model
        for name, reason in stay:
            context.remarks.missed(self.name, f"layer `{name}` stays in float", reason=reason, node=name)
        share = f"{len(layers) - len(stay)} of {len(layers)} layers compute in 8 bits"
        context.remarks.passed(self.name, f"{share}, {len(weights)} weights are stored so ({options.manner})")
        return Outcome(changed=True, statistics={"weights": len(weights), "float layers": len(stay)})

    @property
    def manner(self) -> str:
        """The options in words."""
        scales = "a scale for every channel" if self.per_channel else "a scale for every weight"
        if self.mode == "dynamic":
            return f"dynamic, {self.weights}, {scales}"
        return f"static, {self.weights} weights, {self.activations} activations, {scales}, {self.calibrate}"

    def _excluded(self, ready: Module, context: Context) -> dict[str, str]:
        """Why a node is left alone, by its name."""
        from prunec.passes.pruning.filters import matches, warn_unmatched
        from prunec.passes.quantization.layers import names_of

        names = names_of(ready.graph)
        warn_unmatched(self.ignore, set().union(*names.values()), context.remarks, self.name)
        ignored = [node for node, known in names.items() if matches(known, self.ignore)]
        half = dict.fromkeys(self._half(ready, context), self._no_half)
        return half | dict.fromkeys(ignored, "option 'ignore' names it")

    def _untouched(self, ready: Module) -> frozenset[str]:
        """Names of the nodes that the dynamic quantizer would fail on, or take although `ops` leaves them out."""
        from prunec.passes.quantization.layers import without_weight

        if self.mode == "static":
            return frozenset()
        gemms = {node.name or "" for node in ready.graph if node.op_type == "Gemm"}
        return without_weight(ready.graph) | (gemms if self.ops and "Gemm" not in self.ops else set())

    @property
    def _no_half(self) -> str:
        """Why what computes in float16 is left alone."""
        if self.mode == "dynamic":
            return "it computes in float16, and DynamicQuantizeLinear takes float32 alone"
        return f"it computes in float16, which QuantizeLinear takes from opset {HALF_OPSET} on"

    def _half(self, ready: Module, context: Context) -> frozenset[str]:
        """Names of the nodes whose float16 this mode does not take."""
        from prunec.passes.quantization.layers import of_half_precision

        if self.mode == "static" and ready.opset("") >= HALF_OPSET:
            return frozenset()
        return of_half_precision(ready.graph, context.analyses.facts())

    def _fitting(self, module: Module, context: Context) -> Quantize:
        """The options as far as the model's opset has room for them."""
        opset = module.opset("")
        if not self.per_channel or self.mode == "dynamic" or opset >= PER_CHANNEL_OPSET:
            return self
        context.remarks.missed(
            self.name,
            "every weight has one scale, not one for each channel",
            reason=f"the model is of opset {opset}, and DequantizeLinear takes several from {PER_CHANNEL_OPSET} on",
            help="export the model with a newer opset",
        )
        return replace(self, per_channel=False)

    def _feeds(self, module: Module, context: Context) -> Feeds | None:
        """The samples that ranges are taken from."""
        if not self.needs_data:
            return None
        assert context.data is not None, "the manager sees to it"
        return context.data.bind(module)
