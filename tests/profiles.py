"""A sensitivity profile of three groups, without a model."""

from __future__ import annotations

from prunec.passes.sensitivity.profile import GroupCurve, Point, Profile

CURVES = {
    "stem/Conv": (0.99, 0.9, 0.5),
    "a/very/long/name/of/a/layer/in/the/middle/of/the/network/Conv": (0.99, 0.98, None),
    "head/Gemm": (0.99, 0.99, 0.99),
}


def profile(**changes: object) -> Profile:
    """The profile, with other values of some attributes."""
    groups = [
        GroupCurve(
            id=f"g{number}",
            groups=(f"g{number}",),
            layers=(name, "next/Conv"),
            tensors=(f"{name}.weight:0",),
            units=10,
            channels=1,
            macs_per_unit=1000 * number,
            parameters_per_unit=20,
            curve=tuple(
                Point(ratio=r, removed=int(10 * r), value=v)
                for r, v in zip((0.2, 0.4, 0.6), values, strict=True)
            ),
        )
        for number, (name, values) in enumerate(CURVES.items(), start=1)
    ]
    known: dict[str, object] = {
        "model_name": "net.onnx",
        "model_sha256": "12ab",
        "data_name": "data.npz",
        "samples": 100,
        "metric": "top1",
        "higher_is_better": True,
        "dense": 0.99,
        "criterion": "l2",
        "unit": "head",
        "seed": 0,
        "version": "0.1.0",
        "groups": tuple(groups),
    }
    return Profile(**(known | changes))  # type: ignore[arg-type]
