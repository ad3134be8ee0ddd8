"""Imports torchvision without its compiled extension: declares its operators, and gives them kernels in Python.

The wheel of torchvision that fits a CPU build of torch wants CUDA libraries for its extension, so that the import
ends at ``operator torchvision::nms does not exist``.
"""

from __future__ import annotations

from typing import Any

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def install() -> Any:
    """Import torchvision with operators that run; keep the result alive as long as they are used."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for signature in _SIGNATURES:
        library.define(signature)
    import torchvision
    from torchvision.ops.roi_align import _roi_align

    torchvision.extension._has_ops = lambda: True
    torch.library.impl("torchvision::nms", "CPU", _suppress, lib=library)
    torch.library.impl("torchvision::roi_align", "CPU", _roi_align, lib=library)
    torch.library.register_fake("torchvision::roi_align", _aligned_shape, lib=library)
    torch.library.register_autograd(
        "torchvision::roi_align", _align_backward, setup_context=_keep, lib=library
    )
    return library


def _suppress(boxes: Any, scores: Any, threshold: float) -> Any:
    """Non-maximum suppression of boxes ``[n, 4]``: the positions that stay, best first."""
    import torch
    from torchvision.ops import box_iou

    order = torch.argsort(scores, descending=True, stable=True)
    overlaps = box_iou(boxes[order], boxes[order]) > threshold
    stays = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if stays[i]:
            stays[i + 1 :] &= ~overlaps[i, i + 1 :]
    return order[stays]


def _aligned_shape(data: Any, rois: Any, scale: float, height: int, width: int, *rest: Any) -> Any:
    del scale, rest
    return data.new_empty((rois.shape[0], data.shape[1], height, width))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    ctx.save_for_backward(*inputs[:2])
    ctx.rest = inputs[2:]


def _align_backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
    import torch
    from torchvision.ops.roi_align import _roi_align

    data, rois = ctx.saved_tensors
    with torch.enable_grad():
        given = data.detach().requires_grad_()
        made = _roi_align(given, rois, *ctx.rest)
        (found,) = torch.autograd.grad(made, given, gradient)
    return found, *[None] * (1 + len(ctx.rest))
