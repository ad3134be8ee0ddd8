"""Ops whose coupling is one fixed line of rule text: convolutions, poolings, normalisations over fixed axes,
and the like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod

from prunec.ir.op import Op, Role
from prunec.ir.registry import register
from prunec.ir.rule import Operand, Pin, Rule, RuleError, Template, fit, parse_template
from prunec.ir.site import Site

Shapes = tuple[tuple[int, ...] | None, ...]
"""Of all inputs or outputs, None for one that is absent or takes no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Einsum(Op):
    """An op with a rule text.

    Attributes:
        text: the rule, see :mod:`prunec.ir.rule`; alternatives for other ranks stand behind ``|``.
        reduced: factors that the op reduces over, separated by spaces.
        fixed: factors that must keep their size, separated by spaces.
        why: what a fixed factor is, for people: ``"a spatial axis"``.
        known: factor sizes that attributes hold, as {factor: attribute} (1 where the attribute is absent).
        numbers: inputs that are no tensor where they hold a single number (a scale for all channels).
    """

    text: str
    reduced: str = ""
    fixed: str = ""
    why: str = "a spatial axis"
    known: Mapping[str, str] = field(default_factory=dict)
    numbers: frozenset[int] = frozenset()

    def rule(self, site: Site) -> Rule:
        """The rule text fitted to the node's shapes; operands that take no part keep their shape."""
        known = {f: site.int_attribute(name, 1) for f, name in self.known.items()}
        return self.fitted(site, self.text, known)

    def fitted(self, site: Site, text: str, known: Mapping[str, int]) -> Rule:
        """A text of the same factors fitted to the node's shapes.

        Args:
            site: the node.
            text: a rule text, which may have alternatives.
            known: factor sizes that the shapes do not tell.
        """
        inputs, outputs = self._shapes(site)
        fixed = dict.fromkeys(self.fixed.split(), f"{self.why} of {site.node.op_type}")
        return _fitted(
            site.node.op_type, text, inputs, outputs, tuple(known.items()), self.reduced, tuple(fixed.items())
        )

    def _shapes(self, site: Site) -> tuple[Shapes, Shapes]:
        shapes = [None if v is None else site.shape(i) for i, v in enumerate(site.node.inputs)]
        site.output_shape()
        inputs = (None if i in self.numbers and prod(s or ()) == 1 else s for i, s in enumerate(shapes))
        return tuple(inputs), tuple(site.output_shapes)


@lru_cache(maxsize=4096)
def _fitted(
    op_type: str,
    text: str,
    inputs: Shapes,
    outputs: Shapes,
    known: tuple[tuple[str, int], ...],
    reduced: str,
    fixed: tuple[tuple[str, str], ...],
) -> Rule:
    """The rule at some shapes; networks repeat their layers, and more than one analysis asks."""
    template = _template(text, inputs)
    rule = fit(template, inputs, outputs, known=dict(known), reduced=reduced.split(), fixed=dict(fixed))
    alone = dict.fromkeys(_alone(rule), f"an axis that no other operand of {op_type} shares")
    pins = tuple(_bystanders(op_type, rule, inputs, outputs))
    return replace(rule, pins=pins, fixed=alone | dict(rule.fixed))


def _template(texts: str, inputs: Sequence[tuple[int, ...] | None]) -> Template:
    """The first alternative whose operands have the ranks of the node's inputs."""
    for template in map(parse_template, texts.split("|")):
        pairs = zip(template.inputs, inputs, strict=False)
        if all(o is None or s is None or _fits(o, len(s)) for o, s in pairs):
            return template
    ranks = ", ".join("-" if s is None else str(len(s)) for s in inputs)
    raise RuleError(f"no form of it has inputs of ranks {ranks}")


def _fits(operand: Operand, rank: int) -> bool:
    starred = any(term and term[0].startswith("*") for term in operand)
    return rank >= len(operand) - 1 if starred else rank == len(operand)


def _alone(rule: Rule) -> Iterator[str]:
    """Factors of a single axis that nothing sums over and no result has: the batch of a constant mask beside data whose
    open batch happens to be 1 here.
    """
    axes = [term for operand in (*rule.inputs, *rule.outputs) for term in operand or ()]
    for factor in rule.sizes:
        kept = any(factor in term for operand in rule.outputs for term in operand or ())
        if not kept and factor not in rule.reduced and sum(factor in term for term in axes) == 1:
            yield factor


