"""What layers read while a model is changed layer by layer, every node run once.

::

    stream = Stream(module, {conv1: [image], conv2: [relu1]}, feeds, facts)
    for stage in stream.stages:
        for number, values in stream.runs(stage):     # one run of the feeds after the other
            ...                                       # values[name]: what layers of the stage are fitted to
        ...                                           # now change the weights of the stage's layers

The graph is cut between stages: what later stages need is kept, run by run, within a limit of memory. Runs that do
not fit begin at the graph's inputs again, which takes longer and gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import PrunecError
from prunec.ir.execute import Blame, Runner
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.scopes import walk
from prunec.ir.sizes import open_inputs
from prunec.passes.calibration.data import Feeds
from prunec.passes.calibration.packing import Holding
from prunec.passes.calibration.stages import Stage, Watched, divided, find_stages

Array = NDArray[Any]
Values = Mapping[str, Array]
"""By name, what one run computes: each [samples, ...]."""

MEMORY = 2 << 30
"""Bytes of values that are kept between stages."""


class Stream:
    """Runs a model stage by stage, each stage on the layers of those before it as they then are.

    Args:
        module: the model; weights of its layers may be changed between stages, nothing else.
        layers: the layers that change, each with the values to watch (see :func:`find_stages`).
        feeds: the samples.
        facts: facts of the model.
        memory: bytes of values to keep between stages.
        holding: what is held for each layer while its stage runs; nothing that counts if not given.
        room: bytes of that at a time; stages that need more are run in parts.
    """

    def __init__(
        self,
        module: Module,
        layers: Watched,
        feeds: Feeds,
        facts: Facts,
        *,
        memory: int = MEMORY,
        holding: Mapping[onnx_ir.Node, Holding] | None = None,
        room: int = 0,
    ) -> None:
        self.stages = find_stages(module.graph, layers, facts.constant)
        if holding is not None:
            self.stages = tuple(part for s in self.stages for part in divided(s, layers, holding, room))
        self._module = module
        self._feeds = feeds
        self._types = types_by_name(facts)
        self._memory = memory
        self._kept: dict[int, dict[str, Array]] = {}
        self._used = 0

    def runs(self, stage: Stage) -> Iterator[tuple[int, Values]]:
        """The number of each run and what is watched for the layers of a stage; stages in order, each once."""
        wanted = {*stage.reads, *stage.keeps}
        runners: dict[frozenset[str], Runner] = {}
        for number, feeds in enumerate(self._feeds):
            kept = self._take(number)
            values = feeds | kept
            if missing := wanted - values.keys():
                cut = frozenset(kept)
                if cut not in runners:
                    runners[cut] = self._runner(sorted(missing), sorted(cut))
                values |= runners[cut].run(values)
            self._keep(number, {name: values[name] for name in stage.keeps})
            yield number, {name: values[name] for name in stage.reads}

    def _runner(self, outputs: list[str], cut: list[str]) -> Runner:
        return runner_between(self._module, cut, outputs, self._types)

    def _take(self, number: int) -> dict[str, Array]:
        """What the stage before has left of a run."""
        kept = self._kept.pop(number, {})
        self._used -= bytes_of(kept)
        return kept

    def _keep(self, number: int, values: dict[str, Array]) -> None:
        size = bytes_of(values)
        if self._used + size <= self._memory:
            self._kept[number] = values
            self._used += size


def types_by_name(facts: Facts) -> dict[str, onnx_ir.TypeAndShape]:
    """The element type of every value whose type is known, and of how many axes it is, of whatever sizes."""
    return {
        value.name: onnx_ir.TypeAndShape(
            onnx_ir.TensorType(onnx_ir.DataType(kind)), _open_shape(facts, value)
        )
        for value, kind in facts.types.items()
        if value.name is not None
    }


def _open_shape(facts: Facts, value: onnx_ir.Value) -> onnx_ir.Shape | None:
    shape = facts.shape(value)
    return None if shape is None else onnx_ir.Shape([None] * len(shape))


def runner_between(
    module: Module,
    cut: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, onnx_ir.TypeAndShape],
    *,
    threads: int = 0,
) -> Runner:
    """The part of a model between values that are known and values that are wanted.

    Args:
        module: the model.
        cut: names of values that are known; graph inputs always are.
        outputs: names of values that are wanted, none of them known.
        types: of at least the values of ``cut`` (see :func:`types_by_name`).
        threads: of one op; 0 lets ONNX Runtime choose.
    """
    model = module.model
    part = _part(model.graph, cut, outputs)
    needs_ranks = any(node.op_type == "Scan" for node in walk(part))  # its kernel asks for shapes in the body
    for value in part.inputs[len(open_inputs(model.graph)) :]:
        known = types[value.name or ""]  # what the graph declares may be of other sizes
        value.type, value.shape = known.type, known.shape if needs_ranks else None
    segment = onnx_ir.Model(part, ir_version=model.ir_version, functions=list(model.functions.values()))
    blame: Blame = "user" if module.source.made_from is None else "pass"
    try:
        return Runner(Module(segment, module.source), optimize=True, threads=threads, blame=blame)
    except PrunecError:
        # A part may be fused into an op without a kernel (a LayerNormalization of mixed types) where the whole is not.
        return Runner(Module(segment, module.source), threads=threads, blame=blame)


def _part(graph: onnx_ir.Graph, cut: Sequence[str], outputs: Sequence[str]) -> onnx_ir.Graph:
    """The nodes between values; of an op with several outputs, one known and one wanted, all are computed again."""
    given = [value.name or "" for value in open_inputs(graph)]
    part = onnx_ir.convenience.extract(graph, inputs=[*given, *cut], outputs=list(outputs))
    made = {value.name for node in part for value in node.outputs}
    if made.isdisjoint(cut):
        return part
    return _part(graph, [name for name in cut if name not in made], outputs)


def bytes_of(values: Values) -> int:
    """Bytes of all arrays together."""
    return sum(array.nbytes for array in values.values())
