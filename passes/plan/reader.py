"""Reading a plan strictly: every mistake is answered with its JSON path and what was expected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, cast, get_args

from prunec.ir.diagnostics import Place, UserError, nearest
from prunec.ir.source import shown
from prunec.passes.plan.masks import WeightMask, decode
from prunec.passes.plan.schema import (
    SCHEMA,
    Equivalence,
    GroupCut,
    GroupOrder,
    Plan,
    Step,
    TensorCut,
    TensorOrder,
)


def read_plan(text: str, file: str) -> Plan:
    """The plan in a JSON text (see ``Plan.from_json``)."""
    root = _Node(value=_decode(text, file), path="$", file=file)
    schema = root.field("schema").text()
    if schema != SCHEMA:
        help = ["write the plan again with this version of prunec"]
        message = f"$.schema: this version of prunec reads {shown(SCHEMA)}, the file is {shown(schema)}"
        raise UserError(message, place=Place(file=file), help=help)
    root.only("schema", "source", "pipeline", "steps")
    source = root.field("source").only("name", "sha256")
    return Plan(
        source_name=source.field("name").text(),
        source_sha256=source.optional_text("sha256"),
        pipeline=root.field("pipeline").text(),
        steps=tuple(_step(node) for node in root.field("steps").items()),
    )


def _step(node: _Node) -> Step:
    node.only("pass", "partial", "groups", "orders", "masks")
    groups = () if "orders" in node.value and "groups" not in node.value else node.field("groups").items()
    return Step(
        pass_name=node.field("pass").text(),
        groups=tuple(_group(group) for group in groups),
        orders=tuple(_group_order(group) for group in node.optional_items("orders")),
        masks=tuple(_mask(mask) for mask in node.optional_items("masks")),
        partial="partial" in node.value and node.field("partial").boolean(),
    )


def _mask(node: _Node) -> WeightMask:
    node.only("name", "shape", "pattern", "zeros", "updated", "keep")
    shape = tuple(size.integer(1) for size in node.field("shape").items())
    size, zeros = prod(shape), node.field("zeros").integer(0)
    try:
        bits = decode(node.field("keep").text(), size)
    except ValueError as error:
        raise node.field("keep").error(str(error)) from error
    stay = int.from_bytes(bits).bit_count()
    if stay + zeros != size:
        raise node.field("zeros").error(f"expected {size - stay}, the bits of `keep` that are 0, got {zeros}")
    return WeightMask(
        name=node.field("name").text(),
        shape=shape,
        pattern=node.field("pattern").text(),
        zeros=zeros,
        updated="updated" in node.value and node.field("updated").boolean(),
        bits=bits,
    )


def _group(node: _Node) -> GroupCut:
    node.only("id", "units", "removed", "equivalence", "reason", "tensors")
    units = node.field("units").integer(1)
    removed = node.field("removed").indices()
    node.field("removed").check_units(removed, units)
    equivalence = node.field("equivalence").choice(get_args(Equivalence))
    reason = node.optional_text("reason")
    if equivalence == "none" and reason is None:
        raise node.error("expected key 'reason' where 'equivalence' is 'none'")
    return GroupCut(
        id=node.field("id").text(),
        units=units,
        removed=removed,
        equivalence=cast(Equivalence, equivalence),
        reason=reason,
        tensors=tuple(_tensor(tensor) for tensor in node.field("tensors").items()),
    )


def _tensor(node: _Node) -> TensorCut:
    node.only("name", "axis", "removed", "uses")
    return TensorCut(
        name=node.field("name").text(),
        axis=node.field("axis").integer(0),
        removed=node.field("removed").indices(),
        uses=_uses(node),
    )


def _group_order(node: _Node) -> GroupOrder:
    node.only("id", "units", "order", "tensors")
    units = node.field("units").integer(1)
    order = node.field("order").order()
    node.field("order").check_units(order, units)
    return GroupOrder(
        id=node.field("id").text(),
        units=units,
        order=order,
        tensors=tuple(_tensor_order(tensor) for tensor in node.field("tensors").items()),
    )


def _tensor_order(node: _Node) -> TensorOrder:
    node.only("name", "axis", "order", "uses")
    return TensorOrder(
        name=node.field("name").text(),
        axis=node.field("axis").integer(0),
        order=node.field("order").order(),
        uses=_uses(node),
    )


def _uses(node: _Node) -> tuple[str, ...]:
    return tuple(_use(use) for use in node.optional_items("uses"))


def _use(node: _Node) -> str:
    text = node.text()
    name, colon, index = text.rpartition(":")
    if not (name and colon and index.isascii() and index.isdigit()):
        raise node.error(f"expected 'node_name:input_index', got {shown(text)}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A JSON value with its path."""

    value: Any
    path: str
    file: str

    def error(self, message: str) -> UserError:
        return UserError(f"{self.path}: {message}", place=Place(file=self.file))

    def expected(self, what: str) -> UserError:
        return self.error(f"expected {what}, got {_described(self.value)}")

    def only(self, *keys: str) -> _Node:
        """This node, if it is an object with no other keys."""
        for key in self.object():
            if key not in keys:
                likely = nearest(key, keys)
                meant = f" (did you mean '{likely}'?)" if likely else ""
                raise self.error(f"unknown key {shown(key)}{meant}; known are {', '.join(keys)}")
        return self

    def object(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.expected("an object")
        return self.value

    def field(self, key: str) -> _Node:
        if key not in self.object():
            raise self.error(f"expected key '{key}'")
        return _Node(value=self.value[key], path=f"{self.path}.{key}", file=self.file)

    def items(self) -> Sequence[_Node]:
        if not isinstance(self.value, list):
            raise self.expected("a list")
        return [
            _Node(value=value, path=f"{self.path}[{index}]", file=self.file)
            for index, value in enumerate(self.value)
        ]

    def optional_items(self, key: str) -> Sequence[_Node]:
        return self.field(key).items() if key in self.object() else ()

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.expected("a string")
        return self.value

    def optional_text(self, key: str) -> str | None:
        return None if self.object().get(key) is None else self.field(key).text()

    def choice(self, choices: Sequence[str]) -> str:
        if self.value not in choices:
            raise self.expected(f"one of {', '.join(map(repr, choices))}")
        return cast(str, self.value)

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.expected("true or false")
        return self.value

    def integer(self, low: int) -> int:
        if type(self.value) is not int or self.value < low:
            raise self.expected(f"a whole number of at least {low}")
        return self.value

    def order(self) -> tuple[int, ...]:
        """A list of distinct indices of at least 0."""
        indices = self._whole_numbers()
        if len(set(indices)) < len(indices):
            twice = Counter(indices).most_common(1)[0][0]
            raise self.error(f"expected indices without duplicates, got {twice} twice")
        return indices

    def _whole_numbers(self) -> tuple[int, ...]:
        if not isinstance(self.value, list):
            raise self.expected("a list of indices")
        # One pass for the good case: plans hold millions of indices; the path is made for the bad one alone.
        if any(type(index) is not int or index < 0 for index in self.value):
            for item in self.items():
                item.integer(0)
        return tuple(self.value)

    def indices(self) -> tuple[int, ...]:
        """An ascending list of distinct indices of at least 0."""
        indices = self._whole_numbers()
        for position, (before, after) in enumerate(pairwise(indices), start=1):
            if before >= after:
                what = f"expected ascending indices without duplicates, got {after} after {before}"
                raise UserError(f"{self.path}[{position}]: {what}", place=Place(file=self.file))
        return indices

    def check_units(self, indices: Sequence[int], units: int) -> None:
        """See that this list, whose indices are given, names units of a group of so many."""
        if indices and max(indices) >= units:
            raise self.error(f"expected indices below {units}, the group's units, got {max(indices)}")


def _decode(text: str, file: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = Place(file=file, line=error.lineno, column=error.colno)
        reason = error.msg[:1].lower() + error.msg[1:]
        raise UserError(f"not valid JSON: {reason}", place=place) from error
    except (ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]
        message = f"not valid JSON: {reason[:1].lower()}{reason[1:]}"
        raise UserError(message, place=Place(file=file)) from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {shown(twice)} is given twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"number {name} is not JSON")


def _described(value: Any) -> str:
    """A short name for a wrong value."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return shown(value)
    return json.dumps(value)
