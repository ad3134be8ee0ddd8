"""What the verifier says of a transform, in fields and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from prunec.ir.diagnostics import counted
from prunec.passes.verifier.compare import Comparison

if TYPE_CHECKING:
    from prunec.passes.verifier.quantised import QuantisedWeights
    from prunec.passes.verifier.repaired import RepairEvidence
    from prunec.passes.verifier.sparse import MaskEvidence


_AGAINST = {
    "same": "the model before it",
    "masked": "the model before it with the removed slices set to zero",
    "masked-kept-statistics": (
        "the model before it with the removed slices set to zero and statistics over the kept ones"
    ),
}
"""What outputs equal, by the verdict's ``equivalence``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Comparison):
    """What was proven about one transform: how its outputs compare, and what was seen before anything ran.

    Attributes:
        pass_name: the pass.
        values: values whose shapes were checked.
        broadcasts: elementwise ops whose broadcasting was checked.
        equivalence: ``same``, ``masked`` or ``masked-kept-statistics``: what the outputs were compared with;
            ``sparse``, ``repaired`` and ``quantised``: they were measured against the model before, which they need
            not equal.
        masks: what was found about masked weights (``sparse`` only).
        repairs: what was found about tensors with new numbers (``repaired`` only).
        quantised: what was found about weights in 8 bits (``quantised`` only).
        held_out: outputs were measured on held-out samples of the calibration data, not on probe inputs.
    """

    pass_name: str
    values: int
    broadcasts: int
    equivalence: str
    masks: MaskEvidence | None = None
    repairs: RepairEvidence | None = None
    quantised: QuantisedWeights | None = None
    held_out: bool = False

    @classmethod
    def of(cls, comparison: Comparison, **seen: Any) -> Self:
        """The verdict on a transform whose outputs compare like this; ``seen`` are its other attributes."""
        return cls(**asdict(comparison), **seen)

    @property
    def exact(self) -> bool:
        """Whether the outputs had to be equal."""
        return self.masks is None and self.repairs is None and self.quantised is None

    def __str__(self) -> str:
        """What is proven, in one line."""
        if self.masks is not None:
            return f"{self.pass_name}: {self._masks_text(self.masks)}; {self._change_text()}"
        shapes, broadcasts = counted(self.values, "shape"), counted(self.broadcasts, "broadcast")
        held = f"{self.pass_name}: {shapes} and {broadcasts} hold"
        if self.repairs is not None:
            return f"{held}; {self._repairs_text(self.repairs)}; {self._change_text()}"
        if self.quantised is not None:
            return f"{held}; {self.quantised}; {self._change_text()}"
        return f"{held}; {self._equality_text()}"

    def _equality_text(self) -> str:
        also = f" and {counted(self.witnesses, 'intermediate value')}" if self.witnesses else ""
        how = f"relative error {self.error:.1e}, batch {self.batch}"
        how += "" if self.rounded else ", rounding to integers left out"
        how += "" if self.finite else ", no output is a finite number on either side"
        how += ", random draws made the same" if self.drawn else ""
        how += ", on inputs where no value lies between two integers" if self.borderline else ""
        for (run, tried), what in (
            (self.ways, "branches of `If` by force"),
            (self.bodies, "bodies by themselves"),
        ):
            how += f", {run} of {tried} {what}" if tried else ""
        return f"outputs{also} equal {_AGAINST[self.equivalence]} ({how})"

    def _masks_text(self, masks: MaskEvidence) -> str:
        held = "1 mask holds" if masks.masks == 1 else f"{masks.masks:,} masks hold"
        uncounted = masks.masks - masks.counted
        held += f" (the pattern of {uncounted} could not be counted)" if uncounted else ""
        zeros = f"{masks.zeros / masks.weights:.0%} of {masks.weights:,} weights are zero"
        return f"{held}, {zeros} and nothing else changed"

    def _repairs_text(self, repairs: RepairEvidence) -> str:
        return (
            f"{repairs.tensors} tensors have new numbers, and with the old ones outputs equal the model before it "
            f"(relative error {repairs.error:.1e})"
        )

    def _change_text(self) -> str:
        if not self.finite:
            return "no output is a finite number, before as after, so that nothing tells how far they differ"
        on = f"held-out samples: {self.batch}" if self.held_out else f"batch {self.batch}"
        return f"outputs are finite and differ by {self.error:.1e} from the model before it (relative, {on})"
