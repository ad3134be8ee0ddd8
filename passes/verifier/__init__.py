"""Translation validation: after a transform, prove by inspection and by execution that it did what it said.

Checks, each in a module of its own: ``shapes`` (ONNX's checker and strict shape inference agree with what the cut
predicted), ``broadcast`` (nothing broadcasts that did not before) and ``masked`` (the outputs equal those of the model
before, with the removed slices set to zero) or, for zeros in weights, ``sparse`` (nothing but the masked weights
changed, and they have their pattern), ``repaired`` (the tensors with new numbers hold all of the change) or
``quantised`` (weights are within a step of what they were). ``compare`` holds what "equal" means, ``verdict`` what is
said of it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from prunec.passes.verifier.verdict import Verdict as Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir

    from prunec.ir.module import Module
    from prunec.passes.analyses import Analyses
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.coupling.options import CouplingOptions
    from prunec.passes.plan import Step


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
    facts = dialect_of(before.model).facts(before.model)
    if predicted is None:
        predicted = {} if step is not None and step.groups else unchanged_shapes(facts)
    seen: dict[str, Any] = {
        "pass_name": pass_name,
        "values": check_shapes(pass_name, before, after, analyses.facts(), predicted),
        "broadcasts": check_broadcasts(pass_name, before, after, analyses.facts(), facts),
    }
    masks = () if step is None else step.masks
    if masks or repaired:
        seen["equivalence"] = "sparse" if masks else "repaired"
        if masks:
            seen["masks"] = check_masks(pass_name, before, after, masks)
        if repaired:
            seen["repairs"] = check_repairs(pass_name, before, after, repaired, facts=facts, seed=seed)
        return Verdict.of(measure_change(pass_name, before, after, seed=seed), **seen)
    if quantised:
        weights = check_weights(pass_name, before, after)
        change = measure_change(pass_name, before, after, data=data, fitted=fitted, seed=seed)
        return Verdict.of(
            change, equivalence="quantised", quantised=weights, held_out=data is not None, **seen
        )
    moved = moved_slots(before, step, options, facts) if step is not None and step.orders else None
    dense = before.clone() if dialect_of(before.model).trains else None
    reference = make_reference(before, step, options, facts) if step is not None and step.groups else None
    kept = None if reference is None else reference.kept
    comparison = compare_outputs(pass_name, before, after, kept=kept, moved=moved, facts=facts, seed=seed)
    if dense is not None:
        check_trainable(pass_name, dense, after, seed)
    return Verdict.of(comparison, equivalence="same" if reference is None else reference.equivalence, **seen)
