"""``prunec inspect MODEL``: what a model is, what can be pruned, what is pinned and why, what layers cost."""

from __future__ import annotations

import json
from pathlib import Path

import click

import prunec
from prunec.tools.ceiling_tables import HELP as CEILING_HELP
from prunec.tools.ceiling_tables import parse_source, render_ceiling
from prunec.tools.console import show
from prunec.tools.inspection import Inspection
from prunec.tools.optional_value import OptionalValue, OptionalValues
from prunec.tools.options import unit_option
from prunec.tools.outputs import check_outputs


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
@unit_option()
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
    _check_dump(dump, dump_to, dump_constants, everything)
    sources = [parse_source(text) for text in ceiling]
    files = [Path(file) for file in (dot, graphml, dump_to, html) if file is not None]
    if files and Path(model).exists():
        check_outputs(inputs=[Path(model)], outputs=files)
    module = prunec.load(model)
    check_outputs(inputs=module.source.data, outputs=files)
    view = Inspection(module, unit)
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
    elif parts or not (dump or files):
        show(*(parts or [view.overview()]))
    if dump and not as_json:
        click.echo(view.dump(everything=everything, constants=dump_constants or 0), nl=False)
    view.write_graphs(dot, graphml)
    if dump_to is not None:
        view.write_dump(Path(dump_to), inline=dump_constants)
    if html is not None:
        view.write_page(Path(html))


def _check_dump(dump: bool, dump_to: str | None, constants: int | None, everything: bool) -> None:
    """See that the options of dumps go together."""
    if dump_to is not None and not dump_to.endswith(".prunec"):
        raise click.UsageError(f"--dump-to: the name of a dump must end in .prunec, not '{dump_to}'")
    if constants is not None and not dump and dump_to is None:
        raise click.UsageError("--dump-constants goes with --dump or --dump-to")
    if everything and not dump:
        raise click.UsageError("--all goes with --dump")
