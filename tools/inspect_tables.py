"""What ``prunec inspect`` shows: the overview of a model, its groups, what is pinned, and its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prunec.exporters.amounts import file_size, number
from prunec.ir.diagnostics import counted
from prunec.ir.printer import Annotator, Printer
from prunec.ir.scopes import walk
from prunec.ir.sizes import open_inputs
from prunec.passes.coupling.lookup import short_name
from prunec.passes.survey import GroupFacts, LayerFacts, PinnedFacts, Survey

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.module import Module
    from prunec.passes.coupling.groups import Group
    from prunec.passes.sparsity.eligibility import Eligibility

Row = TypeVar("Row")

FEW = 12
"""Rows of a table in the overview."""


def render_overview(module: Module, survey: Survey) -> RenderableType:
    """The model on about a page: what it is, what can be pruned, what is pinned and why, what costs most."""
    groups = _heaviest(survey.groups, [g.parameters for g in survey.groups])
    parameters, macs = survey.cost.parameters, survey.cost.macs
    weights = [max(x.cost.parameters / max(1, parameters), x.cost.macs / max(1, macs)) for x in survey.layers]
    layers = _heaviest(survey.layers, weights)
    return Lines(
        render_model(module, survey),
        Text(),
        _title(_prunable_line(survey)),
        *([render_groups(survey, groups)] if groups else []),
        *_more(len(survey.groups) - len(groups), "groups", "--groups"),
        Text(),
        *render_pinned(survey),
        *([_title(_layers_line(survey, layers)), render_layers(survey, layers)] if layers else []),
        *_more(len(survey.layers) - len(layers), "layers", "--layers"),
    )


def render_model(module: Module, survey: Survey) -> RenderableType:
    """Name, size, inputs, outputs and cost."""
    graph, facts = module.graph, survey.coupling.facts
    opsets = ", ".join(f"{domain or 'opset'} {v}" for domain, v in sorted(graph.opset_imports.items()))
    nodes = list(walk(graph))
    folded = sum(facts.is_folded(n) or n.op_type == "Constant" for n in nodes)
    maker = " ".join(filter(None, [module.model.producer_name, module.model.producer_version]))
    size = None if module.source.size is None else file_size(module.source.size)
    rest = f" and {folded:,} of constants and shape arithmetic" if folded else ""
    parameters = f"{number(survey.cost.parameters)} parameters ({file_size(survey.cost.bytes)})"
    printer = Printer(model=module.model, facts=facts, annotator=Annotator())
    sizes = ", ".join(f"{symbol}={size}" for symbol, size in printer.symbols.items())
    macs = f"{number(survey.cost.macs)} multiply-accumulates"
    lines = [
        f"{parameters}, {macs}{f' at {sizes}' if sizes else ''}",
        ", ".join(filter(None, [size, opsets, f"made by {maker}" if maker else None])),
        f"{len(nodes) - folded:,} nodes{rest}",
    ]
    lines += [*_values(printer, "input ", open_inputs(graph)), *_values(printer, "output", graph.outputs)]
    lines += [f"put right on loading: {remark.message}" for remark in module.repairs]
    if survey.unknown_ops:
        counts = ", ".join(f"{op} ({count:,})" for op, count in survey.unknown_ops.items())
        lines.append(f"ops without a rule, which pin what they touch: {counts}")
    return Lines(_title(module.source.name), *(_line(f"  {line}") for line in lines))


def render_groups(survey: Survey, groups: Sequence[GroupFacts]) -> RenderableType:
    """One row for each group that may be pruned."""
    table = _table()
    for header in ("group", "units", "wide", "params/unit", "share"):
        table.add_column(header, justify="left" if header == "group" else "right", no_wrap=True)
    statistic = any(g.group.statistic for g in survey.groups)
    table.add_column("written by > read by", ratio=1, no_wrap=True, overflow="ellipsis")
    name = _names(survey)
    for facts in groups:
        group = facts.group
        table.add_row(
            f"{group.id}{'*' if group.statistic else ''}",
            f"{group.units:,}",
            str(group.width),
            f"{facts.unit_parameters:,}",
            percent(facts.parameters, survey.cost.parameters),
            _flow(facts, name),
        )
    note = "* a norm or another statistic is taken over the units, so removal changes it"
    return Lines(table, *([_line(f"  {note}", style="dim")] if statistic else []))


def render_pinned(survey: Survey) -> list[RenderableType]:
    """One row for each reason; axes that are tied to nothing make a line each at the end."""
    if not survey.pinned:
        return []
    table = _table()
    table.add_column("groups", no_wrap=True, max_width=12, overflow="ellipsis")
    table.add_column("locked", justify="right", no_wrap=True)
    table.add_column("why", ratio=3)
    table.add_column("tensors", ratio=2, no_wrap=True, overflow="ellipsis")
    tied = [p for p in survey.pinned if not p.alone]
    for pinned in tied:
        locked = percent(pinned.locked, survey.cost.parameters) if pinned.locked else ""
        table.add_row(_ids(pinned.groups), locked, _reason(pinned), _listed(pinned.tensors, 2))
    alone = [
        _line(
            f"  {counted(p.axes, 'axis', 'axes')} of weights, tied to nothing: {_reason(p)}",
            style="dim",
        )
        for p in survey.pinned
        if p.alone
    ]
    advice = dict.fromkeys(f"  to unlock {_reason(p)}: {p.help}" for p in survey.pinned if p.help)
    title = _title("What is pinned, and why (locked: share of the parameters that no group can remove)")
    return [title, *([table] if tied else []), *alone, *map(_line, advice), Text()]


def render_layers(survey: Survey, layers: Sequence[LayerFacts]) -> RenderableType:
    """One row for each layer."""
    table = _table()
    table.add_column("layer", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("op", no_wrap=True, max_width=14, overflow="ellipsis")
    table.add_column("weight", no_wrap=True)
    for header in ("params", "MACs", "share"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("writes", "reads"):
        table.add_column(header, no_wrap=True, max_width=11, overflow="ellipsis")
    table.add_column("free", justify="right", no_wrap=True)
    table.add_column("2:4", no_wrap=True)
    name = _names(survey)
    for layer in layers:
        cost = layer.cost
        table.add_row(
            name(layer.node, 34),
            cost.op_type,
            "" if cost.weight is None else "x".join(map(str, cost.weight[1])),
            number(cost.parameters) if cost.parameters else "",
            number(cost.macs) if cost.macs else "",
            percent(cost.macs, survey.cost.macs) if cost.macs else "",
            *(_group_ids(side) for side in (layer.outputs, layer.inputs)),
            "" if layer.prunable is None else f"{layer.prunable:.0%}",
            _sparse_word(layer),
        )
    notes = (
        "writes, reads: groups of output and input channels (!: pinned); free: share of params that can go",
        "2:4: has (its weights are), gains, small (too small to gain), no: why, and zeros, with --sparsity",
    )
    return Lines(table, *(_line(f"  {note}", style="dim") for note in notes))


def render_sparsity(survey: Survey) -> RenderableType:
    """One row for each contraction: its zeros, and what sparse tensor cores can make of it."""
    table = _table()
    table.add_column("layer", ratio=2, no_wrap=True, overflow="ellipsis")
    table.add_column("op", no_wrap=True, max_width=14, overflow="ellipsis")
    for header in ("in", "out", "zeros"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("2:4", no_wrap=True)
    table.add_column("why not", ratio=3)
    name = _names(survey)
    rows = [layer for layer in survey.layers if layer.eligibility is not None]
    for layer in rows:
        found = layer.eligibility
        assert found is not None
        table.add_row(
            name(layer.node, 34),
            layer.cost.op_type,
            *_channels(found),
            "" if layer.sparsity is None else f"{layer.sparsity.zeros:.0%}",
            _sparse_word(layer),
            found.why_not or "",
        )
    note = (
        "in: input channels (x kernel positions); 2:4: has, gains (from sparse tensor cores), "
        "small (too small to gain), no"
    )
    return Lines(_title(_sparsity_line(survey)), table, _line(f"  {note}", style="dim"))


def _sparsity_line(survey: Survey) -> str:
    """How much of the work lies in layers that are 2:4, and in those that gain by it."""
    rows = [(row.cost.macs, row) for row in survey.layers if row.eligibility is not None]
    has = sum(macs for macs, row in rows if _sparse_word(row) == "has")
    gains = sum(macs for macs, row in rows if row.eligibility is not None and row.eligibility.profitable)
    macs = survey.cost.macs
    return f"2:4 sparsity: {percent(has, macs)} of the MACs have it, {percent(gains, macs)} are where it pays"


def _channels(found: Eligibility) -> tuple[str, str]:
    if found.layer is None:
        return "", ""
    groups, outputs, positions, inputs = found.layer.shape
    return f"{inputs}" if positions == 1 else f"{inputs}x{positions}", f"{groups * outputs:,}"


def _sparse_word(layer: LayerFacts) -> str:
    """Where a layer stands on the way to sparse tensor cores, in a word."""
    if layer.eligibility is None:
        return ""
    if layer.sparsity is not None and layer.sparsity.pattern is not None:
        return "has"
    if layer.eligibility.profitable:
        return "gains"
    return "small" if layer.eligibility.eligible else "no"


def render_group(group: Group, facts: GroupFacts | None, survey: Survey) -> RenderableType:
    """One group with all its members."""
    size = group.units or len(group.members[0].units)
    head = f"group {group.id}: {size:,} units"
    if group.frozen is not None:
        head += f", pinned: {group.frozen.text}"
    elif facts is not None:
        share = percent(facts.parameters, survey.cost.parameters)
        head += f" with {facts.unit_parameters:,} parameters each, {share} of all"
    table = _table()
    table.add_column("tensor", no_wrap=True)
    for header in ("axis", "slots/unit", "size"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("read by", no_wrap=True)
    for member in group.members:
        readers = [f"{node.op_type} {node.name or ''}".strip() for node, _ in member.uses()]
        width = member.width if group.frozen is None else 1
        table.add_row(
            member.name, str(member.axis), str(width), f"{len(member.units):,}", _listed(readers, 2)
        )
    return Lines(_title(head), table)


def percent(part: float, whole: float) -> str:
    """A share with one digit behind the point; ``<0.1 %`` is not nothing, ``>99.9 %`` is not all."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.05:
        return "<0.1 %"
    return ">99.9 %" if 99.95 <= share < 100 else f"{share:.1f} %"


