"""The profile of a model: per channel group the metric with some shares of its units gone.

In JSON every group has a line of its own, so that profiles compare line by line::

    {
      "schema": "prunec.sensitivity/1",
      "model": {"name": "net.onnx", "sha256": "9f86..."},
      "data": {"name": "data.npz", "samples": 450},
      "metric": {"name": "top1", "higher_is_better": true, "dense": 0.9978},
      "criterion": "l2", "unit": "head", "seed": 0, "version": "0.1.0",
      "groups": [
        {"id":"g1","units":16,"curve":[{"ratio":0.2,"removed":3,"value":0.98}],...}
      ]
    }
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import read_text, write_text

SCHEMA = "prunec.sensitivity/1"
_AGAIN = "make one: prunec sensitivity MODEL --data D -o profile.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The metric with some units of one group masked.

    Attributes:
        ratio: the share that was asked for.
        removed: how many units that is.
        value: of the metric; None where it is not a number, as when outputs overflow.
    """

    ratio: float
    removed: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCurve:
    """What the metric says about one group of coupled channels.

    Attributes:
        id: of the group, such as ``g3``; of the first one where a layer's channels fall into several.
        groups: ids of all of them.
        layers: names of the nodes whose weights lose channels, in graph order.
        tensors: the axes that lose channels, ``name:axis``.
        units: how many there are.
        channels: channels of a layer that one unit stands for (64 for a head of size 64).
        macs_per_unit: multiply-accumulates that go with one unit of the whole group.
        parameters_per_unit: weights that go with it.
        curve: what was measured, by rising ratio.
    """

    id: str
    groups: tuple[str, ...]
    layers: tuple[str, ...]
    tensors: tuple[str, ...]
    units: int
    channels: int
    macs_per_unit: int
    parameters_per_unit: int
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How sensitive a model is to the loss of channels, group by group.

    Attributes:
        model_name: the model as the user named it.
        model_sha256: hash of its file, or None for a model made in memory.
        data_name: what the samples are called.
        samples: how many of them there are.
        metric: name of the metric.
        higher_is_better: whether larger values of it are better.
        dense: its value for the model as it is.
        criterion: what chose the units that were masked.
        unit: what attention loses: whole heads, or positions of every head.
        seed: of all that is random.
        version: of prunec.
        groups: in graph order.
    """

    model_name: str
    model_sha256: str | None
    data_name: str
    samples: int
    metric: str
    higher_is_better: bool
    dense: float
    criterion: str
    unit: str
    seed: int
    version: str
    groups: tuple[GroupCurve, ...]

    def drop(self, point: Point) -> float | None:
        """How much worse than the dense model a point is, in units of the metric; negative where it is better."""
        if point.value is None:
            return None
        return self.dense - point.value if self.higher_is_better else point.value - self.dense

    @property
    def ratios(self) -> tuple[float, ...]:
        """All ratios that were measured, rising."""
        return tuple(sorted({point.ratio for group in self.groups for point in group.curve}))

    def to_json(self) -> str:
        """The profile as JSON text, the same text for the same profile, with one line for each group."""
        data = {"name": self.data_name, "samples": self.samples}
        metric = {"name": self.metric, "higher_is_better": self.higher_is_better, "dense": self.dense}
        head: dict[str, Any] = {
            "schema": SCHEMA,
            "model": {"name": self.model_name, "sha256": self.model_sha256},
            "data": data,
            "metric": metric,
        }
        head |= {key: getattr(self, key) for key in ("criterion", "unit", "seed", "version")}
        lines = [
            f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in head.items()
        ]
        groups = ",\n".join(
            f"    {json.dumps(asdict(g), ensure_ascii=False, separators=(',', ':'))}" for g in self.groups
        )
        return "\n".join(["{", *lines, '  "groups": [', groups, "  ]", "}", ""])

    @staticmethod
    def from_json(text: str, *, file: str = "<profile>") -> Profile:
        """Read a profile.

        Raises:
            UserError: something is missing or of a wrong type.
        """
        place = Place(file=file)
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UserError(f"this is no JSON: {error}", place=place) from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise UserError(f"this is no sensitivity profile: its schema is not {SCHEMA}", place=place)
        try:
            return _profile(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"this sensitivity profile is damaged: {what}", place=place, help=[_AGAIN]
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a profile file.

        Raises:
            UserError: it cannot be read or is no profile.
        """
        return cls.from_json(read_text(path, "profile"), file=str(path))

    def plot(self, path: str | Path) -> None:
        """Draw the profile as ``.svg`` or ``.png``; see :func:`prunec.write_plot`."""
        import prunec  # passes do not know who draws; the package's public face does

        prunec.write_plot(self, path)

    def save(self, path: str | Path) -> None:
        """Write the profile beside ``path`` and rename it.

        Raises:
            UserError: the file cannot be written.
        """
        write_text(path, self.to_json(), "profile")


def _profile(data: Mapping[str, Any]) -> Profile:
    model, samples, metric = data["model"], data["data"], data["metric"]
    return Profile(
        model_name=str(model["name"]),
        model_sha256=None if model["sha256"] is None else str(model["sha256"]),
        data_name=str(samples["name"]),
        samples=int(samples["samples"]),
        metric=str(metric["name"]),
        higher_is_better=bool(metric["higher_is_better"]),
        dense=float(metric["dense"]),
        criterion=str(data["criterion"]),
        unit=str(data["unit"]),
        seed=int(data["seed"]),
        version=str(data["version"]),
        groups=tuple(_curve(group) for group in data["groups"]),
    )


def _curve(group: Mapping[str, Any]) -> GroupCurve:
    points = [
        Point(
            ratio=float(p["ratio"]),
            removed=int(p["removed"]),
            value=None if p["value"] is None else float(p["value"]),
        )
        for p in group["curve"]
    ]
    return GroupCurve(
        id=str(group["id"]),
        groups=tuple(map(str, group["groups"])),
        layers=tuple(map(str, group["layers"])),
        tensors=tuple(map(str, group["tensors"])),
        units=int(group["units"]),
        channels=int(group["channels"]),
        macs_per_unit=int(group["macs_per_unit"]),
        parameters_per_unit=int(group["parameters_per_unit"]),
        curve=tuple(sorted(points, key=lambda p: p.ratio)),
    )
