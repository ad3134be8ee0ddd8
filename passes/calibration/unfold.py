"""The inputs of a linear layer as rows of the matrix product that it computes.

A layer is ``Y = X W^T`` for one row of ``X`` for every output position, one column for every weight of an output.
For a convolution a row is the patch under the kernel; columns go by kernel position first and input channel
last, so that neighbouring input channels of one position lie side by side (which is how N:M patterns and sparse
tensor cores count). What has groups has a leading axis of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The geometry of a convolution over d spatial axes, whatever its channels.

    Attributes:
        kernel: sizes of the kernel.
        strides: steps of the kernel; of a transposed convolution, steps between inputs.
        dilations: steps inside the kernel.
        pads: zeros before and after each axis; what a transposed convolution crops.
        auto_pad: ``NOTSET`` (``pads`` counts), ``VALID``, ``SAME_UPPER`` or ``SAME_LOWER``.
        output_padding: zeros that a transposed convolution appends.
        output_shape: spatial sizes that a transposed convolution is told to have, or None.
        transposed: whether it is a transposed convolution.
        groups: channel groups.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    auto_pad: str = "NOTSET"
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] | None = None
    transposed: bool = False
    groups: int = 1

    @classmethod
    def of(cls, node: onnx_ir.Node, kernel: Sequence[int]) -> Window:
        """The geometry of a Conv or ConvTranspose.

        Args:
            node: the node.
            kernel: spatial sizes of its weight.
        """
        axes, read = len(kernel), node.attributes.get_ints
        pads = read("pads", [0] * (2 * axes))
        shape = read("output_shape", []) or None
        return cls(
            kernel=tuple(kernel),
            strides=tuple(read("strides", [1] * axes)),
            dilations=tuple(read("dilations", [1] * axes)),
            pads=tuple(zip(pads[:axes], pads[axes:], strict=True)),
            auto_pad=node.attributes.get_string("auto_pad", "NOTSET"),
            output_padding=tuple(read("output_padding", [0] * axes)),
            output_shape=None if shape is None else tuple(shape[-axes:]),
            transposed=node.op_type == "ConvTranspose",
            groups=node.attributes.get_int("group", 1),
        )

    @property
    def reach(self) -> tuple[int, ...]:
        """How many input positions the kernel spans on each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def padding(self, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Zeros before and after each axis for inputs of these spatial sizes, whoever chooses them.

        ``SAME`` makes ``ceil(size / stride)`` outputs (a transposed convolution: ``size * stride``); an odd zero goes
        to the end (``UPPER``) or the beginning (``LOWER``).
        """
        if self.transposed:
            return self._transposed_padding(sizes)
        if self.auto_pad in ("NOTSET", ""):
            return self.pads
        if self.auto_pad == "VALID":
            return ((0, 0),) * len(sizes)
        totals = [
            max((-(-size // stride) - 1) * stride + reach - size, 0)
            for size, stride, reach in zip(sizes, self.strides, self.reach, strict=True)
        ]
        return self._shared(totals, upper=self.auto_pad == "SAME_UPPER")

    def _transposed_padding(self, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """What a transposed convolution crops from each end of its full output (negative: zeros to append)."""
        full = [
            (size - 1) * stride + reach + extra
            for size, stride, reach, extra in zip(
                sizes, self.strides, self.reach, self.output_padding, strict=True
            )
        ]
        if self.output_shape is not None:
            wanted: Sequence[int] = self.output_shape
        elif self.auto_pad.startswith("SAME"):
            wanted = [size * stride for size, stride in zip(sizes, self.strides, strict=True)]
        else:
            return ((0, 0),) * len(sizes) if self.auto_pad == "VALID" else self.pads
        totals = [max(have - want, 0) for have, want in zip(full, wanted, strict=True)]
        return self._shared(totals, upper=self.auto_pad == "SAME_UPPER")

    def _shared(self, totals: Sequence[int], *, upper: bool) -> tuple[tuple[int, int], ...]:
        return tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals)


def unfold(inputs: Array, window: Window) -> Array:
    """The patches under the kernel of a convolution.

    Args:
        inputs: [samples, channels, *spatial].
        window: the geometry.

    Returns:
        [groups, samples * output positions, kernel positions * channels of a group].
    """
    spatial = inputs.shape[2:]
    moved = np.moveaxis(inputs, 1, -1)
    padding = window.padding(spatial)
    if window.transposed:
        moved, padding = _spread(moved, window.strides), _as_forward(window, padding)
    steps = (1,) * len(spatial) if window.transposed else window.strides
    patches = _windows(_padded(moved, padding), window, steps)
    rank = len(spatial)
    if window.transposed:  # its kernel meets the inputs in the opposite direction
        patches = np.flip(patches, tuple(range(1 + rank, 1 + 2 * rank)))
    samples, *positions = patches.shape[: 1 + rank]
    split = patches.reshape(samples, prod(positions), prod(window.kernel), window.groups, -1)
    return split.transpose(3, 0, 1, 2, 4).reshape(window.groups, samples * prod(positions), -1)


def _windows(padded: Array, window: Window, steps: Sequence[int]) -> Array:
    """[samples, *output positions, *kernel, channels]: a view."""
    sizes, strides = padded.shape[1:-1], padded.strides[1:-1]
    counts = [max((n - r) // s + 1, 0) for n, r, s in zip(sizes, window.reach, steps, strict=True)]
    return as_strided(
        padded,
        (len(padded), *counts, *window.kernel, padded.shape[-1]),
        (
            padded.strides[0],
            *(stride * step for stride, step in zip(strides, steps, strict=True)),
            *(stride * step for stride, step in zip(strides, window.dilations, strict=True)),
            padded.strides[-1],
        ),
        writeable=False,
    )


def _spread(moved: Array, strides: Sequence[int]) -> Array:
    """Zeros between the inputs of a transposed convolution, as many as its strides leave room for."""
    sizes = [(n - 1) * s + 1 for n, s in zip(moved.shape[1:-1], strides, strict=True)]
    spread = np.zeros((len(moved), *sizes, moved.shape[-1]), moved.dtype)
    spread[(slice(None), *(slice(None, None, s) for s in strides))] = moved
    return spread


def _as_forward(window: Window, crops: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The padding of the plain convolution that a transposed one is over its spread inputs."""
    return tuple(
        (reach - 1 - before, reach - 1 - after + extra)
        for reach, (before, after), extra in zip(window.reach, crops, window.output_padding, strict=True)
    )


def _padded(moved: Array, padding: Sequence[tuple[int, int]]) -> Array:
    """Zeros around the spatial axes of [samples, *spatial, channels]; negative padding crops. Contiguous."""
    crops = (
        slice(max(-before, 0), size - max(-after, 0))
        for size, (before, after) in zip(moved.shape[1:-1], padding, strict=True)
    )
    cropped = moved[(slice(None), *crops)]
    widths = [(0, 0), *((max(before, 0), max(after, 0)) for before, after in padding), (0, 0)]
    return np.ascontiguousarray(np.pad(cropped, widths) if np.any(widths) else cropped)