def _prunable_line(survey: Survey) -> str:
    if not survey.groups:
        return "Nothing can be pruned" + ("" if survey.pinned else ": no op that has a rule reads a weight")
    share = percent(survey.prunable, survey.cost.parameters)
    return f"What can be pruned: {counted(len(survey.groups), 'group')} with {share} of the parameters"


def _layers_line(survey: Survey, layers: Sequence[LayerFacts]) -> str:
    return "What layers cost" if len(layers) == len(survey.layers) else "Which layers cost most"


def _heaviest(rows: Sequence[Row], weights: Sequence[float]) -> list[Row]:
    """The few rows of most weight, in their order."""
    best = sorted(range(len(rows)), key=lambda i: -weights[i])[:FEW]
    return [rows[i] for i in sorted(best)]


def _more(count: int, what: str, option: str) -> list[RenderableType]:
    return [_line(f"  ... and {count:,} more {what}: {option} shows all", style="dim")] if count > 0 else []


def _flow(facts: GroupFacts, name: Callable[[onnx_ir.Node, int], str]) -> str:
    """Who makes a group's channels and who sums over them; its tensors where nobody does."""
    sides = (facts.writers, facts.readers)
    writers, readers = (_listed([name(node, 24) for node in side], 1) for side in sides)
    if not writers and not readers:
        return _listed([m.name for m in facts.group.members], 3)
    return f"{writers or '(nothing)'} > {readers or '(nothing)'}"


