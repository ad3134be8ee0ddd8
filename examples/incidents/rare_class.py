"""Incident: accuracy drops by 1 point, the recall of a rare class by 12.

45 % of the early channels went, those with the smallest weights; a mean over all samples hardly moved, and the model
shipped. What went were the filters for a fine texture that one rare class needs at times. A gate on slices
stops that compile, and a budget from measured sensitivities takes the same number of weights where nothing needs them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from inspection import inspection, samples

import prunec
from prunec.ir.diagnostics import GateError

SLICES = """
[all]
max-drop = 0.02

[slices.rare]
where = "label = 9"
max-drop = 0.03
"""
GATE = "gate{slices=slices.toml}"
EARLY = "prune-channels{ratio=45% only=early* round-to=1}"


def main() -> tuple[str, prunec.Result]:
    """Cut early layers, meet the gate, and cut elsewhere; returns the gate's words and the model that passes it."""
    dense, data = inspection(), samples(2400, 99)
    prunec.save(dense, "inspection.onnx")
    np.savez("inspection.npz", **data)
    Path("slices.toml").write_text(SLICES)
    dense = prunec.load("inspection.onnx")

    cut = prunec.run(dense, EARLY)
    show("dense", dense, dense, data)
    show("early layers cut", cut.module, dense, data)
    try:
        prunec.run(dense, f"{EARLY}, {GATE}", data=data)
    except GateError as error:
        stopped = str(error)
        print(f"\n{stopped}\n(exit {error.exit_code})\n")

    ratios = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    prunec.sensitivity(dense, data, ratios=ratios).save("profile.json")
    left = cut.cost_after.parameters / cut.cost_before.parameters
    budget = f"prune-channels{{budget=profile.json target=params:{left:.3f} round-to=1}}"
    kept = prunec.run(dense, f"{budget}, {GATE}", data=data)
    show("budget", kept.module, dense, data)
    early, spent = cut.cost_after.parameters, kept.cost_after.parameters
    print(f"\nweights: {early:,} with early layers cut, {spent:,} with the budget")
    for group in kept.plan.steps[0].groups:
        print(f"  {group.tensors[0].name}: {len(group.removed)} of {group.units} channels go")
    return stopped, kept


def show(name: str, module: prunec.Module, dense: prunec.Module, data: dict[str, np.ndarray]) -> None:
    """Print the accuracy on all samples and on those of the rare class."""
    found = prunec.evaluate(module, data, "top1", reference=dense, slices="slices.toml")
    print(f"{name:18}" + "".join(f"{row.name} {row.value:7.2%}   " for row in found.rows))


if __name__ == "__main__":
    main()
