"""The layers of an engine, and which layers of the ONNX model each of them computes.

TensorRT fuses: one layer of the engine computes several of the model. It says which in the layer's metadata
(``[ONNX Layer: conv1][ONNX Layer: relu1]``, with control characters between), or only in its name (``conv1 + relu1``).
A layer called ``{ForeignNode[conv1...fc]}`` is a whole region that another compiler took over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_METADATA = re.compile(r"\[ONNX Layer: (.*?)\](?=$|[\x1e\x1f\[])")
_REGION = re.compile(r"ForeignNode\[")
_SPARSE = re.compile(r"sparse|spmma|spgemm", re.IGNORECASE)
_STUB = re.compile(r"stub", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """One layer of an engine.

    Attributes:
        name: its name.
        kind: its type, such as ``CaskConvolution``, ``gemm`` or ``kgen``.
        tactic: name of the kernel that was chosen; empty where none is known yet.
        metadata: which ONNX layers it computes, as the engine states them.
        sparse_weights: whether the engine marks its weights as sparse; None where it does not say.
    """

    name: str
    kind: str = ""
    tactic: str = ""
    metadata: str = ""
    sparse_weights: bool | None = None

    @property
    def is_opaque(self) -> bool:
        """Whether no kernel is known: a region of another compiler, or one that is chosen where it runs."""
        return bool(_REGION.search(self.name)) or not self.tactic or bool(_STUB.search(self.tactic))

    @property
    def is_sparse(self) -> bool:
        """Whether the chosen kernel is one for sparse weights."""
        return bool(_SPARSE.search(self.tactic))

    def onnx_layers(self, known: Collection[str]) -> tuple[str, ...]:
        """The layers of the ONNX model that it computes.

        Args:
            known: names of all layers of the model.
        """
        if stated := tuple(_METADATA.findall(self.metadata)):
            return stated
        name = re.sub(r"_myl\d+_\d+$", "", self.name)
        candidates = (self.name, name, *name.split(" + "))
        return tuple(dict.fromkeys(part for part in candidates if part in known))


def inspector_layers(text: str) -> tuple[EngineLayer, ...]:
    """The layers in the JSON text of an engine inspector.

    Without detailed profiling the inspector gives names alone; they are kept, with no tactic.
    """
    return tuple(_inspected(json.loads(text).get("Layers", ())))


def _inspected(entries: Iterable[Any]) -> Iterator[EngineLayer]:
    for entry in entries:
        if isinstance(entry, str):
            yield EngineLayer(name=entry)
            continue
        sparse = entry.get("HasSparseWeights", entry.get("AllowSparse"))
        yield EngineLayer(
            name=str(entry.get("Name", "")),
            kind=str(entry.get("LayerType", "")),
            tactic=str(entry.get("TacticName", "")),
            metadata=str(entry.get("Metadata", "")),
            sparse_weights=None if sparse is None else bool(int(sparse)),
        )
