"""The pass ``compensate``: what is left after a cut makes up for what went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.ir.diagnostics import UserError
from prunec.passes.base import Context, Contract, Outcome, Pass, option
from prunec.passes.checks import at_least

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensate(Pass):
    """Fit the layers behind a cut to what they computed before it, on data and without training.

    Stands behind `prune-channels`. Layer by layer, each with inputs from the layers that are fitted already:
    `bias` adds the mean of what the outputs lack, `lstsq` also changes the weights by linear regression. A fit
    that does not help on held-out samples is not made.
    """

    name: ClassVar[str] = "compensate"
    contract: ClassVar[Contract] = "repaired"
    rescales: ClassVar[bool] = True
    needs_uncut: ClassVar[bool] = True

    method: Literal["bias", "lstsq"] = option(
        "lstsq", help="absorb the mean error into biases, or fit weights and biases by least squares"
    )
    ridge: float | None = option(
        None,
        help="of `lstsq`: penalty on changes of weights, as a share of the inputs' mean variance (none: of several "
        "the one that is best on held-out samples)",
        check=at_least(0),
    )

    def __post_init__(self) -> None:
        if self.method == "bias" and self.ridge is not None:
            raise UserError(
                "option 'ridge' is for method=lstsq, and method is bias", help=["leave `ridge` out"]
            )

    @property
    def needs_data(self) -> bool:
        """Always: what layers compute is known from samples alone."""
        return True

    def run(self, module: Module, context: Context) -> Outcome:
        """Fit and write the layers behind the cut."""
        from prunec.passes.compensation.repair import Repair
        from prunec.passes.compensation.targets import find_targets

        if context.uncut is None:
            context.remarks.missed(self.name, "nothing is compensated", reason="no channels were cut before")
            return Outcome(changed=False)
        targets = find_targets(context, context.uncut, origin=self.name)
        repair = Repair(
            module=module,
            uncut=context.uncut,
            targets=targets,
            context=context,
            origin=self.name,
            method=self.method,
            ridge=self.ridge,
        )
        repaired = repair.run()
        context.remarks.passed(
            self.name, f"{repair.fitted} of {len(targets)} layers behind the cut are fitted"
        )
        return Outcome(
            changed=bool(repaired),
            repaired=repaired,
            statistics={"layers": repair.fitted, "tensors": len(repaired)},
        )
