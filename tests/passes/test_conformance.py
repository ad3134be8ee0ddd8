"""Every registered op, pruned by half in small networks of random sizes and forms, and verified by execution."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from conformance import CASES, Draw, Network
from core_graphs import node_of, outputs, reasons, weights

import prunec
from fuzz import WITHOUT_KERNEL
from prunec.ir.dialect import ATEN
from prunec.ir.module import Module
from prunec.ir.ops.refused import Refused
from prunec.ir.probes import probe_feeds
from prunec.ir.registry import OPS, find_op

SEEDS = range(4)


def attribute(module: Module, output: str, name: str) -> object:
    """An attribute of the node that computes a value."""
    value = node_of(module, output).attributes[name].value
    return list(value) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_half_of_everything_goes(name: str, seed: int) -> None:
    network: Network = CASES[name](Draw(seed, name))
    module = network.build(seed)
    before, why = weights(module), reasons(module)
    result = prunec.run(module, f"prune-channels{{ratio=0.5 round-to=1 unit={network.unit}}}")
    after = weights(result.module)
    assert len(result.verdicts) == bool(network.cut)
    for constant in network.cut.split():
        assert after[constant].size < before[constant].size, f"{constant} keeps {after[constant].shape}"
    for constant in network.stay.split():
        assert after[constant].shape[-1] == before[constant].shape[-1], f"{constant} loses columns"
    assert not network.reason or any(network.reason in text for text in why), why
    for output, expected in network.attributes.items():
        assert {name: attribute(result.module, output, name) for name in expected} == expected
    for value, array in outputs(result.module, probe_feeds(result.module)).items():
        assert np.isfinite(array).all(), value
        assert np.ptp(array) > 1e-3, f"{value} is constant"


TORCH = (ATEN, "transformers")
"""Domains of captured programs: tests/ir/fx/test_ops.py has their networks."""


def test_every_registered_op_is_in_a_network() -> None:
    assert find_op(onnx_ir.node("Relu", [])) is not None  # fills the registry
    networks = (CASES[name](Draw(seed, name)).build(seed) for name in CASES for seed in SEEDS)
    seen = {f"{node.domain}.{node.op_type}".lstrip(".") for module in networks for node in module.graph}
    ruled = {
        f"{key[0]}.{key[1]}".lstrip(".")
        for key, op in OPS.items()
        if not isinstance(op, Refused) and key[0] not in TORCH
    }
    assert {name for name in ruled - seen if not name.startswith("com.acme")} == set(WITHOUT_KERNEL)
