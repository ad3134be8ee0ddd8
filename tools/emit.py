"""What ``--emit`` means: the target, its options, and the flags that are short for some of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from prunec.exporters.registry import parse_target
from prunec.exporters.target import Target
from prunec.ir.diagnostics import UserError
from prunec.ir.source import shown
from prunec.passes.text.options import fields_of


def read_target(emit: str, *, require_sparse: str | None = None) -> Target:
    """The target to write, with all that it needs at hand.

    Args:
        emit: its text, such as ``trt{precision=fp16}``.
        require_sparse: value of ``--require-sparse``, or None.

    Raises:
        UserError: the text is wrong, the target has no such option, or a package that it needs is missing.
    """
    target = parse_target(emit)
    if require_sparse is not None:
        target = _with_option(target, "require-sparse", require_sparse)
    target.check()
    return target


def _with_option(target: Target, name: str, text: str) -> Target:
    field = next((field for field in fields_of(type(target)) if field.name == name), None)
    if field is None:
        raise UserError(
            f"--{name} does not apply to --emit {target.name}", help=["it is an option of --emit trt"]
        )
    try:
        value = field.type.parse(text)
        problem = field.problem(value, shown(text))
    except ValueError:
        problem = f"option '{name}' takes {field.takes}, got {shown(text)}"
    if problem is not None:
        raise UserError(f"--{name}: {problem}")
    return cast(Target, replace(cast(Any, target), **{field.attribute: value}))