def _bystanders(op_type: str, rule: Rule, inputs: Shapes, outputs: Shapes) -> Iterator[Pin]:
    """Operands that the rule leaves out must keep their shape."""
    why = f"an operand that {op_type} reads as a whole"
    for side, operands, sizes in (("in", rule.inputs, inputs), ("out", rule.outputs, outputs)):
        for position, (operand, shape) in enumerate(zip(operands, sizes, strict=True)):
            if operand is None and shape is not None:
                yield from (
                    Pin(operand=(side, position), axis=axis, reason=why) for axis in range(len(shape))
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Op):
    """``Y = alpha * A' * B' + beta * C``, where ``'`` transposes on request and C broadcasts."""

    def rule(self, site: Site) -> Rule:
        """One of four texts, by transA and transB, with C aligned to the right."""
        a = "k m" if site.int_attribute("transA", 0) else "m k"
        b = "n k" if site.int_attribute("transB", 0) else "k n"
        c = ""
        if site.has(2):
            c = ", " + " ".join(("m", "n")[2 - len(site.shape(2)) :])
        return fit(
            parse_template(f"{a}, {b}{c} -> m n"), site.input_shapes, site.output_shapes, reduced=["k"]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Op):
    """Numpy's matmul: ``*b m k, *b k n -> *b m n`` with broadcast batch axes; a one-dimensional operand lacks
    m or n.
    """

    def rule(self, site: Site) -> Rule:
        """The text that fits the two ranks."""
        left, right = len(site.shape(0)), len(site.shape(1))
        if not left or not right:
            raise RuleError("MatMul of a scalar")
        a, m = ("*b m k", " m") if left > 1 else ("k", "")
        b, n = ("*b k n", " n") if right > 1 else ("k", "")
        batch = "*b" if max(left, right) > 2 else ""
        text = f"{a}, {b} -> {batch}{m}{n}"
        return fit(parse_template(text), site.input_shapes, site.output_shapes, reduced=["k"])


_WEIGHT_BIAS: dict[int, Role] = {1: "weight", 2: "bias"}
_ALL = frozenset({0, 1, 2})


def convolution(text: str, *, uncounted: str) -> Einsum:
    """A convolution in ``g`` groups, whose weights and bias stand behind its data.

    Args:
        text: the rule.
        uncounted: see :class:`prunec.ir.op.Op`.
    """
    return Einsum(
        text=text,
        reduced="c *k",
        fixed="*s *k *t",
        attributes={"group": "g"},
        known={"g": "group"},
        roles=_WEIGHT_BIAS,
        linear=True,
        zeroed=_ALL,
        uncounted=uncounted,
    )


def register_ops() -> None:
    """Register the family's ops."""
    register("Conv", convolution("n (g c) *s, (g o) c *k, (g o) -> n (g o) *t", uncounted="s"))
    register("ConvTranspose", convolution("n (g c) *s, (g c) o *k, (g o) -> n (g o) *t", uncounted="t"))
    register("Gemm", Gemm(roles=_WEIGHT_BIAS, linear=True, zeroed=_ALL))
    register("MatMul", MatMul(roles={0: "weight", 1: "weight"}, linear=True, zeroed=frozenset({0, 1})))
    register(
        "BatchNormalization",
        Einsum(
            text="n c *s, c, c, c, c -> n c *s, c, c, c, c",
            roles={1: "scale", 2: "bias", 3: "statistic", 4: "statistic"},
            zeroed=frozenset({1, 2}),
        ),
    )
    register(
        "InstanceNormalization",
        Einsum(
            text="n c *s, c, c -> n c *s", fixed="*s", roles={1: "scale", 2: "bias"}, zeroed=frozenset({1, 2})
        ),
    )
    register("CastLike", Einsum(text="*a, *b -> *a", zeroed=frozenset({0})))
    register("Det", Einsum(text="*b x y -> *b", fixed="x y", why="a side of the matrix"))
    register("DepthToSpace", DepthToSpace())
    register("SpaceToDepth", SpaceToDepth())


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthToSpace(Op):
    """Blocks of channels become blocks of space; ``mode`` says whether the channel or the block is the outer
    factor.
    """

    def rule(self, site: Site) -> Rule:
        """``n (b d c) h w -> n c (h b) (w d)``, or ``(c b d)`` in CRD mode."""
        channels = "c b d" if site.text_attribute("mode", "DCR") == "CRD" else "b d c"
        return _blocks(site, f"n ({channels}) h w -> n c (h b) (w d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceToDepth(Op):
    """Blocks of space become blocks of channels."""

    def rule(self, site: Site) -> Rule:
        """``n c (h b) (w d) -> n (b d c) h w``."""
        return _blocks(site, "n c (h b) (w d) -> n (b d c) h w")


def _blocks(site: Site, text: str) -> Rule:
    block = site.int_attribute("blocksize", 1)
    why = dict.fromkeys("bdhw", f"a spatial axis of {site.node.op_type}")
    return fit(
        parse_template(text), site.input_shapes, site.output_shapes, known={"b": block, "d": block}, fixed=why
    )
