"""Textual tests: a pytest plugin that runs ``tests/**/*.onnxtxt`` and ``*.prunec`` and checks what is printed.

A file holds a model in ONNX text, or in the form of our dumps. Its lines that start with ``#`` (in a dump with
``//``) say what to do; in ONNX text the opset header may be left out::

    # RUN: print-onnx
    # WEIGHTS: w b
    # CHECK: y = Conv (x, w, b)
    net (float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w, float[4] b>
    { y = Conv(x, w, b) }

``RUN`` names a runner of ``RUNNERS`` and its argument. Anything else is the text of a pipeline (several
lines are one text) and goes to the runner ``pipeline``. ``RUN-ERROR`` is the same where a ``PrunecError``
is expected, and checks its rendered text.

``WEIGHTS`` lists inputs, or values declared behind the signature, by name or glob, that become initializers
with random values fixed by their names. The word ``random`` stands for every declared value that no node
computes. Names other than letters, digits and ``_`` need quotes in the model: ``"conv1.weight"``.

A line ``# -----`` (``// -----``) starts another test in the same file."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts

from prunec.ir.diagnostics import PrunecError
from prunec.ir.dump.model import parse_dump
from prunec.ir.load import load
from prunec.ir.probes import probe_feeds
from prunec.passes.coupling import analyse
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.coupling.view import GroupView
from prunec.passes.manager import run as run_pipeline
from prunec.passes.printer import group_lines, print_module

Runner = Callable[[onnx.ModelProto, str], str]


def dump(model: onnx.ModelProto, argument: str) -> str:
    """The dump of a model; ``all`` shows shape arithmetic too."""
    return print_module(load(model), all=argument == "all")


def dump_groups(model: onnx.ModelProto, argument: str) -> str:
    """The channel groups of a model; the argument may be a unit, such as ``head-dim``."""
    unit: Any = argument or "head"
    return "\n".join(
        group_lines(GroupView.of(analyse(load(model).model, options=CouplingOptions(unit=unit))))
    )


def dump_result(model: onnx.ModelProto, argument: str) -> str:
    """The groups of a model, the dump of what a pipeline makes of it, and what was proved of every pass."""
    result = run_pipeline(load(model), argument)
    proved = "".join(f"verified: {verdict}\n" for verdict in result.verdicts)
    return f"before:\n{dump_groups(model, '')}\nafter:\n{print_module(result.module)}{proved}"


def dump_with_samples(model: onnx.ModelProto, argument: str) -> str:
    """The same of a pipeline that has so many random samples, ``64 compensate``, with its remarks."""
    count, _, text = argument.partition(" ")
    module = load(model)
    result = run_pipeline(module, text, data=probe_feeds(module, batch=int(count)))
    proved = "".join(f"verified: {verdict}\n" for verdict in result.verdicts)
    remarks = "".join(f"{remark}\n" for remark in result.remarks)
    return f"after:\n{print_module(result.module)}{proved}{remarks}"


def dump_judged(model: onnx.ModelProto, argument: str) -> str:
    """The remarks and the dump of what a pipeline makes of a model, with data: ``x`` [16, 2], whose label is its
    larger column.
    """
    labels = np.arange(16) % 2
    data = {"x": np.eye(2, dtype=np.float32)[labels], "label": labels}
    result = run_pipeline(load(model), argument, data=data)
    return "\n".join([*map(str, result.remarks), print_module(result.module)])


RUNNERS: dict[str, Runner] = {
    "print-onnx": lambda model, _: onnx.printer.to_text(model),
    "dump": dump,
    "groups": dump_groups,
    "judged": dump_judged,
    "pipeline": dump_result,
    "samples": dump_with_samples,
}
"""What a RUN line may name: (model, rest of the line) -> the text to check."""

SUFFIXES = (".onnxtxt", ".prunec")
"""How the names of textual tests end."""
_DUMP = re.compile(r"^model\b", re.MULTILINE)
_HEADER = '<ir_version: 8, opset_import: ["" : 17]> '
_SEPARATOR = re.compile(r"^(?:#|//) -{5,}\s*$", re.MULTILINE)


class TextTestError(Exception):
    """A textual test is written wrongly or its output is not what it says; the message is the report."""


def sections(text: str) -> list[str]:
    """The tests of a file, each with empty lines in place of those before it: line numbers stay true."""
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    return [
        "\n" * text.count("\n", 0, start) + text[start:end]
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True)
    ]


def run(section: str) -> str:
    """What the RUN line of a test prints: a runner's text, or for RUN-ERROR the rendered error."""
    commands, expects_error = directive(section, "RUN"), False
    if not commands:
        commands, expects_error = directive(section, "RUN-ERROR"), True
    if not commands:
        raise TextTestError("no RUN line")
    runner, argument = _runner("\n".join(commands))
    try:
        output = runner(parse_model(section), argument)
    except PrunecError as error:
        if not expects_error:
            raise TextTestError(f"RUN failed:\n{error.render()}") from error
        return error.render()
    if expects_error:
        raise TextTestError(f"RUN-ERROR expects an error, but this was printed:\n{output}")
    return output


