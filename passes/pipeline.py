"""Pipelines: passes in order, read from text and printed as text, with ``parse(print(p)) == p``.

::

    # passes.txt
    fold-norm
    prune-channels{ratio=40% criterion=l2
                   ignore=head.*,fc        # never touch the head
                   round-to=8}
    verify

The same text works in a file, on a command line and in Python. Nothing runs before the whole text is valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import file_error, reason_of
from prunec.ir.source import SourceText
from prunec.passes.base import Pass
from prunec.passes.registry import DEFAULT_REGISTRY, Registry
from prunec.passes.text.options import build, check_options, format_options
from prunec.passes.text.syntax import NESTING_LIMIT, Element, parse_elements

FILE_LIMIT = 1 << 20
"""Bytes; a longer file is not a pipeline but, most likely, the model."""

PIPELINE_SUFFIXES = frozenset({".txt", ".passes", ".pipeline"})
"""Endings that no name of a pass has: an argument that ends so means a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Passes in the order in which they run; ``str`` gives the canonical text on one line.

    Raises:
        UserError: an option of a pass has a wrong value, or pipelines are nested too deeply.
    """

    passes: tuple[Pass, ...] = ()

    def __post_init__(self) -> None:
        if self.depth > NESTING_LIMIT:
            raise UserError(f"passes are nested more than {NESTING_LIMIT} levels deep")
        for item in self.passes:
            check_options(item)

    @classmethod
    def of(cls, source: Pipeline | Pass | str | Iterable[Pipeline | Pass | str]) -> Pipeline:
        """A pipeline from text, a pass, a pipeline, or any mixture of them in order.

        Raises:
            UserError: an item is none of these, the text is wrong, or an option of a pass has a wrong value.
        """
        if isinstance(source, Pipeline):
            return source
        if isinstance(source, str):
            return parse_pipeline(source)
        if isinstance(source, Pass):
            return cls(passes=(source,))
        if isinstance(source, type) or not isinstance(source, Iterable):
            raise UserError(
                f"expected pipeline text, a pass or a sequence of them, got {source!r}",
                help=["give text such as 'fold-norm, verify', or passes from prunec.parse_pipeline"],
            )
        return cls(passes=tuple(item for part in source for item in cls.of(part)))

    @property
    def depth(self) -> int:
        """Levels of nesting; 1 where no pass has a body."""
        bodies = (getattr(item, "body", None) for item in self.passes if item.takes_body)
        return 1 + max((body.depth for body in bodies if isinstance(body, Pipeline)), default=0)

    def expand(self) -> tuple[Pass, ...]:
        """The passes that run, one after the other: bodies of ``repeat`` written out."""
        return tuple(inner for item in self.passes for inner in item.expand())

    def check_has_passes(self) -> None:
        """See that there is something to run: a person who names nothing forgot something.

        Raises:
            UserError: there is nothing.
        """
        if not self.passes:
            help = ["name at least one pass; `prunec passes` lists them"]
            raise UserError("no passes in the pipeline", help=help)

    def check_takes_programs(self, file: str) -> None:
        """See that every pass takes programs of torch.

        Args:
            file: the program, for the message.

        Raises:
            UserError: one takes ONNX models alone.
        """
        from prunec.ir.fx.entry import onnx_only

        for pass_ in self.expand():
            if pass_.onnx_only:
                raise onnx_only(f"`{pass_.name}`", file)

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, every: bool = False) -> str:
        """The canonical text on one line; with ``every``, all options are written, also those at their defaults."""
        return ", ".join(format_pass(item, every=every) for item in self.passes)


def format_pass(instance: Pass, *, every: bool = False) -> str:
    """The canonical text of one pass: its name, the options that differ from their defaults, its body.

    Args:
        instance: the pass.
        every: write every option, so that the text means the same under other defaults.
    """
    options = format_options(instance, every=every)
    braces = f"{{{options}}}" if options else ""
    inner: Pipeline = getattr(instance, "body", Pipeline())
    body = f"({inner.text(every=every)})" if instance.takes_body else ""
    return f"{instance.name}{braces}{body}"


def parse_pipeline(text: str, *, file: str = "<pipeline>", registry: Registry = DEFAULT_REGISTRY) -> Pipeline:
    """Parse pipeline text.

    Args:
        text: the pipeline; may be empty.
        file: what messages call the text.
        registry: where the names of passes are looked up.

    Raises:
        UserError: the text has a mistake; the message has file, line and column, an excerpt and help.
    """
    source = SourceText.of(text, file)
    return _pipeline(parse_elements(source), source, registry)


def read_pipeline_file(path: str | Path, *, registry: Registry = DEFAULT_REGISTRY) -> Pipeline:
    """Read and parse a pipeline file (UTF-8, at most 1 MiB).

    Raises:
        UserError: the file cannot be read, is not text, has no passes or has a mistake.
    """
    pipeline = parse_pipeline(_read_text(Path(path)), file=str(path), registry=registry)
    if not pipeline.passes:
        raise UserError("no passes in this file", place=Place(file=str(path)))
    return pipeline


def read_pipeline(argument: str, *, registry: Registry = DEFAULT_REGISTRY) -> Pipeline:
    """The pipeline that a command-line argument means: the file of that name where one exists, else the text.

    Raises:
        UserError: the file or the text is wrong, empty or, where it looks like a path, missing.
    """
    kind, path_like = _kind(argument), _looks_like_path(argument)
    if kind == "file" or (kind == "folder" and path_like):
        return _checked(read_pipeline_file(argument, registry=registry))
    if path_like:
        help = ["give the path of a pipeline file, or passes as text such as 'fold-norm, verify'"]
        raise UserError("no such file", place=Place(file=argument), help=help)
    pipeline = parse_pipeline(argument, registry=registry)
    pipeline.check_has_passes()
    return _checked(pipeline)


def _checked(pipeline: Pipeline) -> Pipeline:
    """The pipeline, if every body in it holds passes: a person who leaves one empty forgot something."""
    if (idle := _idle(pipeline)) is not None:
        help = ["write the passes to run in the parentheses"]
        raise UserError(f"pass '{idle.name}' has nothing to run: its parentheses are empty", help=help)
    return pipeline


def _idle(pipeline: Pipeline) -> Pass | None:
    """The first pass, at any depth, whose body holds no passes."""
    for item in pipeline:
        body: Pipeline | None = getattr(item, "body", None) if item.takes_body else None
        found = None if body is None else (_idle(body) if body.passes else item)
        if found is not None:
            return found
    return None


def _pipeline(elements: tuple[Element, ...], source: SourceText, registry: Registry) -> Pipeline:
    return Pipeline(passes=tuple(_pass(element, source, registry) for element in elements))


def _pass(element: Element, source: SourceText, registry: Registry) -> Pass:
    name = element.name
    try:
        pass_class: type[Pass] = registry.load(name.text)
    except UserError as error:
        raise source.error_at(error.message, name, notes=error.notes, help=error.help) from error
    if element.body is not None and not pass_class.takes_body:
        raise source.error_at(f"pass '{name.text}' takes no body in parentheses", name)
    if element.body is None and pass_class.takes_body:
        help = [f"write {name.text}(...) with the passes to run in the parentheses"]
        raise source.error_at(f"pass '{name.text}' needs a body in parentheses", name, help=help)
    body = None if element.body is None else _pipeline(element.body, source, registry)
    return build(pass_class, element.options, source=source, name=name, body=body)


def _read_text(path: Path) -> str:
    place = Place(file=str(path))
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise file_error(path, "cannot read the pipeline", error) from error
    if len(data) > FILE_LIMIT:
        raise UserError("not a pipeline: longer than 1 MiB", place=place)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError("not UTF-8 but UTF-16 text", place=place, help=["save the file as UTF-8"])
    if b"\0" in data:
        raise UserError(f"not a text file: byte {data.index(0)} is zero", place=place)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(reason_of(error), place=place, help=["save the file as UTF-8"]) from error


def _kind(argument: str) -> Literal["file", "folder", "nothing"]:
    """What is there under that name; a pipe such as ``<(echo fold-norm)`` counts as a file."""
    try:
        path = Path(argument)
        return "folder" if path.is_dir() else "file" if path.exists() else "nothing"
    except (OSError, ValueError):
        # Long or odd text is no path at all on some systems.
        return "nothing"


def _looks_like_path(argument: str) -> bool:
    if not argument.strip() or any(c in argument for c in '{}(),\n#"\0'):
        return False
    return "/" in argument or "\\" in argument or Path(argument).suffix in PIPELINE_SUFFIXES