def _names(survey: Survey) -> Callable[[onnx_ir.Node, int], str]:
    """Short names of nodes, without the parts of the path that most layers have: they tell nothing."""
    paths = [short_name(layer.node).split("/") for layer in survey.layers]
    counts = Counter(part for path in paths for part in set(path))
    common = {part for part, count in counts.items() if count > max(2, 0.8 * len(paths))}

    def name(node: onnx_ir.Node, longest: int) -> str:
        path = short_name(node).split("/")
        return _elided("/".join(part for part in path if part not in common) or path[-1], longest)

    return name


def _elided(name: str, longest: int) -> str:
    """A name without its middle where it is too long."""
    head = longest // 2 - 1
    return name if len(name) <= longest else f"{name[:head]}..{name[head + 2 - longest :]}"


def _listed(names: Sequence[str], most: int) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} +{len(names) - most}"


def _ids(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} +{len(ids) - 1}"


def _group_ids(groups: Iterable[Group]) -> str:
    return " ".join(f"{g.id}{'' if g.frozen is None else '!'}" for g in groups)


def _reason(pinned: PinnedFacts) -> str:
    return pinned.reason + (f" (and {pinned.places - 1:,} more such)" if pinned.places > 1 else "")


def _values(printer: Printer, kind: str, values: Sequence[onnx_ir.Value]) -> list[str]:
    lines = [f"{kind}  {value.name}  {printer.type(value)}" for value in values[:FEW]]
    return lines + ([f"{kind}  ... and {len(values) - FEW:,} more"] if len(values) > FEW else [])


def _table() -> Table:
    return Table(box=None, pad_edge=True, header_style="dim", expand=True)


def _title(text: str) -> Text:
    return _line(text, style="bold")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="fold")
