"""The options of a pass: the fields of its dataclass as help, as parser, and as printer.

The one source is the dataclass (``prunec.passes.base.option``). An underscore in a field's name is a dash in
text, and one at its end is left out: field ``for_`` is option ``for``, a word that Python keeps for itself. A
value that Python code gives is held to the same rules as one in text. Whatever else has options written in
this way (``Configurable``) has them read, printed and checked here too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from prunec.ir.diagnostics import UserError, nearest
from prunec.ir.source import SourceText, Token, shown
from prunec.passes.checks import Check, at_least, within
from prunec.passes.text.option_types import OptionType, Ratio, option_type
from prunec.passes.text.syntax import RawOption

__all__ = [
    "Check",
    "Configurable",
    "OptionField",
    "Ratio",
    "at_least",
    "build",
    "check_options",
    "fields_of",
    "format_options",
    "within",
]


class Configurable(Protocol):
    """A dataclass whose fields are options, such as a pass.

    Class attributes:
        name: the name in text.
        noun: what messages call its kind, such as ``pass``.
        takes_body: whether its field ``body`` is no option but what stands in parentheses behind it.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    takes_body: ClassVar[bool]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


C = TypeVar("C", bound=Configurable)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OptionField:
    """One option of a pass class.

    Attributes:
        name: as written in pipeline text, kebab-case.
        attribute: name of the dataclass field.
        type_text: what help shows as the value, such as ``int``, ``ratio`` or ``l1|l2``.
        default_text: the default as pipeline text; None where the option must be given.
        help: one line for people.
        bounds: the accepted range in words; empty where the type says it all.
        type: how it is read and written.
        check: what else holds for a value.
    """

    name: str
    attribute: str
    type_text: str
    default_text: str | None
    help: str
    bounds: str
    type: OptionType
    check: Callable[[Any], str | None] | None

    @property
    def takes(self) -> str:
        """Completes "option 'x' takes ..."."""
        bounds = f" {self.check.text}" if isinstance(self.check, Check) else ""
        return f"{self.type.takes}{bounds}{' or none' if self.type.none_value == (None,) else ''}"

    def problem(self, value: Any, got: str) -> str | None:
        """What is wrong with a value, as a whole message, or None; ``got`` is how the user wrote it."""
        if not self.type.accepts(value):
            return f"option '{self.name}' takes {self.takes}, got {got}"
        wrong = None if value is None or self.check is None else self.check(value)
        if wrong is None:
            return None
        if isinstance(self.check, Check):
            return f"option '{self.name}' takes {self.takes}, got {got}"
        return f"option '{self.name}' {wrong}"


@cache
def fields_of(pass_class: type[Configurable]) -> tuple[OptionField, ...]:
    """The options of a pass class, in the order of its fields.

    Raises:
        TypeError: a field's type cannot be written in pipeline text (a mistake of the pass's author).
    """
    hints = get_type_hints(pass_class, include_extras=True)
    fields = [
        f
        for f in dataclasses.fields(pass_class)
        if f.init and not (pass_class.takes_body and f.name == "body")
    ]
    try:
        return tuple(_option_field(field, option_type(hints[field.name])) for field in fields)
    except TypeError as error:
        raise TypeError(f"{pass_class.noun} {pass_class.__name__}: {error}") from error


def _option_field(field: dataclasses.Field[Any], kind: OptionType) -> OptionField:
    check = field.metadata.get("check") or kind.check
    required = field.default is dataclasses.MISSING
    return OptionField(
        name=field.name.rstrip("_").replace("_", "-"),
        attribute=field.name,
        type_text=field.metadata.get("metavar") or kind.text,
        default_text=None if required else kind.write(field.default),
        help=field.metadata.get("help", ""),
        bounds=check.text if isinstance(check, Check) else "",
        type=kind,
        check=check,
    )


