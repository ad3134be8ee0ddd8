"""Where the nodes of a graph go on a page: layers by depth, lanes beside each other.

A node's layer is the length of the longest way to it, as in Sugiyama, Tagawa and Toda (1981), but nothing is
sorted to save crossings: a node takes the free lane that is nearest to that of a producer, and an output that
is read more than one layer on keeps a lane of its own on the way. Time is linear in nodes and edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

MOST_ROUTES = 64
"""Outputs with a lane of their own in one layer; more would make a page that is mostly lanes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where nodes are.

    Attributes:
        layers: layer of every node, from 0.
        lanes: lane of every node; 0 is where the graph begins, negative ones lie to the left.
        routes: the lane of the outputs, by node, that are read more than one layer on.
    """

    layers: list[int]
    lanes: list[int]
    routes: dict[int, int]


def arrange(producers: Sequence[Sequence[int]], anchors: AbstractSet[int]) -> Layout:
    """Lay out a graph.

    Args:
        producers: for every node those that it reads, all of them before it.
        anchors: the nodes that keep to the top, the graph's inputs. What depends on none of them (what is
            computed from weights, say) goes as far down as its readers allow.
    """
    readers: list[list[int]] = [[] for _ in producers]
    for node, sources in enumerate(producers):
        for source in sources:
            readers[source].append(node)
    layers = _layers(producers, readers, anchors)
    return _Placement(producers, readers, layers).run()


def _layers(
    producers: Sequence[Sequence[int]], readers: Sequence[Sequence[int]], anchors: AbstractSet[int]
) -> list[int]:
    layers: list[int] = []
    loose: list[bool] = []
    for node, sources in enumerate(producers):
        layers.append(max((layers[s] + 1 for s in sources), default=0))
        loose.append(node not in anchors and all(loose[s] for s in sources))
    for node in reversed(range(len(producers))):
        if loose[node] and readers[node]:
            layers[node] = min(layers[r] for r in readers[node]) - 1
    return layers


@dataclass(slots=True)
class _Row:
    """The lanes that are taken in one layer, with the way from each to the next free ones (union-find)."""

    right: dict[int, int] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)

    def take(self, lane: int) -> None:
        self.right[lane], self.left[lane] = lane + 1, lane - 1

    def take_nearest(self, lane: int) -> int:
        """Take the free lane that is nearest to a lane, which may be that one."""
        right, left = _follow(self.right, lane), _follow(self.left, lane)
        found = right if right - lane <= lane - left else left
        self.take(found)
        return found


def _follow(pointers: dict[int, int], lane: int) -> int:
    while (following := pointers.get(lane)) is not None:
        onward = pointers.get(following, following)
        pointers[lane] = onward
        lane = following if onward == following else onward
    return lane


class _Placement:
    """One sweep over the layers, from the top down."""

    def __init__(
        self, producers: Sequence[Sequence[int]], readers: Sequence[Sequence[int]], layers: list[int]
    ) -> None:
        self.producers = producers
        self.layers = layers
        self.last = [max((layers[r] for r in users), default=layers[n]) for n, users in enumerate(readers)]
        self.lanes = [0] * len(layers)
        self.routes: dict[int, int] = {}

    def run(self) -> Layout:
        rows: list[list[int]] = [[] for _ in range(max(self.layers, default=-1) + 1)]
        for node, layer in enumerate(self.layers):
            rows[layer].append(node)
        above: list[int] = []
        open_routes: list[int] = []
        for layer, nodes in enumerate(rows):
            open_routes = [node for node in open_routes if self.last[node] > layer]
            row = _Row()
            for node in open_routes:
                row.take(self.routes[node])
            for node in nodes:
                self.lanes[node] = row.take_nearest(self._wish(node))
            passing = [node for node in above if self.last[node] > layer]
            for node in passing[: MOST_ROUTES - len(open_routes)]:
                self.routes[node] = row.take_nearest(self.lanes[node])
                open_routes.append(node)
            above = nodes
        return Layout(layers=self.layers, lanes=self.lanes, routes=self.routes)

    def _wish(self, node: int) -> int:
        """The producers' lane that is nearest to the middle: branches come back to the trunk."""
        return min((self.lanes[source] for source in self.producers[node]), key=abs, default=0)


def lane_positions(layout: Layout, *, wide: int, narrow: int) -> dict[int, int]:
    """The middle of every lane in pixels: lanes that hold a node are ``wide``, others ``narrow``."""
    boxes = set(layout.lanes)
    found: dict[int, int] = {}
    edge = 0
    for lane in sorted(boxes | set(layout.routes.values())):
        width = wide if lane in boxes else narrow
        found[lane] = edge + width // 2
        edge += width
    return found
