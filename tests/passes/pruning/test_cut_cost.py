"""The cost of a cut is known before it is made, to the last parameter."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import CASES, Draw
from generators import random_model

import prunec
from prunec.ir.control import make_names_unique
from prunec.ir.module import Module
from prunec.passes.cleanup import inline_functions, remove_unused_nodes
from prunec.passes.cost import measure
from prunec.passes.coupling import analyse
from prunec.passes.coupling.options import CouplingOptions, Unit
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.cutting import Cutter
from prunec.passes.pruning.selection import choose, removed_components


def check(module: Module, seed: int, unit: Unit = "head") -> None:
    """Cut random units of all groups; the model then costs what was foretold."""
    inline_functions(module.model, ruled=False)
    remove_unused_nodes(module.model)  # a cut takes along what nothing reads
    make_names_unique(module.graph, module.opset(""))
    coupling = analyse(module.model, options=CouplingOptions(unit=unit))
    groups, rng = coupling.prunable, np.random.default_rng(seed)
    cost, dense = CutCost(module.model, coupling, groups), measure(module.model, coupling)
    assert (cost.macs(cost.full), cost.parameters(cost.full)) == (dense.macs, dense.parameters)
    counts = np.array([rng.integers(0, group.units) for group in groups], np.int64)
    chosen = choose(coupling, groups, [rng.random(group.units) for group in groups], counts)
    kept = cost.full - np.array([len(units) for units in chosen], np.int64)
    foretold = (cost.macs(kept), cost.parameters(kept))
    Cutter(module.model, coupling, removed_components(coupling, groups, chosen)).run()
    after = measure(module.model, analyse(module.model, options=CouplingOptions(unit=unit)))
    assert foretold == (after.macs, after.parameters)
    everything = range(len(groups))
    parts = [cost.macs_touching(everything, k) for k in (cost.full, kept)]
    assert parts[0] - parts[1] == dense.macs - after.macs


@pytest.mark.parametrize("name", CASES)
def test_every_op(name: str) -> None:
    network = CASES[name](Draw(0, name))
    check(network.build(0), 0, network.unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    check(prunec.load(random_model(seed)), seed)
