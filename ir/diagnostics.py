"""What prunec tells a person: errors, remarks, and how both are rendered.

Three kinds of failure, three exit codes::

    PrunecError
    +-- UserError           exit 2: the input, the pipeline text or the command line is wrong
    +-- PassFailure         exit 1: a pass could not do its work
    |   +-- VerificationError        the verifier proved a transform wrong
    +-- GateError           exit 3: a threshold that the user set does not hold

Everything else that escapes is a bug of ours (exit 70). A message is lower-case, has no final period, stands
alone on its first line, and says the numbers; ``notes`` are facts, ``help`` is what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message points: a file, and inside it a line and column (1-based) or a node of a graph."""

    file: str
    line: int | None = None
    column: int | None = None
    node: str | None = None

    def __str__(self) -> str:
        if self.line is not None:
            column = "" if self.column is None else f":{self.column}"
            return f"{self.file}:{self.line}{column}"
        return self.file if self.node is None else f"{self.file}: node `{self.node}`"


class PrunecError(Exception):
    """Base of every error that prunec raises on purpose.

    Args:
        message: one clear line, lower-case, without a final period.
        code: a stable identifier such as ``V012``, or None.
        place: where it happened.
        excerpt: source lines with a caret line beneath, for text inputs.
        notes: facts and numbers, one line each.
        help: what the user can do, one line each.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        place: Place | None = None,
        excerpt: str | None = None,
        notes: Iterable[str] = (),
        help: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.place = place
        self.excerpt = excerpt
        self.notes = tuple(notes)
        self.help = tuple(help)

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """The whole message as plain text: primary line, then excerpt, notes and help, indented."""
        code = f"[{self.code}]" if self.code else ""
        place = f"{self.place}: " if self.place else ""
        return "\n".join([f"error{code}: {place}{self.message}", *self._details()])

    def _details(self) -> Iterator[str]:
        if self.excerpt:
            yield from (f"  {line}" for line in self.excerpt.splitlines())
        yield from (f"  = note: {note}" for note in self.notes)
        yield from (f"  = help: {line}" for line in self.help)


class UserError(PrunecError):
    """The input, the pipeline text or the command line is wrong (exit 2)."""

    exit_code: ClassVar[int] = 2


class PassFailure(PrunecError):
    """A pass could not do its work on this model (exit 1)."""


class VerificationError(PassFailure):
    """The verifier proved that a transform changed what the model computes (exit 1)."""


class GateError(PrunecError):
    """A threshold that the user set does not hold (exit 3).

    Attributes:
        result: what the pipeline had made when it was stopped, as ``prunec.run`` would have returned it, or None.
        evaluation: the ``Evaluation`` that does not hold, or None.
    """

    exit_code: ClassVar[int] = 3
    result: Any = None
    evaluation: Any = None

    @classmethod
    def of(cls, failures: Sequence[str], place: Place | None = None) -> Self:
        """The error of all that does not hold: the first in the message, the others as notes.

        Args:
            failures: at least one line.
            place: where the first threshold stands.
        """
        first, *others = failures
        more = f", and {len(others)} more" if others else ""
        return cls(f"{first}{more}", place=place, notes=others)


Numbers = tuple[tuple[str, int | float], ...]
"""Quantities by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What a pass did, did not do, or found out, in LLVM's sense.

    Attributes:
        kind: ``passed`` (done), ``missed`` (could not be done) or ``analysis`` (a fact worth knowing).
        origin: name of the pass or analysis.
        message: one line, lower-case, without a final period.
        reason: why, for ``missed``.
        help: what would unlock it.
        node: name of the node or tensor it is about.
        urgent: it is shown unasked: most likely a mistake of the user.
        group: id of the channel group that it is about, ``g4``.
        numbers: the quantities of the message, by name, for programs.
    """

    kind: Literal["passed", "missed", "analysis"]
    origin: str
    message: str
    reason: str | None = None
    help: str | None = None
    node: str | None = None
    urgent: bool = False
    group: str | None = None
    numbers: Numbers = ()

    def __str__(self) -> str:
        lines = [f"remark[{self.kind}]: {self.origin}: {self.message}"]
        lines += [f"  = reason: {self.reason}"] if self.reason else []
        lines += [f"  = help: {self.help}"] if self.help else []
        return "\n".join(lines)


class RemarkWarning(UserWarning):
    """A remark that is shown unasked, in Python: most likely a mistake of the user."""


@dataclass(slots=True)
class RemarkLog:
    """Collects remarks in the order in which passes made them."""

    remarks: list[Remark] = field(default_factory=list)

    def passed(
        self,
        origin: str,
        message: str,
        *,
        node: str | None = None,
        group: str | None = None,
        numbers: Numbers = (),
    ) -> None:
        """Record something that was done."""
        self.remarks.append(
            Remark(kind="passed", origin=origin, message=message, node=node, group=group, numbers=numbers)
        )

    def missed(
        self,
        origin: str,
        message: str,
        *,
        reason: str,
        help: str | None = None,
        node: str | None = None,
        urgent: bool = False,
        group: str | None = None,
        numbers: Numbers = (),
    ) -> None:
        """Record something that could not be done, with the reason."""
        self.remarks.append(
            Remark(
                kind="missed",
                origin=origin,
                message=message,
                reason=reason,
                help=help,
                node=node,
                urgent=urgent,
                group=group,
                numbers=numbers,
            )
        )

    def analysis(self, origin: str, message: str, *, node: str | None = None) -> None:
        """Record a fact worth knowing."""
        self.remarks.append(Remark(kind="analysis", origin=origin, message=message, node=node))

    def __iter__(self) -> Iterator[Remark]:
        return iter(self.remarks)

    def __len__(self) -> int:
        return len(self.remarks)


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 node``, ``6,170 nodes``.

    Args:
        count: how many.
        noun: what, in the singular.
        plural: the plural, where it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a person most likely meant, or None when nothing is close."""
    import difflib

    matches = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return matches[0] if matches else None
