"""The masked reference: the model before a cut, with everything that was cut set to zero.

Removed slices of weights, biases and scales become zero, on the producing and the consuming side. Where an op
sums or takes a statistic over a cut axis of computed values (a LayerNorm, a mean over channels, the dot
product of two activations), zeros are not enough: there the reference gathers the kept slots first, runs the
op on them, and scatters the result back with zeros in the removed places. It is built from the plan and the
graph before the cut, and shares no code with the cutting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.op import Op
from prunec.ir.registry import form_of, site_of
from prunec.ir.rule import Index, Rule
from prunec.ir.scopes import graph_of
from prunec.passes.coupling import analyse
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling, is_parameter
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.coupling.solve import Bools
from prunec.passes.plan import Equivalence, Step
from prunec.passes.plan.steps import components_of

MULTIPLIED = {onnx_ir.DataType[name] for name in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT32", "INT64")}
"""Types that ONNX Runtime multiplies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is known about a masked reference.

    Attributes:
        equivalence: ``masked``, or ``masked-kept-statistics`` where some op had to be restricted to the kept
            slots.
        kept: per computed value that the step cuts the slots of its axes that stay.
    """

    equivalence: Equivalence
    kept: Mapping[str, Mapping[int, Index]]


def make_reference(
    module: Module, step: Step, options: CouplingOptions | None = None, facts: Facts | None = None
) -> Reference:
    """Turn a module into the masked reference of a step.

    Args:
        module: the module before the step; it is changed in place.
        step: what was removed.
        options: of the dependency analysis that the step was made with.
        facts: facts of the module, where they are at hand already.

    Raises:
        UserError: the step does not fit the module.
    """
    coupling = analyse(module.model, facts, options=options)
    builder = _Builder(module.model, coupling, components_of(step, coupling))
    kept = builder.kept_slots()
    return Reference(equivalence=builder.build(), kept=kept)


def mask(model: onnx_ir.Model, coupling: Coupling, removed: Bools) -> Equivalence:
    """Turn a model into its own masked reference, where it is analysed already.

    Args:
        model: the model before the cut; it is changed in place.
        coupling: its analysis; its facts are kept up to date.
        removed: per component whether it goes.
    """
    return _Builder(model, coupling, removed).build()


def changed_nodes(coupling: Coupling, removed: Bools) -> set[onnx_ir.Node]:
    """The nodes at which a cut begins to change numbers that stay: those that reduce over a cut axis, and those whose
    weights tie it to itself (the recurrent ones of an LSTM).

    What comes before them computes in all kept slots what it did; what the removed slots hold there meets a zero
    weight of theirs, or is left out of their statistic.

    Args:
        coupling: the analysis of the graph.
        removed: per component whether it goes.
    """
    relations = coupling.relations
    return {
        node
        for node, rule in relations.rules.items()
        for factor in rule.reduced | _tied_to_itself(rule)
        if (node, factor) in relations.factors
        and (labels := coupling.labels(relations.factors[node, factor])) is not None
        and removed[labels].any()
    }


def _tied_to_itself(rule: Rule) -> set[str]:
    """Factors that two axes of one operand have."""
    counts = (Counter(f for term in operand or () for f in set(term)) for operand in rule.inputs)
    return {factor for count in counts for factor, times in count.items() if times > 1}


class _Builder:
    def __init__(self, model: onnx_ir.Model, coupling: Coupling, removed: Bools) -> None:
        self.model = model
        self.coupling = coupling
        self.removed = removed
        self.count = 0

    def build(self) -> Equivalence:
        """Mask the model in place."""
        relations = self.coupling.relations
        for operand in list(relations.table.operands):
            if is_parameter(operand.value, self.coupling.facts):
                self._zero(operand)
        for node, rule in list(relations.rules.items()):
            if not any(rule.inputs):
                self._zero_made(node, rule)
        restricted = [
            self._restrict(node, relations.ops[node], rule) for node, rule in list(relations.rules.items())
        ]
        return "masked-kept-statistics" if any(restricted) else "masked"

    def kept_slots(self) -> dict[str, dict[int, Index]]:
        """Per computed value that is cut the slots of its axes that stay."""
        slots: dict[str, dict[int, Index]] = {}
        for operand, numbers in self.coupling.relations.table.operands.items():
            masks = {a: np.flatnonzero(m) for a, n in enumerate(numbers) if (m := self._mask(n)) is not None}
            if masks and operand.value.name:
                slots[operand.value.name] = masks
        return slots

    def _mask(self, number: int) -> Bools | None:
        """Per slot of an axis whether it stays, None where all do."""
        labels = self.coupling.labels(number)
        if labels is None or not self.removed[labels].any():
            return None
        return ~self.removed[labels]

    # -- zeros ------------------------------------------------------------

    def _zero(self, operand: Operand) -> None:
        numbers = self.coupling.relations.table.operands[operand]
        masks = {a: m for a, n in enumerate(numbers) if (m := self._mask(n)) is not None}
        uses = [operand.use] if operand.use else [(u.node, u.idx) for u in operand.value.uses()]
        ops = self.coupling.relations.ops
        zeroed = [(node, i) for node, i in uses if node not in ops or i in ops[node].zeroed]
        if not masks or not zeroed:
            return
        tensor = onnx_ir.convenience.get_const_tensor(operand.value)
        assert tensor is not None
        array = tensor.numpy().copy()
        node, position = zeroed[0]
        zero = ops[node].zero(self.coupling.site(node), position) if node in ops else np.zeros(())
        for axis, mask in masks.items():
            np.moveaxis(array, axis, 0)[~mask] = np.moveaxis(np.broadcast_to(zero, array.shape), axis, 0)[
                ~mask
            ]
        constant = self._constant(onnx_ir.Tensor(array, dtype=tensor.dtype))
        self.coupling.facts.shapes[constant] = array.shape  # other weights of the node are still to come
        for node, position in zeroed:
            node.replace_input_with(position, constant)

    def _zero_made(self, node: onnx_ir.Node, rule: Rule) -> None:
        """Weights that a node makes out of nothing (``ConstantOfShape``) are zeroed behind it."""
        ops = self.coupling.relations.ops
        for position, result in enumerate(node.outputs):
            zeroed = [u for u in result.uses() if u.node not in ops or u.idx in ops[u.node].zeroed]
            current = result
            for axis in range(len(rule.outputs[position] or ())):
                kept = self._mask(self.coupling.relations.numbers[node, "out", position] + axis)
                current = current if kept is None else self._masked(current, result, axis, kept)
            for use in zeroed:
                use.node.replace_input_with(use.idx, current)

    def _masked(self, value: onnx_ir.Value, like: onnx_ir.Value, axis: int, kept: Bools) -> onnx_ir.Value:
        """The value with zeros in the slots of an axis that go; ``like`` has its rank and type."""
        shape = [1] * len(self.coupling.facts.shapes[like])
        shape[axis] = len(kept)
        dtype = onnx_ir.DataType(self.coupling.facts.types.get(like, onnx_ir.DataType.FLOAT))
        mask = kept.reshape(shape)
        if dtype in MULTIPLIED:
            factor = self._constant(onnx_ir.Tensor(mask.astype(dtype.numpy()), dtype=dtype))
            masked = self._insert(value.producer(), "Mul", [value, factor], {}, before=False)
        else:
            zero = self._constant(onnx_ir.Tensor(np.zeros((), dtype.numpy()), dtype=dtype))
            operands = [self._constant(onnx_ir.Tensor(mask)), value, zero]
            masked = self._insert(value.producer(), "Where", operands, {}, before=False)
        self.coupling.facts.constant.update({masked} if like in self.coupling.facts.constant else ())
        return masked

    def _constant(self, tensor: onnx_ir.TensorProtocol) -> onnx_ir.Value:
        self.count += 1
        value = onnx_ir.val(f"prunec_reference_{self.count}", const_value=tensor)
        self.model.graph.register_initializer(value)
        self.coupling.facts.constant.add(value)  # a zeroed weight is a weight still
        return value

    # -- statistics ------------------------------------------------------------

    def _restrict(self, node: onnx_ir.Node, op: Op, rule: Rule) -> bool:
        """Run an op that reduces over cut factors on the kept slots only; False where that is not needed."""
        factors = self.coupling.relations.factors
        known = [i for i, v in enumerate(node.inputs) if v in self.coupling.facts.constant]
        cut = {
            f
            for f in rule.reduced
            if (node, f) in factors
            and self._mask(factors[node, f]) is not None
            and not op.exact(rule, f, known)
        }
        if not cut:
            return False
        for position, operand in enumerate(rule.inputs):
            for axis, term in enumerate(operand or ()):
                if cut & set(term):
                    self._gather_input(node, position, axis, self._kept(node, "in", position, axis))
        for position, operand in enumerate(rule.outputs):
            for axis, term in enumerate(operand or ()):
                if cut & set(term):
                    self._scatter_output(node, position, axis, self._kept(node, "out", position, axis))
        self._restrict_shape(node, op, rule, cut)
        return True

    def _restrict_shape(self, node: onnx_ir.Node, op: Op, rule: Rule, cut: set[str]) -> None:
        """Bring sizes up to date that the node itself holds (the shape that a norm is over)."""
        if op.shape_input is None:
            return
        site = site_of(node, self.coupling.facts, self.model.graph)
        terms = rule.outputs[0] or ()
        sizes = [
            int(self._kept(node, "out", 0, axis).sum())
            if cut & set(terms[axis])
            else site.output_shape()[axis]
            for axis in op.shape_axes(site)
        ]
        form_of(node).write_operand(node, op.shape_input, sizes, ())

    def _kept(self, node: onnx_ir.Node, side: str, position: int, axis: int) -> Bools:
        mask = self._mask(self.coupling.relations.numbers[node, side, position] + axis)
        assert mask is not None
        return mask

    def _gather_input(self, node: onnx_ir.Node, position: int, axis: int, kept: Bools) -> None:
        source = node.inputs[position]
        assert source is not None
        gathered = self._insert(
            node, "Gather", [source, self._indices(np.flatnonzero(kept))], {"axis": axis}, before=True
        )
        node.replace_input_with(position, gathered)

    def _scatter_output(self, node: onnx_ir.Node, position: int, axis: int, kept: Bools) -> None:
        """Put the results of the kept slots back in their places, and zeros in the others."""
        result = node.outputs[position]
        users = list(result.uses())
        spread = self._insert(
            node,
            "Gather",
            [result, self._indices(np.maximum(np.cumsum(kept) - 1, 0))],
            {"axis": axis},
            before=False,
        )
        masked = self._masked(spread, result, axis, kept)
        result.shape = None  # what the graph declares is that of the whole
        for use in users:
            use.node.replace_input_with(use.idx, masked)
        outputs = graph_of(node).outputs
        for place in [i for i, value in enumerate(outputs) if value is result]:  # of a body
            masked.type = result.type
            outputs[place] = masked

    def _indices(self, indices: Index) -> onnx_ir.Value:
        return self._constant(onnx_ir.Tensor(indices.astype(np.int64)))

    def _insert(
        self,
        node: onnx_ir.Node | None,
        op_type: str,
        inputs: list[onnx_ir.Value],
        attributes: dict[str, int],
        *,
        before: bool,
    ) -> onnx_ir.Value:
        assert node is not None
        self.count += 1
        new = onnx_ir.node(op_type, inputs, attributes, name=f"prunec_reference_{self.count}")
        new.outputs[0].name = f"prunec_reference_value_{self.count}"
        insert = graph_of(node).insert_before if before else graph_of(node).insert_after
        insert(node, [new])
        return new.outputs[0]