def build(
    pass_class: type[C],
    raw_options: Sequence[RawOption],
    *,
    source: SourceText,
    name: Token,
    body: object = None,
) -> C:
    """Make a pass from its options as written.

    Args:
        pass_class: the class whose fields the options are.
        raw_options: the options in the order in which they are written.
        source: the text they come from, for messages.
        name: where the name of the pass stands, for messages about the pass as a whole.
        body: the pipeline in parentheses, for a pass that takes one.

    Raises:
        UserError: an option is unknown, given twice, missing, or has a wrong value; the place is in it.
    """
    fields = {field.name: field for field in fields_of(pass_class)}
    first: dict[str, Token] = {}
    values: dict[str, Any] = {} if body is None else {"body": body}
    for raw in raw_options:
        field = fields.get(raw.name.text)
        if field is None:
            raise _unknown_option(pass_class, raw.name, source)
        if field.name in first:
            note = f"first given at {source.place(first[field.name].start)}"
            raise source.error_at(f"option '{field.name}' is given twice", raw.name, notes=[note])
        first[field.name] = raw.name
        values[field.attribute] = _convert(field, raw, source)
    missing = [f for f in fields.values() if f.default_text is None and f.name not in first]
    if missing:
        message = f"{pass_class.noun} '{pass_class.name}' needs option '{missing[0].name}'"
        raise source.error_at(message, name, help=[f"add {missing[0].name}=<{missing[0].type_text}>"])
    try:
        return pass_class(**values)
    except UserError as error:
        # What the pass itself finds wrong with the options taken together.
        raise source.error_at(error.message, name, notes=error.notes, help=error.help) from error


def format_options(instance: Configurable, *, every: bool = False) -> str:
    """The options of a pass that differ from their defaults (or every one), as pipeline text without the braces."""
    return " ".join(
        _format(field, getattr(instance, field.attribute))
        for field in fields_of(type(instance))
        if every
        or field.default_text is None
        or field.type.write(getattr(instance, field.attribute)) != field.default_text
    )


def check_options(instance: Configurable) -> None:
    """Hold the options of a pass, however it was made, to their types and checks.

    Raises:
        UserError: a value is of the wrong type or out of its range.
    """
    for field in fields_of(type(instance)):
        value = getattr(instance, field.attribute)
        problem = field.problem(value, shown(value) if isinstance(value, str) else repr(value))
        if problem is not None:
            raise UserError(f"{instance.noun} '{instance.name}': {problem}")


def _format(field: OptionField, value: Any) -> str:
    return field.name if value is True and field.type.is_flag else f"{field.name}={field.type.write(value)}"


def _convert(field: OptionField, raw: RawOption, source: SourceText) -> Any:
    """The value of an option as written."""
    if not raw.values:
        if field.type.is_flag:
            return True
        message = f"option '{field.name}' takes {field.takes}, got no value"
        raise source.error_at(message, raw.name, help=[f"write {field.name}=<{field.type_text}>"])
    start, end = raw.values[0].start, raw.values[-1].end
    if len(raw.values) > 1 and field.type.item is None:
        help = ["options are separated by white space; a comma continues a list of values"]
        message = f"option '{field.name}' takes one value, got {len(raw.values)}"
        raise source.error(message, start, end, help=help)
    got = shown(",".join(word.text for word in raw.values))
    try:
        value = field.type.read(raw.values)
    except ValueError as error:
        likely = nearest(raw.values[0].text, field.type.choices)
        meant = f" (did you mean '{likely}'?)" if likely else ""
        message = f"option '{field.name}' takes {field.takes}, got {got}{meant}"
        raise source.error(message, start, end) from error
    problem = field.problem(value, got)
    if problem is not None:
        raise source.error(problem, start, end)
    return value


def _unknown_option(pass_class: type[Configurable], name: Token, source: SourceText) -> UserError:
    names = [field.name for field in fields_of(pass_class)]
    likely = nearest(name.text, names)
    meant = f" (did you mean '{likely}'?)" if likely else ""
    help = (
        f"options of {pass_class.name}: {', '.join(names)}" if names else f"{pass_class.name} has no options"
    )
    return source.error_at(f"unknown option {shown(name.text)}{meant}", name, help=[help])
