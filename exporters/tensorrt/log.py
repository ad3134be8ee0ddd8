"""What a build log says about sparse kernels, in both forms that TensorRT has used, and about the engine's layers.

Up to TensorRT 8::

    (Sparsity) Layers eligible for sparse math: conv1 + relu1, conv2
    (Sparsity) TRT inference plan picked sparse implementation for layers: conv2

Later, with or without the names behind the numbers, and once for every pass of tactic selection (the last counts)::

    (Sparsity) Found 2 layer(s) eligible to use sparse tactics: conv1 + relu1, conv2
    (Sparsity) Chose 1 layer(s) using sparse tactics: conv2
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prunec.exporters.tensorrt.layers import EngineLayer

_ELIGIBLE = (
    re.compile(r"\(Sparsity\) Layers eligible for sparse math:(?P<names>.*)"),
    re.compile(
        r"\(Sparsity\) Found (?P<count>\d+) layer\(s\) eligible to use sparse tactics[.:]?(?P<names>.*)"
    ),
)
_PICKED = (
    re.compile(r"\(Sparsity\) TRT inference plan picked sparse implementation for layers:(?P<names>.*)"),
    re.compile(r"\(Sparsity\) Chose (?P<count>\d+) layer\(s\) using sparse tactics[.:]?(?P<names>.*)"),
)
_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+),.*?"
    r"(?:, TacticName: (?P<tactic>[^,]*))?(?:, TacticValue: [^,]*)?"
    r"(?:, StreamId: \d+)?(?:, Metadata: (?P<metadata>.*))?$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCount:
    """Layers that a log speaks of.

    Attributes:
        count: how many.
        names: names of the engine's layers; empty where the log gives the number alone.
    """

    count: int
    names: tuple[str, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether the log says which layers they are."""
        return len(self.names) == self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class SparsityLog:
    """What a log says about sparse kernels.

    Attributes:
        eligible: layers whose weights have the pattern, in TensorRT's eyes; None where the log says nothing.
        picked: layers for which a sparse kernel was chosen; None where the log says nothing.
    """

    eligible: LayerCount | None = None
    picked: LayerCount | None = None


@dataclass(slots=True)
class BuildLog:
    """The messages of a build: severity, such as ``INFO``, and text."""

    messages: list[tuple[str, str]] = field(default_factory=list)

    def texts(self, *severities: str) -> list[str]:
        """The messages of some severities, in order."""
        return [text for severity, text in self.messages if severity in severities]

    @property
    def lines(self) -> list[str]:
        """Every line of every message (metadata holds control characters that ``splitlines`` would split at)."""
        return [line for _, text in self.messages for line in text.split("\n")]


def parse_sparsity(lines: Iterable[str]) -> SparsityLog:
    """Find what the lines of a log, with or without time stamps, say about sparse kernels."""
    found: dict[str, LayerCount] = {}
    for line in lines:
        for key, patterns in (("eligible", _ELIGIBLE), ("picked", _PICKED)):
            for match in filter(None, (pattern.search(line) for pattern in patterns)):
                found[key] = _count(match)
    return SparsityLog(eligible=found.get("eligible"), picked=found.get("picked"))


def _count(match: re.Match[str]) -> LayerCount:
    names = tuple(name.strip() for name in match["names"].split(", ") if name.strip())
    count = match.groupdict().get("count")
    return LayerCount(count=len(names) if count is None else int(count), names=names)


def parse_layers(lines: Iterable[str]) -> tuple[EngineLayer, ...]:
    """The engine's layers as a verbose log lists them behind the line ``Layers:``.

    This is the inspector's own text; unlike the inspector it is there without a GPU.
    """
    return tuple(_layers(lines))


def _layers(lines: Iterable[str]) -> Iterator[EngineLayer]:
    inside = False
    for line in lines:
        inside = line.strip().endswith("Layers:") or (inside and line.startswith("Name: "))
        if inside and (match := _LAYER.match(line)) is not None:
            sparse = re.search(r", (?:HasSparseWeights|AllowSparse): (\d)", line)
            yield EngineLayer(
                name=match["name"],
                kind=match["kind"],
                tactic=(match["tactic"] or "").strip(),
                metadata=match["metadata"] or "",
                sparse_weights=None if sparse is None else sparse[1] == "1",
            )
