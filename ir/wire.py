"""Takes weights out of a serialised ``ModelProto``, and puts them in, without parsing or copying them.

Protobuf's Python runtime copies a weight on parsing and again on every access. This module reads just enough
of the wire format (keys, varints, lengths; nothing below a tensor's own fields) to find the ``raw_data`` of
the main graph's initializers, and returns the model without them, a few hundred kilobytes that protobuf
parses in milliseconds, with the place of each weight in the file, which numpy can then view through a memory
map.

    ModelProto { ... graph = 7 { ... initializer = 5 { ... raw_data = 9 } } }

Reference: protocol buffers encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
SMALLEST_WEIGHT = 1024
"""Bytes below which a tensor stays in the parsed proto: shapes and scalars, for shape inference to see."""


class WireError(ValueError):
    """The bytes are not a protobuf message, or end too early.

    Attributes:
        missing: bytes that the last field declares beyond the end, or None if the bytes are wrong in another
            way.
    """

    def __init__(self, message: str, *, missing: int | None = None) -> None:
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a message: its number, and where its key, its payload and its end lie in the buffer."""

    number: int
    kind: int
    key: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A serialised model in two parts.

    Attributes:
        skeleton: the serialised model without the weights that ``spans`` points at.
        spans: per initializer of the main graph, in file order, where its raw data lies; None if it is in the
            skeleton.
    """

    skeleton: bytes
    spans: tuple[slice | None, ...]


def split_weights(buffer: memoryview, *, smallest: int = SMALLEST_WEIGHT) -> Split:
    """Separate the main graph's weights from the rest of a serialised ``ModelProto``.

    Args:
        buffer: the file's bytes, ``[size]`` of uint8, usually a memory map.
        smallest: weights of fewer bytes stay in the skeleton.

    Raises:
        WireError: the bytes are no protobuf message or end inside a field.
    """
    graphs = [field for field in fields(buffer, 0, len(buffer)) if field.number == GRAPH]
    if len(graphs) != 1 or graphs[0].kind != LENGTH:
        return Split(skeleton=bytes(buffer), spans=())
    graph = graphs[0]
    pieces, spans = _strip_graph(buffer, graph, smallest)
    length = sum(len(piece) for piece in pieces)
    head: list[bytes | memoryview] = [buffer[: graph.key], _key(GRAPH), _varint(length)]
    return Split(skeleton=b"".join([*head, *pieces, buffer[graph.stop :]]), spans=tuple(spans))


def join_weights(skeleton: bytes, weights: Sequence[bytes | memoryview | None]) -> list[bytes | memoryview]:
    """The inverse of ``split_weights``: a serialised model with its weights again, in pieces.

    Args:
        skeleton: a serialised ``ModelProto`` with one graph.
        weights: per initializer of the main graph, the raw data to put in, or None.
    """
    buffer = memoryview(skeleton)
    graph = next(field for field in fields(buffer, 0, len(buffer)) if field.number == GRAPH)
    remaining = iter(weights)
    pieces: list[bytes | memoryview] = []
    for part in fields(buffer, graph.start, graph.stop):
        data = next(remaining) if part.number == INITIALIZER else None
        if data is None:
            pieces.append(buffer[part.key : part.stop])
            continue
        tail = [_key(RAW_DATA), _varint(len(data)), data]
        size = part.stop - part.start + sum(len(piece) for piece in tail)
        pieces += [_key(INITIALIZER), _varint(size), buffer[part.start : part.stop], *tail]
    length = sum(len(piece) for piece in pieces)
    return [buffer[: graph.key], _key(GRAPH), _varint(length), *pieces, buffer[graph.stop :]]


def fields(buffer: memoryview, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message in ``buffer[start:stop]``, not descending into any.

    Raises:
        WireError: a key is impossible, or a field ends beyond ``stop``.
    """
    position = start
    while position < stop:
        key = position
        tag, position = _read_varint(buffer, position, stop)
        number, kind = tag >> 3, tag & 7
        begin, end = _payload(buffer, position, stop, kind, key)
        if number == 0 or end > stop:
            missing = end - stop if number else None
            raise WireError(f"field {number} at byte {key} cannot be", missing=missing)
        yield Field(number=number, kind=kind, key=key, start=begin, stop=end)
        position = end


def _payload(buffer: memoryview, position: int, stop: int, kind: int, key: int) -> tuple[int, int]:
    if kind == VARINT:
        return position, _read_varint(buffer, position, stop)[1]
    if kind == LENGTH:
        length, begin = _read_varint(buffer, position, stop)
        return begin, begin + length
    if kind in (FIXED32, FIXED64):
        return position, position + (4 if kind == FIXED32 else 8)
    raise WireError(f"byte {key} starts no protobuf field (wire type {kind})")


def _strip_graph(
    buffer: memoryview, graph: Field, smallest: int
) -> tuple[list[bytes | memoryview], list[slice | None]]:
    """The pieces of the graph's message without large weights, and one span per initializer."""
    pieces: list[bytes | memoryview] = []
    spans: list[slice | None] = []
    done = graph.start
    for tensor in fields(buffer, graph.start, graph.stop):
        if tensor.number != INITIALIZER or tensor.kind != LENGTH:
            continue
        raw = _raw_data(buffer, tensor) if tensor.stop - tensor.start >= smallest else None
        if raw is None or raw.stop - raw.start < smallest:
            spans.append(None)
            continue
        rest = [buffer[tensor.start : raw.key], buffer[raw.stop : tensor.stop]]
        size = _varint(len(rest[0]) + len(rest[1]))
        pieces += [buffer[done : tensor.key], _key(INITIALIZER), size, *rest]
        spans.append(slice(raw.start, raw.stop))
        done = tensor.stop
    return [*pieces, buffer[done : graph.stop]], spans


def _raw_data(buffer: memoryview, tensor: Field) -> Field | None:
    found = [field for field in fields(buffer, tensor.start, tensor.stop) if field.number == RAW_DATA]
    return found[0] if len(found) == 1 and found[0].kind == LENGTH else None


def _read_varint(buffer: memoryview, position: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while position < stop and shift < 70:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError(
        f"a number ends at byte {position} before it is complete", missing=1 if shift < 70 else None
    )


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _key(number: int) -> bytes:
    return _varint(number << 3 | LENGTH)