def directive(section: str, name: str) -> list[str]:
    """What stands behind ``# NAME:``, line by line."""
    return re.findall(rf"^(?:#|//) *{name}: *(.*?) *$", section, re.MULTILINE)


def _runner(command: str) -> tuple[Runner, str]:
    name, _, argument = command.partition(" ")
    if name in RUNNERS:
        return RUNNERS[name], argument.strip()
    if "pipeline" not in RUNNERS:
        raise TextTestError(f"no runner is called `{name}`; there are {', '.join(RUNNERS)}")
    return RUNNERS["pipeline"], command


def parse_model(section: str) -> onnx.ModelProto:
    """The model of a test, with its WEIGHTS filled in, checked by ONNX."""
    text = re.sub(r"^ *#.*$", "", section, flags=re.MULTILINE)
    model = parse_dump(text.encode(), "<test>") if _DUMP.search(text) else _parse_onnx(text)
    for line in directive(section, "WEIGHTS"):
        for pattern in line.split():
            _fill(model.graph, pattern)
    onnx.checker.check_model(model, full_check=True)
    return model


def _parse_onnx(text: str) -> onnx.ModelProto:
    try:
        return onnx.parser.parse_model(text if text.lstrip().startswith("<") else _HEADER + text)
    except onnx.parser.ParseError as error:
        raise TextTestError(error.args[0].decode()) from error


def _fill(graph: onnx.GraphProto, pattern: str) -> None:
    """Turn the inputs and declared values that ``pattern`` means into initializers."""
    computed = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    declared = list(graph.value_info) if pattern == "random" else [*graph.value_info, *graph.input]
    glob = "*" if pattern == "random" else pattern
    chosen = [v for v in declared if v.name not in computed and fnmatch.fnmatchcase(v.name, glob)]
    if not chosen:
        raise TextTestError(f"WEIGHTS: `{pattern}` matches no input and no declared value")
    variances = {n.input[4] for n in graph.node if n.op_type == "BatchNormalization"}
    graph.initializer.extend(_random_tensor(v, positive=v.name in variances) for v in chosen)
    for infos in (graph.value_info, graph.input):
        kept = [v for v in infos if v not in chosen]
        del infos[:]
        infos.extend(kept)


def _random_tensor(value: onnx.ValueInfoProto, *, positive: bool) -> onnx.TensorProto:
    """Values that depend on name and shape alone, of variance one over the products summed in an output."""
    kind = value.type.tensor_type
    shape = [dim.dim_value for dim in kind.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if 0 in shape or not np.issubdtype(dtype, np.floating):
        raise TextTestError(f"WEIGHTS: `{value.name}` must be of a float type and have a known shape")
    draws = np.random.default_rng(zlib.crc32(value.name.encode())).standard_normal(shape)
    draws = 0.5 + np.abs(draws) if positive else draws / np.sqrt(max(1, np.prod(shape[1:])))
    return onnx.numpy_helper.from_array(np.asarray(draws, dtype), value.name)


def check(section: str, output: str, file: str = "<test>") -> None:
    """Compare with the CHECK lines of a test; TextTestError has the failing line and the whole output."""
    options, report = Options(match_filename=file), io.StringIO()
    parser = Parser(options, io.StringIO(section), *pattern_for_opts(options))
    with contextlib.redirect_stderr(report):
        failed = Matcher(options, FInput("<output>", output), parser).run()
    if failed:
        message = report.getvalue()
        found = re.match(rf"{re.escape(file)}:(\d+)", message)
        line = section.splitlines()[int(found[1]) - 1] if found else ""
        raise TextTestError(f"{message}\nthe line: {line}\nthe output:\n{output}")


class TextFile(pytest.File):
    """A .onnxtxt or a .prunec file."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item for each test in it, named by the file, and by its first line where there are several."""
        parts = sections(self.path.read_text(encoding="utf-8"))
        for part in parts:
            line = len(part) - len(part.lstrip("\n")) + 1
            name = self.path.stem if len(parts) == 1 else f"{self.path.stem}:{line}"
            yield TextItem.from_parent(self, name=name, section=part)


class TextItem(pytest.Item):
    """One textual test."""

    def __init__(self, *, section: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.section = section

    def runtest(self) -> None:
        """Run, then check."""
        check(self.section, run(self.section), str(self.path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The report alone where the test failed as such; a traceback for anything else."""
        if isinstance(excinfo.value, TextTestError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The file, the line where the test starts (0-based), and the title of its report."""
        return self.path, len(self.section) - len(self.section.lstrip("\n")), self.nodeid


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> TextFile | None:
    """Collect .onnxtxt and .prunec files."""
    return TextFile.from_parent(parent, path=file_path) if file_path.suffix in SUFFIXES else None
