"""Optimisation profiles: the range of shapes that an engine accepts, and the one that it is tuned for.

Text: ``NAME:MIN:OPT:MAX``, each a shape such as ``1x3x224x224``, for every input with a dynamic axis. ``=`` is taken
for the first ``:``, as trtexec's users are used to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir

from prunec.ir.diagnostics import UserError, nearest
from prunec.ir.sizes import input_shapes, open_inputs, symbol_sizes

Shape = tuple[int, ...]

_TEXT = re.compile(r"(?P<name>.+?)[:=](?P<min>[0-9x]+):(?P<opt>[0-9x]+):(?P<max>[0-9x]+)")

DEFAULTS: Mapping[str, tuple[int, int, int]] = {
    "batch": (1, 8, 64),
    "spatial": (64, 224, 512),
    "other": (1, 128, 512),
}
"""Smallest, tuned and largest size of a dynamic axis for which the user gave no range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The shapes of one input.

    Attributes:
        name: the graph input.
        min: smallest size of every axis.
        opt: the shape that kernels are tuned for.
        max: largest size of every axis.
    """

    name: str
    min: Shape
    opt: Shape
    max: Shape

    def __str__(self) -> str:
        return ":".join((self.name, *("x".join(map(str, shape)) for shape in (self.min, self.opt, self.max))))

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """Smallest, tuned, largest."""
        return self.min, self.opt, self.max


def parse_profile(text: str) -> Profile:
    """One profile from its text.

    Raises:
        UserError: the text is none, or the three shapes do not go from small to large.
    """
    match = _TEXT.fullmatch(text)
    help = ["write input:MIN:OPT:MAX, such as image:1x3x224x224:8x3x224x224:64x3x224x224"]
    if match is None:
        raise UserError(f"'{text}' is no profile", help=help)
    try:
        shapes = [tuple(int(size) for size in match[kind].split("x")) for kind in ("min", "opt", "max")]
    except ValueError as error:
        raise UserError(f"'{text}' is no profile: a size is missing", help=help) from error
    if len({len(shape) for shape in shapes}) > 1:
        raise UserError(
            f"the shapes of profile '{text}' have {' and '.join(map(str, map(len, shapes)))} axes"
        )
    if not all(0 < a <= b <= c for a, b, c in zip(*shapes, strict=True)):
        raise UserError(f"the shapes of profile '{text}' do not go from small to large on every axis")
    return Profile(name=match["name"], min=shapes[0], opt=shapes[1], max=shapes[2])


def choose_profiles(
    graph: onnx_ir.Graph, given: Iterable[str]
) -> tuple[tuple[Profile, ...], tuple[str, ...]]:
    """The profile of every input with a dynamic axis: as given, else a default.

    Args:
        graph: the graph.
        given: profiles as text.

    Returns:
        The profiles, and a line for each that was not given.

    Raises:
        UserError: a given profile does not fit its input.
    """
    profiles = {profile.name: profile for profile in map(parse_profile, given)}
    inputs = {str(value.name): value for value in open_inputs(graph)}
    for profile in profiles.values():
        _check_fit(profile, inputs)
    defaults = {profile.name: profile for profile in _defaults(graph)}
    missing = [name for name in defaults if name not in profiles]
    chosen = tuple(
        profiles.get(name, defaults.get(name)) for name in inputs if name in {*profiles, *defaults}
    )
    lines = tuple(f"no profile is given for input `{name}`: {defaults[name]}" for name in missing)
    return tuple(profile for profile in chosen if profile is not None), lines


def _defaults(graph: onnx_ir.Graph) -> Iterator[Profile]:
    """A profile for every input that has a dynamic axis; the same symbol has the same sizes everywhere."""
    shapes = [
        input_shapes(graph, symbol_sizes(graph, **{kind: sizes[which] for kind, sizes in DEFAULTS.items()}))
        for which in range(3)
    ]
    for value in open_inputs(graph):
        if value.shape is None:
            raise UserError(
                f"the rank of graph input `{value.name}` is unknown",
                help=["export the model again with typed inputs"],
            )
        if any(not isinstance(size, int) for size in value.shape):
            name = str(value.name)
            yield Profile(name=name, min=shapes[0][name], opt=shapes[1][name], max=shapes[2][name])


def _check_fit(profile: Profile, inputs: Mapping[str, onnx_ir.Value]) -> None:
    value = inputs.get(profile.name)
    if value is None:
        likely = nearest(profile.name, inputs)
        meant = f" (did you mean '{likely}'?)" if likely else ""
        help = [f"inputs: {', '.join(inputs)}"]
        raise UserError(f"profile '{profile}' is for no input of the model{meant}", help=help)
    sizes: Sequence[object] = tuple(value.shape or ())
    if value.shape is not None and len(sizes) != len(profile.opt):
        message = f"profile '{profile}' has {len(profile.opt)} axes, input `{profile.name}` has {len(sizes)}"
        raise UserError(message)
    for axis, size in enumerate(sizes):
        if isinstance(size, int) and {shape[axis] for shape in profile.shapes} != {size}:
            raise UserError(f"profile '{profile}': axis {axis} of input `{profile.name}` is always {size}")
