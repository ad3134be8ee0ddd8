"""One model and what ``prunec inspect`` can say of it: tables, text, JSON, graphs and a page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunec.ir.diagnostics import UserError, nearest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunec.ir.module import Module
    from prunec.passes.coupling.graph import Step
    from prunec.passes.coupling.groups import Coupling, Group
    from prunec.passes.survey import Survey


class Inspection:
    """One model and what is known about it.

    Args:
        module: the model.
        unit: what attention loses.
    """

    def __init__(self, module: Module, unit: Any) -> None:
        from prunec.ir.control import make_names_unique
        from prunec.passes.cleanup import inline_functions
        from prunec.passes.coupling import analyse
        from prunec.passes.coupling.options import CouplingOptions

        inline_functions(module.model, ruled=False)  # as a pipeline that prunes begins
        make_names_unique(module.graph, module.opset(""))
        self.module = module
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
