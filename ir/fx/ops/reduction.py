"""Reductions, softmax, norms, poolings and resampling of ATen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir

from prunec.ir.form import Form
from prunec.ir.fx.ops.alias import aten, like
from prunec.ir.fx.ops.contraction import Batched
from prunec.ir.op import Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import AlongAxis, Reduce
from prunec.ir.rule import Rule
from prunec.ir.site import Site

_NORM: dict[int, Role] = {1: "scale", 2: "bias"}
_SHAPE = 9
"""Position under which families look for the normalised shape, which is a literal of the call."""


_POOLS = (
    "max_pool{0}d",
    "max_pool{0}d_with_indices",
    "avg_pool{0}d",
    "adaptive_avg_pool{0}d",
    "adaptive_max_pool{0}d",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedNorm(AlongAxis):
    """A norm over the last axes, whose sizes are an argument."""

    to_end: bool = True

    def shape_axes(self, site: Site) -> list[int]:
        """The last axes."""
        rank = len(site.output_shape())
        return list(range(rank - site.shape(_SHAPE)[0], rank))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Einsum):
    """A norm of channels by their running statistics, or by those of the batch: weights that are standardised."""

    def rule(self, site: Site) -> Rule:
        """Of the batch, a statistic over all axes but the channels."""
        rule = Einsum.rule(self, site)
        if not site.int_attribute("training_mode", 0):
            return rule
        return replace(rule, reduced=frozenset(rule.sizes) - {"c"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reductions(Reduce):
    """A reduction with several results of one shape: values and their positions, or variance and mean."""

    def rule(self, site: Site) -> Rule:
        """As for one result; a position that something reads fixes the axis."""
        positions = len(site.node.outputs) > 1 and site.node.op_type.startswith(
            ("max", "min", "median", "mode")
        )
        fixed = self.fixed or (positions and bool(site.node.outputs[1].uses()))
        return self.over(site, self._reduced_axes(site), fixed=fixed)

    def _reduced_axes(self, site: Site) -> set[int]:
        rank = max(1, len(site.shape(0)))
        axes = site.integers(1)
        return {axis % rank for axis in axes} if axes else set(range(rank))


def _last_axes(node: onnx_ir.Node) -> Mapping[str, Any]:
    return {"axis": -len(node.attributes["normalized_shape"].as_ints())}


def register_ops() -> None:
    """Register the family's ops."""
    _register_reductions()
    _register_norms()
    _register_spatial()


def _register_reductions() -> None:
    softmax = Form(attributes={"axis": "dim"})
    names = "softmax.int log_softmax.int _softmax.default _log_softmax.default"
    aten(names, AlongAxis(contested=True), softmax)
    over = Form(attributes={"keepdims": "keepdim"}, operands={1: "dim"})
    names = (
        "mean.dim sum.dim_IntList amax.default amin.default prod.dim_int logsumexp.default max.dim min.dim "
        "var.correction std.correction var.dim std.dim var_mean.correction var_mean.dim std_mean.correction "
        "any.dim any.dims all.dim all.dims linalg_vector_norm.default norm.ScalarOpt_dim "
        "nansum.default nanmean.default count_nonzero.dim_IntList"
    )
    aten(names, Reductions(), over)
    whole = Form(constants={"keepdims": 0})
    aten(
        "mean.default sum.default prod.default max.default min.default var.default std.default all.default "
        "any.default norm.Scalar",
        Reductions(),
        whole,
    )
    aten("argmax.default argmin.default median.dim mode.default", Reductions(fixed=True), over)


def _register_norms() -> None:
    shape = Form(operands={_SHAPE: "normalized_shape"}, derived=_last_axes)
    norm = ShapedNorm(roles=_NORM, zeroed=frozenset({1, 2}), shape_input=_SHAPE)
    aten("layer_norm.default rms_norm.default", norm, shape)
    like("GroupNormalization", "group_norm.default")
    batch = BatchNorm(
        text="n c *s, c, c, c, c -> n c *s",
        roles={**_NORM, 3: "statistic", 4: "statistic"},
        zeroed=frozenset({1, 2}),
    )
    modes = Form(attributes={"training_mode": "training", "epsilon": "eps"})
    aten("batch_norm.default", batch, modes, standard="BatchNormalization")
    instance = Einsum(
        text="n c *s, c, c, c, c -> n c *s",
        fixed="*s",
        roles={**_NORM, 3: "statistic", 4: "statistic"},
        zeroed=frozenset({1, 2}),
    )
    aten("instance_norm.default", instance)


def _register_spatial() -> None:
    for axes in (1, 2, 3):
        pool = Batched(text="n c *s -> n c *t, n c *t", fixed="*s *t", why="a pooled axis", rank=axes + 2)
        aten(" ".join(f"{kind.format(axes)}.default" for kind in _POOLS), pool)
        kinds = (
            "nearest{0}d",
            "_nearest_exact{0}d",
            "linear1d",
            "bilinear2d",
            "bicubic2d",
            "trilinear3d",
            "_bilinear2d_aa",
            "_bicubic2d_aa",
        )
        scaled = [
            f"{'_' if kind.startswith('_') else ''}upsample_{kind.lstrip('_').format(axes)}.{overload}"
            for kind in kinds
            for overload in ("default", "vec")
            if "{0}" in kind or f"{axes}d" in kind
        ]
        aten(
            " ".join(scaled),
            Batched(text="n c *s -> n c *t", fixed="*s *t", why="a resized axis", rank=axes + 2),
        )
    grid = Einsum(text="n c *s, n *t x -> n c *t", fixed="*s *t x", why="a coordinate or position")
    aten("grid_sampler.default grid_sampler_2d.default grid_sampler_3d.default", grid)
