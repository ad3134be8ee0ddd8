"""Random draws of ONNX models that two sessions share, so that what the models compute can be compared.

The axes that such ops draw are never cut (they have no rule), so that the same seed gives the same numbers. A Dropout
in training mode may be cut, and is run as in evaluation.
"""

from __future__ import annotations

import zlib

import onnx
import onnx_ir
from onnx import helper

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Ops that draw random numbers, from a seed of their own where they have one."""


def is_random(node: onnx_ir.Node) -> bool:
    """Whether two runs of a node may give different results, unless it states a seed."""
    return node.op_type in RANDOM and node.domain in ("", "ai.onnx") and "seed" not in node.attributes


def draw_alike(graph: onnx.GraphProto) -> None:
    """Give every op that draws random numbers a seed that follows from the name of what it makes.

    Args:
        graph: the graph, changed in place, bodies included.
    """
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                draw_alike(body)
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type in RANDOM and all(attribute.name != "seed" for attribute in node.attribute):
            seed = float(zlib.crc32(node.output[0].encode()) % 2**20)
            node.attribute.append(helper.make_attribute("seed", seed))
        if node.op_type == "Dropout" and len(node.input) > 2:
            del node.input[2:]
