"""``prunec inspect MODEL``: what a model is, what can be pruned, what is pinned and why, what layers cost."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import prunec
from prunec.ir.diagnostics import UserError, nearest
from prunec.tools.ceiling_tables import HELP as CEILING_HELP
from prunec.tools.ceiling_tables import parse_source, render_ceiling
from prunec.tools.optional_value import OptionalValue, OptionalValues
from prunec.tools.outputs import check_outputs

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunec.ir.module import Module
    from prunec.passes.coupling.graph import Step
    from prunec.passes.coupling.groups import Coupling, Group
    from prunec.passes.survey import Survey

PIPE_WIDTH = 100
"""Columns where the output is no terminal."""


@click.command("inspect", cls=OptionalValues, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--groups", is_flag=True, help="List all channel groups, and all that is pinned.")
@click.option("--layers", is_flag=True, help="List all layers with their cost.")
@click.option("--sparsity", is_flag=True, help="List the zeros of all layers, and which can be 2:4.")
@click.option("--ceiling", cls=OptionalValue, bare="measured", metavar="HOW", help=CEILING_HELP)
@click.option(
    "--kernel-speedup",
    type=click.FloatRange(min=1),
    default=2.0,
    show_default=True,
    metavar="X",
    help="With --ceiling: how much faster sparse kernels are.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="With --ceiling: samples of a run.",
)
@click.option("--group", "group_id", metavar="G", help="Show one group with all its members.")
@click.option("--why", nargs=2, metavar="A B", help="Show by which ops two layers or tensors are tied.")
@click.option("--dump", is_flag=True, help="Print the model as text, every axis with its group.")
@click.option("--all", "everything", is_flag=True, help="With --dump: shape arithmetic too.")
@click.option("--dump-to", metavar="FILE", help="Write a dump that loads, constants and all (net.prunec).")
@click.option(
    "--dump-constants",
    type=click.IntRange(min=0),
    metavar="N",
    help="In dumps, write constants of up to N elements inline.  [default: 0; --dump-to: 16]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--dot", metavar="FILE", help="Write the graph of the groups for Graphviz.")
@click.option("--graphml", metavar="FILE", help="Write the graph of the groups as GraphML.")
@click.option("--html", metavar="FILE", help="Write an interactive page of the graph, for a browser.")
@click.option(
    "--unit",
    type=click.Choice(["head", "head-dim"]),
    default="head",
    show_default=True,
    help="What attention loses: whole heads, or the same positions of every head (and group of a convolution).",
)
def inspect_model(
    model: str,
    groups: bool,
    layers: bool,
    sparsity: bool,
    ceiling: tuple[str, ...],
    kernel_speedup: float,
    batch: int,
    group_id: str | None,
    why: tuple[str, str] | None,
    dump: bool,
    everything: bool,
    dump_to: str | None,
    dump_constants: int | None,
    as_json: bool,
    dot: str | None,
    graphml: str | None,
    html: str | None,
    unit: str,
) -> None:
    """Show what MODEL is, what can be pruned, what is pinned and why, and what each layer costs.

    Names for --why are those of nodes or tensors, TENSOR:AXIS, or a part of one node's name.
    """
    if dump_to is not None and not dump_to.endswith(".prunec"):
        raise click.UsageError(f"--dump-to: the name of a dump must end in .prunec, not '{dump_to}'")
    sources = [parse_source(text) for text in ceiling]
    for name, value in (("--dump-constants", dump_constants), ("--all", everything or None)):
        if value is not None and not (dump or (dump_to is not None and name != "--all")):
            raise click.UsageError(f"{name} goes with --dump{' or --dump-to' if name != '--all' else ''}")
    files = [Path(file) for file in (dot, graphml, dump_to, html) if file is not None]
    if files and Path(model).exists():
        check_outputs(inputs=[Path(model)], outputs=files)
    module = prunec.load(model)
    check_outputs(inputs=module.source.data, outputs=files)
    view = _Inspection(module, unit)
    ceilings = [
        prunec.ceiling(model, kernel=kernel_speedup, batch=batch, estimate=estimate, machine=machine)
        for estimate, machine in sources
    ]
    parts = [
        *([view.groups()] if groups else []),
        *([view.layers()] if layers else []),
        *([view.sparsity()] if sparsity else []),
        *map(render_ceiling, ceilings),
        *([view.group(group_id)] if group_id is not None else []),
        *([view.why(*why)] if why else []),
    ]
    if as_json:
        found = view.json(why) | ({"ceilings": [c.to_json() for c in ceilings]} if ceilings else {})
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    elif parts:
        show(*parts)
    elif not (dump or files):
        show(view.overview())
    if dump and not as_json:
        click.echo(view.dump(everything=everything, constants=dump_constants or 0), nl=False)
    view.write_graphs(dot, graphml)
    if dump_to is not None:
        view.write_dump(Path(dump_to), inline=dump_constants)
    if html is not None:
        view.write_page(Path(html))


class _Inspection:
    """One model and what is known about it.

    Args:
        module: the model.
        unit: what attention loses.
    """

    def __init__(self, module: Module, unit: Any) -> None:
        from prunec.ir.control import make_names_unique
        from prunec.passes.cleanup import inline_functions
        from prunec.passes.coupling import analyse

        inline_functions(module.model, ruled=False)  # as a pipeline that prunes begins
        make_names_unique(module.graph, module.opset(""))
        self.module = module
        from prunec.passes.coupling.options import CouplingOptions

        self.coupling: Coupling = analyse(module.model, options=CouplingOptions(unit=unit))
        self._survey: Survey | None = None

    @property
    def survey(self) -> Survey:
        """The survey, made when it is first asked for."""
        from prunec.passes.survey import survey

        if self._survey is None:
            self._survey = survey(self.module.model, self.coupling)
        return self._survey

    def overview(self) -> RenderableType:
        """The default view."""
        from prunec.tools.inspect_tables import render_overview

        return render_overview(self.module, self.survey)

    def groups(self) -> RenderableType:
        """All groups."""
        from rich.console import Group as Lines

        from prunec.tools.inspect_tables import render_groups, render_pinned

        return Lines(render_groups(self.survey, self.survey.groups), *render_pinned(self.survey))

    def layers(self) -> RenderableType:
        """All layers."""
        from prunec.tools.inspect_tables import render_layers

        return render_layers(self.survey, self.survey.layers)

    def sparsity(self) -> RenderableType:
        """Zeros and eligibility of all layers."""
        from prunec.tools.inspect_tables import render_sparsity

        return render_sparsity(self.survey)

    def group(self, group_id: str) -> RenderableType:
        """One group.

        Raises:
            UserError: there is no such group.
        """
        from prunec.tools.inspect_tables import render_group

        found = next((g for g in self.coupling.groups if g.id == group_id), None)
        if found is None:
            raise _no_such_group(self.coupling, group_id)
        facts = next((g for g in self.survey.groups if g.group is found), None)
        return render_group(found, facts, self.survey)

    def why(self, a: str, b: str) -> RenderableType:
        """By which ops two layers or tensors are tied.

        Raises:
            UserError: one of them does not exist.
        """
        from rich.text import Text

        return Text("\n".join(_explain(self.coupling, a, b)))

    def dump(self, *, everything: bool, constants: int) -> str:
        """The model as text."""
        from prunec.passes.printer import print_module

        return print_module(self.module, coupling=self.coupling, all=everything, constants=constants)

    def write_dump(self, path: Path, *, inline: int | None) -> None:
        """Write a dump that loads."""
        from prunec.ir.dump.constants import INLINE
        from prunec.passes.printer import save_module_dump

        inline = INLINE if inline is None else inline
        data = save_module_dump(self.module, path, coupling=self.coupling, inline=inline)
        click.echo(f"wrote {path}{f', {data}' if data else ''}", err=True)

    def json(self, why: tuple[str, str] | None) -> dict[str, Any]:
        """Everything, with the way between two layers where it is asked for."""
        from prunec.tools.inspect_json import as_json

        found = as_json(self.module, self.survey)
        if why:
            steps = _way(self.coupling, *why)
            found["why"] = [{"axis": s.axis, "node": s.node, "op": s.op_type} for s in steps]
        return found

    def write_graphs(self, dot: str | None, graphml: str | None) -> None:
        """Write the graph of the groups."""
        from prunec.passes.coupling.graph import group_graph
        from prunec.tools.graph_files import write_dot, write_graphml

        for file, write in ((dot, write_dot), (graphml, write_graphml)):
            if file is not None:
                graph = group_graph(self.coupling)
                write(graph, Path(file))
                click.echo(f"wrote {file}: {len(graph):,} axes, {graph.size():,} ties", err=True)

    def write_page(self, path: Path) -> None:
        """Write the page of the model."""
        from prunec.tools.page import write_page

        write_page(self.module, self.survey, path)
        nodes, groups = len(self.module.graph), len(self.survey.coupling.groups)
        click.echo(f"wrote {path}: nodes: {nodes:,}, channel groups: {groups:,}", err=True)


def show(*parts: RenderableType) -> None:
    """Print tables and lines on stdout, in the width of the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))


