"""Random exchanges of all units that may exchange places, made and verified without any search."""

from __future__ import annotations

import numpy as np

from prunec.ir.module import Module
from prunec.passes.analyses import Analyses
from prunec.passes.coupling import analyse
from prunec.passes.coupling.exchange import STAYS, Exchange, Ranks, exchange_classes
from prunec.passes.coupling.groups import Coupling
from prunec.passes.coupling.options import CouplingOptions, Unit
from prunec.passes.plan import Step
from prunec.passes.plan.orders import make_order_step
from prunec.passes.slicing import Constants
from prunec.passes.verifier import Verdict, verify

PASS = "exchange"


def shuffled(coupling: Coupling, seed: int) -> list[np.ndarray]:
    """Per prunable group an order that moves every unit that may move, each within its class."""
    rng = np.random.default_rng(seed)
    orders = []
    for group, classes in zip(coupling.prunable, exchange_classes(coupling, coupling.prunable), strict=True):
        order = np.arange(group.units)
        for number in np.unique(classes[classes != STAYS]):
            places = np.flatnonzero(classes == number)
            order[places] = np.roll(places, 1) if len(places) < 3 else rng.permutation(places)
        orders.append(order)
    return orders


def exchanged(module: Module, seed: int = 0, unit: Unit = "head") -> tuple[Module, Step]:
    """A copy of a module with its channels in a random order, and the step that makes it so."""
    after = module.clone()
    coupling = analyse(after.model, options=CouplingOptions(unit=unit))
    orders = shuffled(coupling, seed)
    exchange = Exchange.of(Ranks.of(coupling), coupling.prunable, orders)
    step = make_order_step(PASS, exchange, coupling.prunable, orders)
    Constants(after.model, coupling, exchange.axes).take()
    return after, step


def check_exchange(module: Module, seed: int = 0, unit: Unit = "head") -> Verdict | None:
    """Verify a random exchange; None where nothing may move."""
    after, step = exchanged(module, seed, unit)
    if step.is_empty:
        return None
    options = CouplingOptions(unit=unit)
    return verify(PASS, module.clone(), after, analyses=Analyses(after), step=step, options=options)
