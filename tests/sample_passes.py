"""Passes that do nothing, with an option of every kind, for tests of the pipeline text."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from prunec.ir.diagnostics import UserError
from prunec.passes.base import Context, Outcome, Pass, option
from prunec.passes.pipeline import Pipeline
from prunec.passes.registry import Registry
from prunec.passes.sparsity.patterns import NM, PatternOption
from prunec.passes.text.options import Check, Ratio, at_least, within

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle(Pass):
    """Do nothing at all."""

    name: ClassVar[str] = "idle"

    def run(self, module: Module, context: Context) -> Outcome:
        return Outcome(changed=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(Idle):
    """Remove what matters least."""

    name: ClassVar[str] = "prune"
    ratio: Ratio = option(0.3, help="share of channels to remove")
    criterion: Literal["l1", "l2", "taylor"] = option("l2", help="what counts as little")
    ignore: tuple[str, ...] = option((), help="globs of tensors to leave alone")
    round_to: int = option(1, help="keep a multiple of this many", check=at_least(1))
    pattern: PatternOption = option(NM(2, 4), help="pattern to keep")
    dry: bool = option(False, help="only look")
    remarks: bool = option(True, help="say what was done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd(Idle):
    """Options of the rarer types."""

    name: ClassVar[str] = "odd"
    momentum: float = option(0.5, help="m", check=within(0, 2, closed="right"))
    count: int | None = option(None, help="c", check=at_least(1))
    label: str | None = option(None, help="l")
    text: str = option("", help="t")
    level: Literal[1, 2] = option(1, help="v")
    share: Ratio | None = option(0.5, help="s")
    most: Ratio = option(0.9, help="o", check=within(0, 1))
    shares: tuple[Ratio, ...] = option((), help="w")
    names: tuple[str, ...] = option(("a", "b"), help="n", metavar="GLOB,...")
    sizes: tuple[int, ...] = option(
        (), help="z", check=Check("with at most two items", lambda v: len(v) <= 2)
    )
    even: int = option(
        2, help="e", check=lambda value: None if value % 2 == 0 else f"must be even, got {value}"
    )
    flag: bool | None = option(None, help="f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needy(Idle):
    """One option that must be given, two that exclude each other."""

    name: ClassVar[str] = "needy"
    goal: int = option(MISSING, help="what to reach")
    fast: bool = option(False, help="take the short way")
    slow: bool = option(False, help="take the long way")

    def __post_init__(self) -> None:
        if self.fast and self.slow:
            raise UserError("options 'fast' and 'slow' exclude each other", help=["leave one of them out"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat(Idle):
    """Run passes several times."""

    name: ClassVar[str] = "repeat"
    takes_body: ClassVar[bool] = True
    times: int = option(2, help="how often", check=at_least(1))
    body: Pipeline


SAMPLES = Registry(table={cls.name: cls for cls in (Idle, Prune, Odd, Needy, Repeat)})
