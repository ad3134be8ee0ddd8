"""Translation validation: after a transform, prove by inspection and by execution that it did what it said.

Checks, each in a module of its own: ``shapes`` (ONNX's checker and strict shape inference agree with
what the cut predicted),
``broadcast`` (nothing broadcasts that did not before) and ``masked`` (the outputs equal those of the model
before, with the removed slices set to zero) or, for zeros in weights, ``sparse`` (nothing but the masked weights
changed, and they have their pattern), ``repaired`` (the tensors with new numbers hold all of the change) or
``quantised`` (weights are within a step of what they were). ``compare`` holds what "equal" means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunec.ir.diagnostics import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir

    from prunec.ir.module import Module
    from prunec.passes.analyses import Analyses
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.coupling.options import CouplingOptions
    from prunec.passes.plan import Step
    from prunec.passes.verifier.quantised import QuantisedWeights
    from prunec.passes.verifier.repaired import RepairEvidence
    from prunec.passes.verifier.sparse import MaskEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was proven about one transform.

    Attributes:
        pass_name: the pass.
        values: values whose shapes were checked.
        broadcasts: elementwise ops whose broadcasting was checked.
        equivalence: ``same``, ``masked`` or ``masked-kept-statistics``: what the outputs were compared with;
            ``sparse``, ``repaired`` and ``quantised``: they were measured against the model before, which they need
            not equal.
        error: largest difference of an output, relative to the largest magnitude of that output.
        batch: batch size of the probe inputs, or held-out samples.
        witnesses: intermediate values that were compared too, because an output is nearly constant.
        rounded: both models were run as they are; False where they agree with the rounding of activations to
            integers left out (a last digit of a float decides there about a whole step).
        borderline: they differ by a rounding on the first inputs, and agree on two others.
        ways: branches of ``If`` nodes on which the outputs were compared as well, whatever the conditions say, as
            (compared, tried): on the others the model before the pass does not run.
        bodies: likewise bodies that their op feeds as it sees fit (the decoder of a ``BeamSearch``), run by
            themselves.
        masks: what was found about masked weights (``sparse`` only).
        repairs: what was found about tensors with new numbers (``repaired`` only).
        quantised: what was found about weights in 8 bits (``quantised`` only).
        held_out: outputs were measured on held-out samples of the calibration data, not on probe inputs.
        finite: some output of the model before is a number (not where outputs had to be equal).
    """

    pass_name: str
    values: int
    broadcasts: int
    equivalence: str
    error: float
    batch: int
    witnesses: int = 0
    rounded: bool = True
    borderline: bool = False
    ways: tuple[int, int] = (0, 0)
    bodies: tuple[int, int] = (0, 0)
    masks: MaskEvidence | None = None
    repairs: RepairEvidence | None = None
    quantised: QuantisedWeights | None = None
    held_out: bool = False
    finite: bool = True

    @property
    def exact(self) -> bool:
        """Whether the outputs had to be equal."""
        return self.masks is None and self.repairs is None and self.quantised is None

    def __str__(self) -> str:
        if self.masks is not None:
            return self._sparse_text(self.masks)
        if self.repairs is not None:
            return self._repaired_text(self.repairs)
        if self.quantised is not None:
            held = f"{self.pass_name}: {self.values} shapes and {self.broadcasts} broadcasts hold"
            return f"{held}; {self.quantised}; {self._change_text()}"
        against = {
            "same": "the model before it",
            "masked": "the model before it with the removed slices set to zero",
            "masked-kept-statistics": (
                "the model before it with the removed slices set to zero and statistics over the kept ones"
            ),
        }[self.equivalence]
        without = "" if self.rounded else ", rounding to integers left out"
        without += ", on inputs where no value lies between two integers" if self.borderline else ""
        also = f" and {counted(self.witnesses, 'intermediate value')}" if self.witnesses else ""
        parts = ((self.ways, "branches of `If` by force"), (self.bodies, "bodies by themselves"))
        shapes = counted(self.values, "shape")
        inner = "".join(f", {run} of {tried} {what}" for (run, tried), what in parts if tried)
        return (
            f"{self.pass_name}: {shapes} and {counted(self.broadcasts, 'broadcast')} hold; outputs{also} "
            f"equal {against} (relative error {self.error:.1e}, batch {self.batch}{without}{inner})"
        )

    def _sparse_text(self, masks: MaskEvidence) -> str:
        held = "1 mask holds" if masks.masks == 1 else f"{masks.masks:,} masks hold"
        uncounted = (
            "" if masks.counted == masks.masks else f", {masks.masks - masks.counted} of them uncounted"
        )
        return (
            f"{self.pass_name}: {held}{uncounted}, {masks.zeros / masks.weights:.0%} of "
            f"{masks.weights:,} weights are zero and nothing else changed; {self._change_text()}"
        )

    def _repaired_text(self, repairs: RepairEvidence) -> str:
        return (
            f"{self.pass_name}: {self.values} shapes and {self.broadcasts} broadcasts hold; {repairs.tensors} tensors "
            f"have new numbers, and with the old ones outputs equal the model before it (relative error "
            f"{repairs.error:.1e}); {self._change_text()}"
        )

    def _change_text(self) -> str:
        if not self.finite:
            return "no output is a finite number, before as after, so that nothing tells how far they differ"
        on = f"held-out samples: {self.batch}" if self.held_out else f"batch {self.batch}"
        return f"outputs are finite and differ by {self.error:.1e} from the model before it (relative, {on})"


