"""Which passes exist, by name, and how they are loaded; targets of exporters are looked up in the same way.

Built-in passes are the table below; those of other packages are entry points of group ``prunec.passes``::

    [project.entry-points."prunec.passes"]
    my-pass = "my_package.my_pass:MyPass"

Nothing is imported before a pass is asked for by name. No other package can take over a built-in name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from prunec.ir.diagnostics import UserError, nearest
from prunec.ir.source import shown
from prunec.passes.base import Pass

ENTRY_POINT_GROUP = "prunec.passes"

BUILT_IN: Mapping[str, str] = {
    "canonicalize": "prunec.passes.canonicalize:Canonicalize",
    "compensate": "prunec.passes.compensate:Compensate",
    "fold-norm": "prunec.passes.fold_norm:FoldNorm",
    "gate": "prunec.passes.gate:Gate",
    "permute-channels": "prunec.passes.permute_channels:PermuteChannels",
    "prune-channels": "prunec.passes.prune_channels:PruneChannels",
    "quantize": "prunec.passes.quantize:Quantize",
    "recalibrate-norm": "prunec.passes.recalibrate_norm:RecalibrateNorm",
    "repeat": "prunec.passes.repeat:Repeat",
    "sparsify": "prunec.passes.sparsify:Sparsify",
    "verify": "prunec.passes.verify:Verify",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Passes, or classes of another base, by name.

    Attributes:
        table: name to ``module:Class``, or to the class itself.
        plugins: whether entry points of other packages count too.
        base: what every class is a subclass of.
        group: the group of those entry points.
        listing: what the help of a message calls all of them.
    """

    table: Mapping[str, str | type[Any]]
    plugins: bool = False
    base: type[Any] = Pass
    group: str = ENTRY_POINT_GROUP
    listing: str = "passes"

    def names(self) -> tuple[str, ...]:
        """All names in alphabetical order; imports none of the passes."""
        return tuple(sorted({*self.table, *(_plugin_targets(self.group) if self.plugins else ())}))

    def load(self, name: str) -> type[Any]:
        """The class of that name.

        Raises:
            UserError: there is no such class, two packages offer it, or it cannot be imported.
        """
        target = self.table.get(name)
        if target is None:
            target = self._plugin(name)
        return self._loaded(name, target) if isinstance(target, str) else target

    def _plugin(self, name: str) -> str:
        targets = _plugin_targets(self.group).get(name, ()) if self.plugins else ()
        if len(targets) > 1:
            raise UserError(
                f"{self.base.noun} '{name}' is offered {len(targets)} times: {', '.join(targets)}"
            )
        if not targets:
            likely = nearest(name, self.names())
            meant = f" (did you mean '{likely}'?)" if likely else ""
            help = [f"{self.listing}: {', '.join(self.names())}"]
            raise UserError(f"unknown {self.base.noun} {shown(name)}{meant}", help=help)
        return targets[0]

    def _loaded(self, name: str, target: str) -> type[Any]:
        """Import ``module:Class`` and see that it is what it claims to be."""
        module, _, attribute = target.partition(":")
        failure = f"{self.base.noun} '{name}' cannot be loaded"
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            # Another package's module may fail in any way while it is imported; the user has to know whose it is.
            raise UserError(f"{failure} from {target}: {type(error).__name__}: {error}") from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            base = f"{self.base.__module__.rpartition('.')[0]}.{self.base.__qualname__}"
            raise UserError(f"{failure}: {target} is not a subclass of {base}")
        called = getattr(found, "name", None)
        if called != name:
            raise UserError(f"{failure}: {target} calls itself {called!r}")
        return found


DEFAULT_REGISTRY = Registry(table=BUILT_IN, plugins=True)


def pass_names() -> tuple[str, ...]:
    """Names of the built-in passes and those of other installed packages."""
    return DEFAULT_REGISTRY.names()


def load_pass(name: str) -> type[Pass]:
    """The class of a built-in pass or one of another installed package.

    Raises:
        UserError: there is no such pass (the nearest name is in the message), or it cannot be imported.
    """
    return DEFAULT_REGISTRY.load(name)


@cache
def _plugin_targets(group: str) -> Mapping[str, tuple[str, ...]]:
    """Name to targets of all entry points; read once, since that looks through every installed package."""
    from importlib.metadata import entry_points

    targets: dict[str, tuple[str, ...]] = {}
    for point in entry_points(group=group):
        targets[point.name] = tuple(dict.fromkeys((*targets.get(point.name, ()), point.value)))
    return targets
