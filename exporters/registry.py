"""Which targets exist, by name, and how they are written: ``trt{precision=fp16 profile=x:1x3x8x8:4x3x8x8:8x3x8x8}``.

Built-in targets are the table below; those of other packages are entry points of group ``prunec.exporters``::

    [project.entry-points."prunec.exporters"]
    my-target = "my_package.my_target:MyTarget"
"""

from __future__ import annotations

from typing import Any

from prunec.exporters.target import Target
from prunec.ir.diagnostics import UserError, nearest
from prunec.ir.source import shown
from prunec.passes.registry import Registry
from prunec.passes.text.options import check_options, fields_of
from prunec.passes.text.single import parse_single

TARGETS = Registry(
    table={
        "onnx": "prunec.exporters.onnx_file:OnnxFile",
        "ort": "prunec.exporters.onnxruntime:OnnxRuntime",
        "trt": "prunec.exporters.tensorrt.target:TensorRT",
    },
    plugins=True,
    base=Target,
    group="prunec.exporters",
    listing="targets",
)


def target_names() -> tuple[str, ...]:
    """Names of the built-in targets and those of other installed packages."""
    return TARGETS.names()


def load_target(name: str) -> type[Target]:
    """The class of a target.

    Raises:
        UserError: there is no such target, or it cannot be imported.
    """
    found: type[Target] = TARGETS.load(name)
    return found


def parse_target(text: str, *, file: str = "--emit") -> Target:
    """The target that a text such as ``ort{level=basic}`` means; the grammar is that of one element of a pipeline.

    Args:
        text: name, and options in braces.
        file: what messages call the text.

    Raises:
        UserError: the text has a mistake; the message has the place, an excerpt and help.
    """
    target: Target = parse_single(text, TARGETS, file=file)
    return target


def make_target(target: str | Target, options: dict[str, Any]) -> Target:
    """A target from Python: its name and options, text with options in braces, or the target itself.

    Raises:
        UserError: there is no such target or option, or a value is wrong.
    """
    if isinstance(target, str) and "{" in target and not options:
        return parse_target(target, file="target")
    if isinstance(target, Target):
        made = target
    else:
        target_class = load_target(target)
        known = [field.attribute for field in fields_of(target_class)]
        for name in options.keys() - set(known):
            likely = nearest(name, known)
            meant = f" (did you mean '{likely}'?)" if likely else ""
            help = [f"options of {target_class.name}: {', '.join(known)}"]
            raise UserError(f"unknown option {shown(name)}{meant}", help=help)
        made = target_class(**options)
    check_options(made)
    return made
