"""The ledger of an engine: which layers could run on sparse kernels, which do, and how that is known.

A layer is *picked* only on evidence: the engine's inspector names a sparse kernel for it, or the build log says so.
Where kernels are chosen by the machine that runs the engine, or a region belongs to another compiler, the ledger says
*unknown*, which proves nothing and counts as nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prunec.exporters.tensorrt.candidates import Candidate
from prunec.exporters.tensorrt.layers import EngineLayer
from prunec.exporters.tensorrt.log import SparsityLog
from prunec.ir.diagnostics import GateError, counted

Picked = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One layer of the model.

    Attributes:
        layer: the layer, and whether it could run on sparse kernels.
        picked: whether a sparse kernel was chosen for it.
        evidence: how that is known, or why it is not.
        engine_layers: the engine's layers that compute it.
        tactic: the kernel, where one is named.
    """

    layer: Candidate
    picked: Picked
    evidence: str
    engine_layers: tuple[str, ...] = ()
    tactic: str = ""

    def as_json(self) -> dict[str, Any]:
        """The entry as the ledger's file holds it."""
        return {
            "name": self.layer.name,
            "op": self.layer.op,
            "weight": self.layer.weight,
            "shape": list(self.layer.shape),
            "eligible": self.layer.is_eligible,
            "reasons": list(self.layer.reasons),
            "small": self.layer.small,
            "sparse_weights": self.layer.is_sparse,
            "picked": self.picked,
            "evidence": self.evidence,
            "engine_layers": list(self.engine_layers),
            "tactic": self.tactic,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All layers with a weight, in graph order.

    Attributes:
        entries: the layers.
        log: what the build log says.
    """

    entries: tuple[Entry, ...]
    log: SparsityLog

    @property
    def eligible(self) -> tuple[Entry, ...]:
        """The layers that could run on sparse kernels."""
        return tuple(entry for entry in self.entries if entry.layer.is_eligible)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many eligible layers there are, have 2:4 weights, and are picked, not picked, unknown."""
        picked = Counter(entry.picked for entry in self.eligible)
        return {
            "layers": len(self.entries),
            "eligible": len(self.eligible),
            "sparse_weights": sum(entry.layer.is_sparse for entry in self.eligible),
            "picked": picked["yes"],
            "not_picked": picked["no"],
            "unknown": picked["unknown"],
        }

    def __str__(self) -> str:
        n = self.counts
        return (
            f"sparse kernels: {n['eligible']} of {n['layers']} layers are eligible, {n['sparse_weights']} of these "
            f"have 2:4 weights; picked for {n['picked']}, not for {n['not_picked']}, unknown for {n['unknown']}"
        )

    def as_json(self) -> dict[str, Any]:
        """Counts, what the log said, and all layers."""
        return {
            "counts": dict(self.counts),
            "log": asdict(self.log),
            "layers": [entry.as_json() for entry in self.entries],
        }

    def require(self, share: float) -> None:
        """See that a sparse kernel is proven for a share of the eligible layers.

        Raises:
            GateError: it is proven for fewer, or no layer is eligible.
        """
        eligible, picked = self.eligible, self.counts["picked"]
        if eligible and picked >= share * len(eligible):
            return
        if not eligible:
            message = "no layer is eligible for sparse kernels"
        else:
            message = f"sparse kernels are proven for {picked} of {len(eligible)} eligible layers"
        why = Counter(entry.evidence for entry in eligible if entry.picked != "yes")
        why.update(str(entry.layer.small) for entry in eligible if entry.picked == "no" and entry.layer.small)
        why.update(reason for entry in self.entries for reason in entry.layer.reasons if not eligible)
        raise GateError(
            f"{message}; at least {100 * share:g} % are required",
            notes=[f"{counted(count, 'layer')}: {reason}" for reason, count in why.most_common(5)],
            help=["the ledger says it for every layer; no engine was written"],
        )


def make_ledger(
    candidates: Iterable[Candidate],
    engine_layers: Sequence[EngineLayer],
    log: SparsityLog,
    *,
    names: Iterable[str],
    runs_elsewhere: bool,
) -> Ledger:
    """Bring together what the model, the engine and the build log say.

    Args:
        candidates: layers of the model.
        engine_layers: layers of the engine, as the inspector or a verbose log lists them.
        log: what the log says about sparse kernels.
        names: names of all nodes of the model.
        runs_elsewhere: whether the package leaves kernels to the machine that runs the engine.
    """
    layers = tuple(candidates)
    computed_by: dict[str, list[EngineLayer]] = {}
    known = set(names)
    for engine_layer in engine_layers:
        for name in engine_layer.onnx_layers(known):
            computed_by.setdefault(name, []).append(engine_layer)
    judge = _Judge(
        log=log, known=known, runs_elsewhere=runs_elsewhere, sparse=sum(_may_pick(c) for c in layers)
    )
    entries = tuple(judge.entry(layer, computed_by.get(layer.name, [])) for layer in layers)
    return Ledger(entries=entries, log=log)


def _may_pick(layer: Candidate) -> bool:
    return layer.is_eligible and layer.is_sparse


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Decides layer by layer; the inspector's word comes before the log's."""

    log: SparsityLog
    known: set[str]
    runs_elsewhere: bool
    sparse: int

    def entry(self, layer: Candidate, found: list[EngineLayer]) -> Entry:
        picked, evidence = self._verdict(layer, found)
        tactics = [engine_layer.tactic for engine_layer in found if not engine_layer.is_opaque]
        return Entry(
            layer=layer,
            picked=picked,
            evidence=evidence,
            engine_layers=tuple(engine_layer.name for engine_layer in found),
            tactic=_contraction_tactic(tactics),
        )

    def _verdict(self, layer: Candidate, found: list[EngineLayer]) -> tuple[Picked, str]:
        if any(engine_layer.is_sparse for engine_layer in found):
            return "yes", "the engine names a sparse kernel"
        if not _may_pick(layer):
            return "no", "not eligible" if not layer.is_eligible else "its weights are not 2:4"
        by_log = self._by_log(layer)
        if by_log is not None:
            return by_log
        if found and all(not engine_layer.is_opaque for engine_layer in found):
            return "no", "the engine names a dense kernel"
        if self.runs_elsewhere:
            return "unknown", "kernels are chosen by the machine that runs the engine"
        return (
            "unknown",
            "it is in a region of another compiler" if found else "no layer of the engine names it",
        )

    def _by_log(self, layer: Candidate) -> tuple[Picked, str] | None:
        picked, eligible = self.log.picked, self.log.eligible
        if picked is None:
            return None
        if picked.is_named and any(self._names(text, layer) for text in picked.names):
            return "yes", "the build log names it among the layers with sparse kernels"
        if picked.count == 0:
            return "no", "the build log says that no sparse kernel was chosen"
        if eligible is not None and picked.count == eligible.count >= self.sparse:
            return "yes", "the build log says that sparse kernels were chosen for all eligible layers"
        if picked.is_named:
            return "no", "the build log does not name it among the layers with sparse kernels"
        return None

    def _names(self, text: str, layer: Candidate) -> bool:
        return layer.name in EngineLayer(name=text).onnx_layers(self.known)


def _contraction_tactic(tactics: Sequence[str]) -> str:
    """Of the kernels that compute a layer together the sparse one, else the first."""
    return next((tactic for tactic in tactics if "sparse" in tactic.lower()), tactics[0] if tactics else "")
