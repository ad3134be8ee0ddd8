"""Registers ops of ATen under the semantics of their ONNX counterparts."""

from __future__ import annotations

from prunec.ir.dialect import ATEN
from prunec.ir.form import PLAIN, Form
from prunec.ir.op import Op
from prunec.ir.registry import OPS, register


def aten(names: str, op: Op, form: Form = PLAIN, *, standard: str = "") -> None:
    """Give ops of ATen (names with overloads, separated by spaces) their semantics."""
    register(names, op, domain=ATEN, form=form, standard=standard)


def like(standard: str, names: str, form: Form = PLAIN) -> None:
    """Give ops of ATen the semantics of an op of ONNX."""
    aten(names, OPS["", standard], form, standard=standard)


def overloads(names: str, *kinds: str) -> str:
    """Every name with every overload, and the same in place (``add_.Tensor``).

    >>> overloads("add mul", "Tensor")
    'add.Tensor add_.Tensor mul.Tensor mul_.Tensor'
    """
    return " ".join(f"{name}{end}.{kind}" for name in names.split() for kind in kinds for end in ("", "_"))
