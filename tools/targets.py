"""``prunec targets``: what a model can be written as, and the options of each."""

from __future__ import annotations

import click

from prunec.exporters.registry import load_target, target_names
from prunec.tools.passes import overview, page, terminal_width


@click.command("targets", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
def list_targets(name: str | None) -> None:
    """List all targets of --emit with their options, or explain the target NAME."""
    width = terminal_width()
    if name is None:
        lines = [*overview(target_names(), load_target, width), "`prunec targets NAME` explains one of them."]
    else:
        lines = list(page(load_target(name), width))[:-1]
    click.echo("\n".join(lines))