def verify(
    pass_name: str,
    before: Module,
    after: Module,
    *,
    analyses: Analyses,
    step: Step | None = None,
    predicted: Mapping[str, tuple[int, ...]] | None = None,
    options: CouplingOptions | None = None,
    repaired: Mapping[str, onnx_ir.TensorProtocol] | None = None,
    quantised: bool = False,
    data: CalibrationData | None = None,
    fitted: bool = True,
    seed: int = 0,
) -> Verdict:
    """Check a transform.

    Args:
        pass_name: the pass, for messages.
        before: the module as the pass found it; it is consumed (turned into the masked reference).
        after: the module as the pass left it.
        analyses: analyses of ``after``.
        step: what the pass removed or put in another order, None for a pass that did neither.
        predicted: concrete shape that every value must have now, by name.
        options: of the dependency analysis that the pass used.
        repaired: per tensor that the pass gave new numbers those with which the model computes what it did.
        quantised: the pass has the contract ``quantised``.
        data: calibration data, on which the change of a quantised model is measured.
        fitted: a pass of the pipeline fits the model to these data; only held-out samples count then.
        seed: of the probe inputs.

    Raises:
        VerificationError: a check failed; the message names the op, the tensor and the numbers.
        UserError: ONNX Runtime does not run the model as it was before.
    """
    from prunec.ir.dialect import dialect_of
    from prunec.passes.verifier.broadcast import check_broadcasts
    from prunec.passes.verifier.compare import compare_outputs
    from prunec.passes.verifier.gradients import check_trainable
    from prunec.passes.verifier.masked import make_reference
    from prunec.passes.verifier.moved import moved_slots
    from prunec.passes.verifier.quantised import check_weights, measure_change
    from prunec.passes.verifier.repaired import check_repairs
    from prunec.passes.verifier.shapes import check_shapes, unchanged_shapes
    from prunec.passes.verifier.sparse import check_masks

    facts = dialect_of(before.model).facts(before.model)
    sparse = step is not None and bool(step.masks)
    if predicted is None:
        predicted = {} if step is not None and step.groups else unchanged_shapes(facts)
    values = check_shapes(pass_name, before, after, analyses.facts(), predicted)
    broadcasts = check_broadcasts(pass_name, before, after, analyses.facts(), facts)
    if sparse or repaired:
        masks = check_masks(pass_name, before, after, step.masks) if step is not None and sparse else None
        repairs = (
            check_repairs(pass_name, before, after, repaired, facts=facts, seed=seed) if repaired else None
        )
        change = measure_change(pass_name, before, after, seed=seed)
        return Verdict(
            pass_name=pass_name,
            values=values,
            broadcasts=broadcasts,
            equivalence="sparse" if sparse else "repaired",
            error=change.error,
            batch=change.batch,
            masks=masks,
            repairs=repairs,
            finite=change.finite,
        )
    if quantised:
        weights = check_weights(pass_name, before, after)
        change = measure_change(pass_name, before, after, data=data, fitted=fitted, seed=seed)
        return Verdict(
            pass_name=pass_name,
            values=values,
            broadcasts=broadcasts,
            equivalence="quantised",
            error=change.error,
            batch=change.batch,
            quantised=weights,
            held_out=data is not None,
            finite=change.finite,
        )
    moved = moved_slots(before, step, options, facts) if step is not None and step.orders else None
    reference = make_reference(before, step, options, facts) if step is not None and step.groups else None
    kept = None if reference is None else reference.kept
    comparison = compare_outputs(pass_name, before, after, kept=kept, moved=moved, facts=facts, seed=seed)
    check_trainable(pass_name, after, seed)
    return Verdict(
        pass_name=pass_name,
        values=values,
        broadcasts=broadcasts,
        equivalence="same" if reference is None else reference.equivalence,
        error=comparison.error,
        batch=comparison.batch,
        witnesses=comparison.witnesses,
        rounded=comparison.rounded,
        borderline=comparison.borderline,
        ways=comparison.ways,
        bodies=comparison.bodies,
    )
