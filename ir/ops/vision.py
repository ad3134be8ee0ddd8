"""Ops on images: sampling at computed positions, regions of interest, columns of patches."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Einsum):
    """Pooling over spatial axes."""

    def rule(self, site: Site) -> Rule:
        """As the rule text says.

        Raises:
            RuleError: the positions of the maxima are asked for.
        """
        if len(site.node.outputs) > 1 and site.node.outputs[1].name:
            raise RuleError("its indices count the elements of all channels")
        return Einsum.rule(self, site)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeformConv(Einsum):
    """Convolution whose taps are moved by computed offsets."""

    def rule(self, site: Site) -> Rule:
        """As a convolution.

        Raises:
            RuleError: several groups of channels have offsets of their own.
        """
        if site.int_attribute("offset_group", 1) > 1:
            raise RuleError("groups of channels have offsets of their own")
        return Einsum.rule(self, site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Col2Im(Einsum):
    """Columns of patches back to an image."""

    def rule(self, site: Site) -> Rule:
        """``n (c k) l -> n c *s``, with as many ``k`` as a patch has positions."""
        return self.fitted(site, self.text, {"k": prod(site.integers(2) or ())})


def register_ops() -> None:
    """Register the family's ops."""
    pool = Pool(text="n c *s -> n c *t", fixed="*s *t", why="a pooled axis")
    masked = Einsum(text="n c *s, n x *u -> n c *t", fixed="*s *u *t x", why="a pooled axis or the mask")
    register("MaxpoolWithMask", masked, domain=_CONTRIB)
    register("MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool", pool)
    position = "a coordinate or position"
    grid = Einsum(text="n c *s, n *t x -> n c *t", fixed="*s *t x", why=position)
    for domain in ("", _CONTRIB):
        register("GridSample", grid, domain=domain)
    register("Crop", Einsum(text="n c *s -> n c *t", fixed="*s *t"))
    regions = Einsum(text="n c *s, r x, r -> r c *t", fixed="n r *s *t x", why="a region or position")
    register("RoiAlign MaxRoiPool", regions)
    deform = DeformConv(
        text="n (g c) *s, (g o) c *k, n x *t, (g o), n y *t -> n (g o) *t",
        reduced="c *k",
        fixed="*s *k *t x y",
        attributes={"group": "g"},
        known={"g": "group"},
        roles={1: "weight", 3: "bias"},
        linear=True,
        zeroed=frozenset({1, 3}),
        uncounted="s",
    )
    register("DeformConv", deform)
    register("Col2Im", Col2Im(text="n (c k) l -> n c *s", fixed="k l *s"))
