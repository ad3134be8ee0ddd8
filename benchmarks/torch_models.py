"""The architectures of the torch benchmark, with random weights: torchvision, timm, tiny transformers.

Inputs are small and language models tiny, since what is measured is the pruning and not the network. Every
float of a model is drawn anew, so that no scale is 1, no bias 0, and no two values of a tensor are equal.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

_TIMM = """
bat_resnext26ts botnet26t_256 caformer_s18 cait_xxs24_224 coat_lite_tiny convit_tiny convnext_atto
convnextv2_atto crossvit_tiny_240 cs3darknet_s cspdarknet53 cspresnet50 davit_tiny deit3_small_patch16_224
deit_tiny_patch16_224 densenet121 dla34 dpn68 eca_resnet33ts edgenext_xx_small efficientformer_l1
efficientformerv2_s0 efficientnet_b0 efficientvit_b0 efficientvit_m0 ese_vovnet19b_dw eva02_tiny_patch14_224
fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gernet_s ghostnet_100 gmixer_24_224 halonet26t
hgnet_tiny hiera_tiny_224 hrnet_w18_small inception_next_tiny lcnet_050 levit_128s mambaout_femto
maxvit_rmlp_pico_rw_256 mixer_s32_224 mixnet_s mobilenetv1_100 mobilenetv3_small_100 mobilenetv4_conv_small
mobileone_s0 mobilevit_xxs mvitv2_tiny nest_tiny nextvit_small nf_resnet50 pit_ti_224 poolformer_s12
pvt_v2_b0 regnetx_002 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_26w_4s resmlp_12_224 resnest14d
resnet26d resnetv2_50 rexnet_100 seresnet18 selecsls42b sequencer2d_s skresnet18 starnet_s1 swiftformer_xs
swin_tiny_patch4_window7_224 swinv2_cr_tiny_ns_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 twins_svt_small
visformer_tiny vit_relpos_small_patch16_224 vit_tiny_patch16_224 volo_d1_224 xception41 xcit_nano_12_p16_224
"""
"""One or a few of every family of timm."""

_SIDE = 96
"""Height and width of images for networks that take any size."""

_LOUD = 100.0
"""Results that a network does not make unless signals grow from layer to layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network to build.

    Attributes:
        name: what the table calls it, unique.
        origin: torchvision, timm or transformers.
        build: makes the network, and the positional and keyword arguments to call it with.
    """

    name: str
    origin: str
    build: Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]


def architectures() -> list[Architecture]:
    """All of them; imports the three libraries."""
    from torch_language import CONFIGURATIONS

    made = [
        Architecture(name=name, origin="torchvision", build=partial(_torchvision, name))
        for name in _torchvision_names()
    ]
    made += [
        Architecture(name=f"timm/{name}", origin="timm", build=partial(_timm, name)) for name in _timm_names()
    ]
    made += [
        Architecture(name=f"hf/{name}", origin="transformers", build=build)
        for name, build in CONFIGURATIONS.items()
    ]
    return made


def preload() -> Any:
    """Import what all processes need, once; keep the result alive."""
    import logging
    import warnings

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TIMM_FUSED_ATTN", "0")
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    import torch

    import torchvision_ops

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    library = torchvision_ops.install()
    import timm
    import transformers

    del timm, transformers
    _warm_up()
    return library


def _warm_up() -> None:
    """Import what either tool imports when it is first used."""
    import torch
    import torch_pruning

    import prunec

    module, data = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)), torch.randn(2, 4)
    prunec.run(prunec.trace(module, (data,)), "prune-channels{ratio=50% round-to=1}")
    importance = torch_pruning.importance.MagnitudeImportance(p=2)
    torch_pruning.pruner.MetaPruner(module, data, importance, ignored_layers=[module[1]]).step()


def randomise(module: Any) -> None:
    """Draw every float tensor of a module anew, near what its initialisation gave."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def normal(tensor: Any) -> Any:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.dtype != torch.float32 or tensor.numel() == 0 or not torch.isfinite(tensor).all():
                continue
            if tensor.ndim == 1:
                spread = (torch.randperm(len(tensor), generator=generator) + 0.5) / len(tensor)
                centred = any(word in name.rpartition(".")[2] for word in ("bias", "mean"))
                tensor.copy_(0.2 * (spread - 0.5) if centred else 0.5 + spread)
            elif bool((tensor == tensor.flatten()[0]).all()):
                tensor.add_(0.1 * normal(tensor))
            else:
                wanted = (
                    tensor.numel() / len(tensor)
                ) ** -0.5  # as loud as its input, or cuts would not be heard
                noise = 1e-2 * normal(tensor)
                loudness = max(1.0, wanted / float(tensor.std()))
                tensor.mul_(loudness * (1 + noise)).add_(wanted * noise)


