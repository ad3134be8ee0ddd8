"""Where a node came from: the line of the user's program and the module, as exporters leave them behind.

PyTorch's exporter writes ``pkg.torch.onnx.stack_trace`` (outermost call first) and ``namespace`` (``: Net/
layer1.0: pkg.Block/conv: ...``) into a node's metadata; its predecessor wrote the stack, innermost call
first, into the doc string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

import onnx_ir

CALL = "pkg.torch.onnx.fx_node"
STACK_TRACE = "pkg.torch.onnx.stack_trace"
NAMESPACE = "namespace"
LONGEST_DOC = 80

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
_OLD_FRAME = re.compile(r"^(?P<file>\S[^()\n]*)\((?P<line>\d+)\): ", re.MULTILINE)
_PARAMETER = re.compile(r"%(?:p|b|c)_(\w+)")
_LIBRARY = re.compile(r"(site|dist)-packages[/\\]")


def source_of(node: onnx_ir.Node) -> str | None:
    """``net.py:9 in layer1.0.conv2``, as far as it is known.

    Where neither part is, the first line of the doc string. The program's line is the innermost one that does
    not belong to an installed package.
    """
    doc = node.doc_string or ""
    line = _innermost(_FRAME.findall(node.metadata_props.get(STACK_TRACE, "")))
    line = line or _innermost(list(reversed(_OLD_FRAME.findall(doc))))
    module = _module(node.metadata_props.get(NAMESPACE, ""))
    if line is None and module is None:
        text = " ".join(doc.split("\n", 1)[0].split())
        return f"{text[: LONGEST_DOC - 3]}..." if len(text) > LONGEST_DOC else text or None
    return " in ".join(part for part in (line, module) if part is not None)


def module_path(node: onnx_ir.Node) -> str | None:
    """The module of the user's network that a node came from, such as ``layer1.0.conv2``; None where nobody says.

    PyTorch's older exporter says it in the node's own name, ``/layer1/0/conv2/Conv``.
    """
    if (path := _module(node.metadata_props.get(NAMESPACE, ""))) is not None:
        return path
    parts = (node.name or "").split("/")
    return ".".join(parts[1:-1]) or None if len(parts) > 2 and not parts[0] else None


def parameters_read(node: onnx_ir.Node) -> Iterator[str]:
    """The parameters and buffers that a node's call in PyTorch had among its arguments.

    All but letters and digits is written as ``_`` in their names.
    """
    yield from _PARAMETER.findall(node.metadata_props.get(CALL, ""))


def _innermost(frames: list[tuple[str, str]]) -> str | None:
    """The last frame of the user's own code, as ``file:line``."""
    if not frames:
        return None
    own = [frame for frame in frames if not _LIBRARY.search(frame[0])] or frames
    file, line = own[-1]
    return f"{PurePosixPath(PureWindowsPath(file).as_posix()).name}:{line}"


def _module(namespace: str) -> str | None:
    """The name of the module: the last but one entry, since the last one is the op itself."""
    entries = [entry.partition(":")[0].strip() for entry in namespace.split("/")]
    return entries[-2] or None if len(entries) > 1 else None
