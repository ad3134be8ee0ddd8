"""Blocks of convolutions, pooling and resampling: [N, C, H, W] and [N, C, L]."""

from __future__ import annotations

from typing import Any

from generators.builder import Builder, Value
from generators.forms import resize
from generators.registry import block
from generators.sources import linear, with_multiple


def _window(b: Builder, x: Value, dilations: bool = True) -> dict[str, Any]:
    """Kernel, stride, dilation and pads that leave at least one position."""
    rank, kernel = len(x.space), b.choose([1, 3, 3])
    dilation = b.choose([1, 1, 2]) if dilations else 1
    least = dilation * (kernel - 1) + 1
    low = max(0, -(-(least - min(x.shape[2:])) // 2))
    pads = [b.size(low, max(low, kernel // 2)) for _ in range(2 * rank)]
    stride = b.choose([1, 1, 2])
    return {
        "kernel_shape": [kernel] * rank,
        "pads": pads,
        "strides": [stride] * rank,
        **({"dilations": [dilation] * rank} if dilation > 1 else {}),
    }


def _conv(b: Builder, x: Value, channels: int, group: int, window: dict[str, Any]) -> Value:
    kernel, per_group = window["kernel_shape"], x.channels // group
    weight = b.weight(channels, per_group, *kernel, fan_in=per_group * kernel[0] ** len(kernel))
    operands = [v for v in (weight, b.bias(channels)) if v.name]
    stated: dict[str, Any] = {"group": group} if group > 1 or b.chance(0.5) else {}
    return b.op("Conv", x, *operands, **window, **stated)


@block("conv")
def conv(b: Builder) -> None:
    x = b.pick("image", "image", "signal")
    group = b.choose([1, 1, 1, 2, 3])
    x = with_multiple(b, x, group) if group > 1 else x
    b.keep(_conv(b, x, b.width(group), group, _window(b, x)))


@block("depthwise-conv")
def depthwise_conv(b: Builder) -> None:
    x = b.pick("image", "signal")
    y = _conv(b, x, x.channels * b.choose([1, 1, 2]), x.channels, _window(b, x))
    b.keep(linear(b, y, b.width()) if b.chance(0.5) else y)


@block("conv-one-channel")
def conv_one_channel(b: Builder) -> None:
    """One output channel: no depthwise conv; then one input channel."""
    x = b.pick("image", "signal")
    gate = b.op("Sigmoid", linear(b, x, 1))
    b.keep(b.op("Mul", x, gate) if b.chance(0.5) else linear(b, gate, b.width()))


@block("conv-transpose")
def conv_transpose(b: Builder) -> None:
    group = b.choose([1, 1, 2])
    x = with_multiple(b, b.pick("image", "signal"), group)
    rank, kernel, stride = len(x.space), b.choose([2, 3]), b.choose([1, 2])
    channels = b.width(group)
    weight = b.weight(
        x.channels, channels // group, *[kernel] * rank, fan_in=x.channels // group * kernel, out_axis=1
    )
    extra: dict[str, Any] = {"output_padding": [1] * rank} if stride == 2 and b.chance(0.3) else {}
    operands = [v for v in (weight, b.bias(channels)) if v.name]
    b.keep(
        b.op(
            "ConvTranspose",
            x,
            *operands,
            group=group,
            strides=[stride] * rank,
            pads=[kernel // 3] * 2 * rank,
            **extra,
        )
    )


@block("grouped-residual")
def grouped_residual(b: Builder) -> None:
    """Two grouped convs of different group counts meet in one addition."""
    x = with_multiple(b, b.pick("image", "signal"), 6)
    window = {"kernel_shape": [3] * len(x.space), "pads": [1] * 2 * len(x.space)}
    left, right = (_conv(b, x, 6, b.choose(groups), window) for groups in ([2, 6], [1, 3]))
    b.keep(b.op("Add", left, right))


@block("tied-conv")
def tied_conv(b: Builder) -> None:
    """One weight applied twice in a row."""
    x = b.pick("image", "signal")
    rank = len(x.space)
    weight = b.weight(x.channels, x.channels, *[1] * rank, fan_in=x.channels)
    y = b.op("Conv", b.op("Relu", b.op("Conv", x, weight)), weight)
    b.keep(b.op("Add", x, y) if b.chance(0.3) else y)


@block("pool")
def pool(b: Builder) -> None:
    x = b.pick("image", "signal")
    op_type = b.choose(["MaxPool", "AveragePool"])
    padding: dict[str, Any] = {"count_include_pad": b.size(0, 1)} if op_type == "AveragePool" else {}
    b.keep(b.op(op_type, x, **_window(b, x, dilations=False), **padding))


@block("global-pool")
def global_pool(b: Builder) -> None:
    x = b.pick("image", "signal")
    y = b.op(b.choose(["GlobalAveragePool", "GlobalMaxPool"]), x)
    b.keep(b.op("Flatten", y, kind="vector") if b.chance(0.6) else y)


@block("resize")
def resize_block(b: Builder) -> None:
    x = b.pick("image", "signal", where=lambda v: max(v.shape[2:]) <= 4)
    b.keep(resize(b, x, 2.0))


@block("multi-scale")
def multi_scale(b: Builder) -> None:
    """Down, up again, and joined with the way around, as in a U-Net or feature pyramid."""
    x = b.pick("image", where=lambda v: v.shape[2] % 2 == v.shape[3] % 2 == 0)
    if x.shape[2] % 2 or x.shape[3] % 2:
        x = resize(b, x, 2.0)
    low = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    up = resize(b, linear(b, low, x.channels), 2.0)
    b.keep(b.op("Add", x, up) if b.chance(0.5) else b.op("Concat", up, x, axis=1))


@block("space-to-depth")
def space_to_depth(b: Builder) -> None:
    x = b.pick("image")
    wide = x if x.shape[2] % 2 == x.shape[3] % 2 == 0 else resize(b, x, 2.0)
    b.keep(linear(b, b.op("SpaceToDepth", wide, blocksize=2), b.width()))


@block("depth-to-space")
def depth_to_space(b: Builder) -> None:
    x = with_multiple(b, b.pick("image", where=lambda v: max(v.shape[2:]) <= 4), 4)
    mode: dict[str, Any] = {"mode": b.choose(["DCR", "CRD"])} if b.opset >= 11 else {}
    b.keep(b.op("DepthToSpace", x, blocksize=2, **mode))
