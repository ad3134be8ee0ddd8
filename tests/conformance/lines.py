"""Networks of one line each: the nodes between two layers, as ``lines.txt`` lists them.

A line is ``opset | layers | nodes | more weights | attributes after``. The nodes make ``b`` of ``a`` between
two convolutions over signals or images, or two MatMuls over tokens; ``$C`` is the number of channels (even),
``$L`` that of positions, ``OP/OP2`` several ops. Weights with an exclamation mark must lose slots, like those
of the two layers; ``refused: TEXT`` in the last field means that no channel may go, for that reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from conformance.network import Draw, Network, add

TEXT = (Path(__file__).parent / "lines.txt").read_text()

LAYERS = {
    "signal": ("(float[2,3,$L] x) => (float[A] y) { a = Conv(x, w0, b0) NODES y = Conv(b, w2) }",
               "float[$C,3,1] w0, float[$C] b0, float[5,$C,1] w2"),
    "image": ("(float[2,3,$L,$L] x) => (float[A] y) { a = Conv(x, w0, b0) NODES y = Conv(b, w2) }",
              "float[$C,3,1,1] w0, float[$C] b0, float[5,$C,1,1] w2"),
    "tokens": ("(float[2,$L,3] x) => (float[A] y) { a = MatMul(x, w0) NODES y = MatMul(b, w2) }",
               "float[3,$C] w0, float[$C,5] w2"),
}  # fmt: skip
"""Per kind of layers the text and its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the list, for one of its ops.

    Attributes:
        opset: version of the default domain that it is written for.
        layers: ``signal``, ``image`` or ``tokens``.
        nodes: what makes ``b`` of ``a``.
        more: weights of these nodes.
        after: attributes after the cut, or the reason of a refusal.
    """

    opset: int
    layers: str
    nodes: str
    more: str
    after: str

    def sizes(self, d: Draw) -> dict[str, int]:
        """Values of the letters."""
        c, length = (d.one(8, 16) if "$B" in self.more else d.even(4, 8)), d.even(4, 6)
        return {"C": c, "L": length, "H": c // 2, "D": 2 * c, "Q": 4 * c, "B": c // 4}

    def network(self, d: Draw) -> Network:
        """The nodes between two layers."""
        sizes = self.sizes(d)
        text, weights = LAYERS[self.layers]
        weights = f"{weights}, {self.more}"
        refused = self.after.removeprefix("refused: ") if self.after.startswith("refused") else ""
        names = " ".join(
            re.findall(r"(\w+)!", weights) + re.findall(r"\b(w0|b0|w2)\b", LAYERS[self.layers][1])
        )
        attributes: dict[str, dict[str, object]] = {}
        for value, name, number in re.findall(r"(\w+)\.(\w+)=(\S+)", "" if refused else self.after):
            attributes.setdefault(value, {})[name] = int(Template(number).substitute(sizes))
        return Network(
            text=Template(text.replace("NODES", self.nodes)).substitute(sizes),
            weights=Template(weights.replace("!", "")).substitute(sizes),
            opset=self.opset,
            cut="" if refused else names,
            stay="w2" if refused else "",
            reason=refused,
            attributes=attributes,
        )


def _lines() -> Iterator[tuple[str, Line]]:
    for number, line in enumerate(TEXT.splitlines(), start=1):
        if not line:
            continue
        opset, layers, nodes, more, after = (field.strip() for field in (line + " | | ").split("|")[:5])
        several = re.search(r"\w+(?:/\w+)+", nodes)
        for op in several[0].split("/") if several else [""]:
            text = nodes.replace(several[0], op) if several else nodes
            name = f"line {number} {op or re.findall(r'[A-Z][A-Za-z]+', nodes)[-1]}"
            yield name, Line(opset=int(opset), layers=layers, nodes=text, more=more, after=after)


LINES = dict(_lines())
"""All lines, by a name of each."""

for _name, _line in LINES.items():
    add(_name, _line.network)
