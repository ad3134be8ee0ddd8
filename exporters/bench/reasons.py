"""Why a model with fewer operations is not as much faster: what its kernels did, beside those of the original.

What is missing is the time of a run less that of the original over the promise. Each reason is one function of the two
profiles and the machine, and gives the seconds that it accounts for, at most those that are missing. They overlap (a
layer of zeros may wait for memory, too), so that they are no parts of a sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from prunec.exporters.bench.layers import is_compute
from prunec.exporters.bench.results import Explanation, LayerTime, Machine, ModelProfile, Reason
from prunec.ir.diagnostics import counted

LEAST = 0.04
"""Share of a run below which a reason is not told."""
SPARSE = 0.3
"""Share of zeros from which a weight counts as sparse."""
VECTOR = 8
"""Channels that vector kernels take at a time, at the least (16 with AVX-512)."""
SLOWER = 0.85
"""Share of its former operations a second below which a layer counts as slowed down."""
LARGE = 1 << 20
"""Bytes of a layer from which they hardly stay in the caches near the core."""
STARVED = 0.3
"""Share of the memory's bandwidth from which a layer counts as waiting for it."""
TINY = 8
"""Times an op that does nothing: what takes no longer is hardly more than overhead."""
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What an explanation starts from.

    Attributes:
        first: profile of the model that is compared with.
        other: profile of the one in question, at the same batch size.
        machine: what the machine can do.
        promise: how much faster the other would be if time followed operations.
    """

    first: ModelProfile
    other: ModelProfile
    machine: Machine
    promise: float

    @property
    def missing(self) -> float:
        """Seconds that a run of the other takes longer than promised."""
        return self.beyond(self.other.run, self.first.run)

    def beyond(self, now: float, before: float) -> float:
        """Seconds of a part of the other, less those that it would take if it had got as much faster as promised."""
        return now - before / self.promise

    @property
    def roof(self) -> tuple[float, float]:
        """Operations and bytes a second that the machine can do: as measured, or as a layer has shown, if that is
        more, since a busy machine measures too little.
        """
        layers = [x for p in (self.first, self.other) for x in p.layers if x.macs and not self.tiny(x)]
        large = [layer for layer in layers if layer.bytes > LARGE]
        operations = max([self.machine.operations, *(2 * x.macs / x.seconds for x in layers)])
        return operations, max([self.machine.bandwidth, *(x.bytes / x.seconds for x in large)])

    def pairs(self) -> Iterator[tuple[LayerTime, LayerTime]]:
        """Layers that multiply in both models: of the first, of the other."""
        before = self.first.named()
        for name, layer in self.other.named().items():
            if name in before:
                yield before[name], layer

    def tiny(self, layer: LayerTime) -> bool:
        """Whether a layer takes hardly longer than one that does nothing."""
        return layer.seconds < TINY * self.machine.node


def explain(case: Case) -> Explanation:
    """Find the reasons, those that account for most first."""
    found = [reason for find in REASONS if (reason := find(case)) is not None]
    told = [with_cost for reason in found if (with_cost := _told(reason, case)) is not None]
    return Explanation(
        model=case.other.model,
        batch=case.other.batch,
        promise=case.promise,
        reasons=tuple(sorted(told, key=lambda reason: -reason.seconds)),
    )


def _told(reason: Reason, case: Case) -> Reason | None:
    """A reason with its part of what is missing; None where that is hardly anything."""
    cost = min(reason.seconds, case.missing)
    if cost < LEAST * case.other.run:
        return None
    part = f"that costs {_ms(cost)} of the {_ms(case.missing)} that are missing"
    return replace(reason, seconds=cost, message=f"{reason.message}; {part}")


def zeros(case: Case) -> Reason | None:
    """Zeros that a dense kernel multiplies like any other number."""
    sparse = [layer for layer in case.other.layers if (layer.zeros or 0) >= SPARSE]
    before = {layer.name: layer for layer in case.first.layers}
    fresh = [x for x in sparse if x.name not in before or (before[x.name].zeros or 0) < SPARSE]
    if not fresh:
        return None
    seconds = sum(layer.seconds for layer in fresh)
    share = sum((layer.zeros or 0) * layer.macs for layer in fresh) / sum(layer.macs for layer in fresh)
    dense = _before(fresh, case)
    return Reason(
        kind="zeros",
        message=(
            f"no sparse kernel ran: {_layers(fresh)} {_have(fresh)} {share:.0%} zeros, which a dense kernel "
            f"multiplies like other numbers; {_part(seconds, case)}, {_ms(dense)} in {case.first.model}"
        ),
        help=(
            "remove channels instead (`prune-channels`), by which every runtime gains; 2:4 zeros "
            "(`sparsify{pattern=2:4}`) gain on sparse tensor cores, see `prunec inspect MODEL --ceiling`"
        ),
        seconds=seconds * share,
        layers=_names(fresh),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slowed:
    """Layers that do fewer multiplications than before, and fewer a second.

    Attributes:
        pairs: each in the first model and in the other.
    """

    pairs: Sequence[tuple[LayerTime, LayerTime]]

    @classmethod
    def of(cls, case: Case, *, odd: bool) -> _Slowed:
        """Those with a count of channels that fills no blocks any more, or those without."""
        pairs = [(b, a) for b, a in case.pairs() if _is_odd(b, a) == odd and a.macs < b.macs]
        return cls(pairs=[(b, a) for b, a in pairs if a.macs * b.seconds < SLOWER * b.macs * a.seconds])

    @property
    def layers(self) -> list[LayerTime]:
        """In the other model."""
        return [after for _, after in self.pairs]

    @property
    def lost(self) -> float:
        """Seconds that they would not take at their former rates."""
        return sum(_lost(before, after) for before, after in self.pairs)

    @property
    def worst(self) -> tuple[LayerTime, LayerTime]:
        """The layer that loses most, in the first model and in the other."""
        return max(self.pairs, key=lambda pair: _lost(*pair))


def channels(case: Case) -> Reason | None:
    """Channel counts that do not fill the blocks of vector kernels."""
    found = _Slowed.of(case, odd=True)
    slow = _Slowed(pairs=[(before, after) for before, after in found.pairs if not case.tiny(after)])
    if not slow.pairs:
        return None
    before, after = slow.worst
    assert after.channels is not None, "what is odd has channels"
    inputs, outputs = after.channels
    left = [b for b, a in slow.pairs if b.layout and not a.layout]
    no_longer = f"no longer run{'s' if len(left) == 1 else ''} on blocks of channels"
    return Reason(
        kind="channels",
        message=(
            f"channel counts that are no multiples of {VECTOR}: {_layers(slow.layers)}; `{after.name}` "
            f"with {inputs} inputs and {outputs} outputs does {_rate(after)}, {_rate(before)} in "
            f"{case.first.model}{f'; {_count(left)} {no_longer}' if left else ''}"
        ),
        help="prune with `round-to=8` (the default), or 16 where the processor has AVX-512",
        seconds=slow.lost,
        layers=_names(slow.layers),
    )


def rate(case: Case) -> Reason | None:
    """Smaller products that keep the cores less busy, though their channels fill the blocks."""
    slow = _Slowed.of(case, odd=False)
    if not slow.pairs or slow.lost <= 0:
        return None
    before, after = slow.worst
    return Reason(
        kind="small products",
        message=(
            f"smaller products keep the processor less busy: {_layers(slow.layers)}; `{after.name}` "
            f"does {_rate(after)}, {_rate(before)} in {case.first.model}"
        ),
        help="run larger batches, or remove whole blocks of layers instead of a share of each",
        seconds=slow.lost,
        layers=_names(slow.layers),
    )


def memory(case: Case) -> Reason | None:
    """Layers that read more than they compute, and wait for it (Williams et al., *Roofline*, 2009)."""
    operations, bandwidth = case.roof
    waiting = [
        layer
        for layer in case.other.named().values()
        if layer.bytes > LARGE
        and not case.tiny(layer)
        and 2 * layer.macs / layer.bytes < operations / bandwidth
        and layer.bytes / layer.seconds > STARVED * bandwidth
    ]
    if not waiting:
        return None
    moved, seconds = sum(layer.bytes for layer in waiting), sum(layer.seconds for layer in waiting)
    intensity = 2 * sum(layer.macs for layer in waiting) / moved
    return Reason(
        kind="memory",
        message=(
            f"memory is the limit: {_layers(waiting)} {'does' if len(waiting) == 1 else 'do'} {intensity:.1f} "
            f"operations for each byte moved, and this machine could do {operations / bandwidth:.1f}; "
            f"{moved / seconds / 1e9:.0f} of {bandwidth / 1e9:.0f} GB/s, {_part(seconds, case)}"
        ),
        help="larger batches use each weight more often; fewer channels, or 8 bits, leave fewer bytes to read",
        seconds=case.beyond(seconds, _before(waiting, case)),
        layers=_names(waiting),
    )


def other_ops(case: Case) -> Reason | None:
    """Ops that multiply nothing, and take their time all the same."""
    now, before = _other_times(case.other), _other_times(case.first)
    total, then, kernels = sum(now.values()), sum(before.values()), case.other.kernels
    if not total:
        return None
    most = sorted(now, key=lambda op: -now[op])[:NAMED]
    parts = ", ".join(f"{op} {now[op] / kernels:.0%}" for op in most)
    return Reason(
        kind="other ops",
        message=(
            f"{total / kernels:.0%} of the time in kernels ({_ms(total)}) goes to ops that multiply nothing: {parts}; "
            f"in {case.first.model} these took {_ms(then)}"
        ),
        help=_advice(most),
        seconds=case.beyond(total, then),
        layers=tuple(most),
    )


def _other_times(profile: ModelProfile) -> dict[str, float]:
    """Seconds of each op that does not multiply."""
    times: dict[str, float] = defaultdict(float)
    for layer in profile.layers:
        if not is_compute(layer.op):
            times[layer.op] += layer.seconds
    return times


def _advice(ops: Sequence[str]) -> str:
    if ops[0].startswith("Reorder"):
        return "layouts are converted around layers that the blocked kernels do not take: round channels to 8 or 16"
    if ops[0] in ("QuantizeLinear", "DequantizeLinear"):
        return "floats become integers and back around layers; measure where processor and kernels work on integers"
    if ops[0] == "Transpose":
        return "have the exporter keep one layout, or try `canonicalize`; zeros in weights change nothing about it"
    return "they work on activations: zeros in weights change nothing about them, removing channels makes them smaller"


def overhead(case: Case) -> Reason | None:
    """What it takes to start kernels, however little they do."""
    node, layers = case.machine.node, case.other.layers
    tiny = [layer for layer in layers if case.tiny(layer)]
    seconds = _between(case.other) + sum(layer.seconds for layer in tiny)
    if not layers or seconds <= 0:
        return None
    small = (
        f"{len(tiny)} of {len(layers)} kernels are too small to matter (less than {_ms(TINY * node)}, where an op that "
        f"does nothing takes {_ms(node)}); with the time between kernels that is"
    )
    return Reason(
        kind="overhead",
        message=f"overhead: {small if tiny else 'the time between kernels is'} {_part(seconds, case)}",
        help="run larger batches, or remove layers instead of channels",
        seconds=case.beyond(seconds, _between(case.first) + _before(tiny, case)),
    )


def _between(profile: ModelProfile) -> float:
    """Seconds of a run outside of kernels."""
    return max(0.0, profile.run - profile.kernels)


REASONS: tuple[Callable[[Case], Reason | None], ...] = (zeros, channels, rate, memory, other_ops, overhead)


def _before(layers: Sequence[LayerTime], case: Case) -> float:
    """Seconds that layers took in the first model; a layout conversion may have the name of its layer."""
    wanted = {(layer.name, layer.macs > 0) for layer in layers}
    return sum(layer.seconds for layer in case.first.layers if (layer.name, layer.macs > 0) in wanted)


def _is_odd(before: LayerTime, after: LayerTime) -> bool:
    """Whether a count of channels fills no blocks any more."""
    pairs = zip(before.channels or (), after.channels or (), strict=False)
    return any(now % VECTOR and not was % VECTOR for was, now in pairs)


def _lost(before: LayerTime, after: LayerTime) -> float:
    """Seconds that a layer would not take at its former operations a second."""
    return max(0.0, after.seconds - before.seconds * after.macs / before.macs)


def _rate(layer: LayerTime) -> str:
    return f"{layer.macs / max(layer.seconds, 1e-9) / 1e9:.1f} GMAC/s"


def _names(layers: Sequence[LayerTime]) -> tuple[str, ...]:
    return tuple(layer.name for layer in sorted(layers, key=lambda layer: -layer.seconds))


def _layers(layers: Sequence[LayerTime]) -> str:
    """The slowest layer by name, and how many more there are."""
    more = len(layers) - 1
    return f"`{_names(layers)[0]}`" + (f" and {counted(more, 'more layer')}" if more else "")


def _count(layers: Sequence[LayerTime]) -> str:
    return "1 of them" if len(layers) == 1 else f"{len(layers)} of them"


def _have(layers: Sequence[LayerTime]) -> str:
    return "has" if len(layers) == 1 else "have"


def _part(seconds: float, case: Case) -> str:
    return f"{_ms(seconds)} of {_ms(case.other.run)}"


def _ms(seconds: float) -> str:
    """A time with three digits."""
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.3g} µs"