def _way(coupling: Coupling, a: str, b: str) -> list[Step]:
    from prunec.passes.coupling.graph import why

    return why(coupling, a, b)


def _explain(coupling: Coupling, a: str, b: str) -> Iterator[str]:
    from prunec.passes.coupling.graph import groups_of

    steps = _way(coupling, a, b)
    mine, theirs = groups_of(coupling, a), groups_of(coupling, b)
    if not steps:
        yield f"`{a}` and `{b}` are not coupled: no unit of any group removes channels of both"
        yield from (f"  {name}: {_described(found)}" for name, found in ((a, mine), (b, theirs)))
        return
    yield f"`{a}` and `{b}` are coupled, step by step:"
    yield from (f"  {step}" for step in steps)
    yield f"groups of both: {_described([g for g in mine if g in theirs])}"


def _no_such_group(coupling: Coupling, name: str) -> UserError:
    """The nearest ids; where the name is that of a node or tensor, the groups that it is in."""
    from prunec.passes.coupling.graph import groups_of

    ids = [group.id for group in coupling.groups]
    likely = nearest(name.casefold(), ids) or (f"g{name}" if f"g{name}" in ids else None)
    help = [f"groups are {ids[0]} to {ids[-1]}" if ids else "it has no groups"]
    if likely is not None:
        help.insert(0, f"did you mean `{likely}`?")
    else:
        with contextlib.suppress(UserError):
            help.insert(0, f"`{name}` is in {_described(groups_of(coupling, name))}")
    return UserError(f"this model has no group `{name}`", help=help)


def _described(groups: list[Group]) -> str:
    texts = [f"{g.id} ({f'pinned: {g.frozen.text}' if g.frozen else f'{g.units:,} units'})" for g in groups]
    return ", ".join(texts) or "no group"