def settle(module: Any, run: Callable[[Any], Any]) -> None:
    """Make weights quieter until results are no louder than a network's: beyond, rounding alone would change them.

    Another module runs: some keep tensors of a run, and could not be copied after it.
    """
    import torch
    from torch.utils import _pytree as pytree

    twin = copy.deepcopy(module)
    weights = [(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True) if a.ndim > 1]
    with torch.no_grad():
        while (
            max((float(t.abs().max()) for t in _floats(pytree.tree_leaves(run(twin)))), default=0.0) > _LOUD
        ):
            for pair in weights:
                for weight in pair:
                    weight.mul_(0.8)


def _floats(leaves: Iterable[Any]) -> Iterator[Any]:
    import torch

    return (t for t in leaves if isinstance(t, torch.Tensor) and t.is_floating_point() and t.numel())


def _torchvision_names() -> Sequence[str]:
    import torchvision

    return [n for n in torchvision.models.list_models() if not n.startswith("quantized_")]


def _torchvision(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    import torch
    import torchvision

    options: dict[str, Any] = {"weights": None}
    if "rcnn" in name or name.startswith(("retinanet", "fcos", "ssd", "deeplab", "fcn", "lraspp")):
        options |= {"weights_backbone": None}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit"):
        options |= {"image_size": 14 * 4 if name == "vit_h_14" else 64}
    module = torchvision.models.get_model(name, **options).eval()
    if name.startswith("raft"):
        return module, (torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128)), {"num_flow_updates": 2}
    if "rcnn" in name or name.startswith(("retinanet", "fcos", "ssd")):
        return module, ([torch.rand(3, 128, 128)],), {}
    if name in ("mc3_18", "r3d_18", "r2plus1d_18", "swin3d_b", "swin3d_s", "swin3d_t"):
        return module, (torch.randn(1, 3, 8, 64, 64),), {}
    if name == "s3d":
        return module, (torch.randn(1, 3, 16, 224, 224),), {}
    if name.startswith("mvit"):
        return module, (torch.randn(1, 3, 16, 224, 224),), {}
    side = {"inception_v3": 128, "maxvit_t": 224, "vit_h_14": 56}.get(name, 64)
    return module, (torch.randn(2, 3, side, side),), {}


def _timm_names() -> Sequence[str]:
    import timm

    known = set(timm.list_models())
    return [name for name in _TIMM.split() if name in known]


def _timm(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    import timm
    import torch

    module = timm.create_model(name, pretrained=False).eval()
    shape = module.default_cfg["input_size"]
    side = _SIDE if _takes_any_size(module) else shape[-1]
    return module, (torch.randn(2 if side <= _SIDE else 1, shape[0], side, side),), {}


def _takes_any_size(module: Any) -> bool:
    """Whether a forward pass works at a size that is not its own."""
    import torch

    try:
        with torch.no_grad():
            module(torch.randn(2, 3, _SIDE, _SIDE))
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError):
        return False
    return True
