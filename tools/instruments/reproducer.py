"""A folder that replays a failure: the model before the pass that failed, and the passes that were left to run."""

from __future__ import annotations

import json
import platform
import shlex
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import ClassVar

import prunec
from prunec.ir.diagnostics import GateError, PrunecError, UserError
from prunec.ir.dialect import dialect_of
from prunec.ir.files import write_text
from prunec.passes.instruments import Instrument, Stage
from prunec.passes.pipeline import Pipeline
from prunec.passes.plan import Plan

PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "numpy", "scipy", "networkx")

README = """\
# {title}

A pass failed:

```
{error}
```

This command runs it again, on the model as it was just before that pass and with the passes that were left:

```sh
{command}
```

| file | what it is |
| --- | --- |
| {model} | the model before the pass, with its weights |
| passes.txt | the pass that failed and those behind it |
| reproducer.json | versions, seed, and the command line of the run that failed |
| traceback.txt | where in prunec it happened |

{model} holds the weights of your model: look at what you may share before you send this folder to anybody.
"""


@dataclass(slots=True, kw_only=True)
class Reproducer(Instrument):
    """Writes ``prunec-crash-N/`` where a pass fails, is proven wrong or raises what it should not; mistakes of
    the user leave none.

    A run that replays a plan is kept from its beginning, since the positions in a plan are those of its input.

    Attributes:
        parent: where the folder is made; N is the first number that is free.
        command: the command line of the run.
        options: further words that a replay needs, such as ``--data calib.npz``.
        plan: what the run replays, if it does.
        folder: what was written, once it was.
    """

    keeps_before: ClassVar[bool] = True

    parent: Path
    command: Sequence[str] = ()
    options: Sequence[str] = ()
    plan: Plan | None = None
    folder: Path | None = None
    _first: Stage | None = None

    def before_pass(self, stage: Stage) -> None:
        """Keep the beginning, where a replay has to start from there."""
        if self.plan is not None and self._first is None:
            self._first = stage

    def failed(self, stage: Stage, error: BaseException) -> None:
        """Write the folder and point to it; that this fails in its turn must not hide the error itself."""
        stage = self._first or stage
        if isinstance(error, UserError | GateError | KeyboardInterrupt) or stage.before is None:
            return
        try:
            self.folder = _new_folder(self.parent)
            self._write(self.folder, stage, error)
        except (OSError, PrunecError) as second:
            error.add_note(f"no reproducer: {getattr(second, 'message', None) or second}")
            return
        if isinstance(error, PrunecError):
            error.help = (*error.help, f"replay with: {self._replay(stage)}")
        else:
            error.add_note(f"replay with: {self._replay(stage)}")

    def _replay(self, stage: Stage) -> str:
        folder = self.folder or self.parent
        seed = ["--seed", str(stage.seed)] if stage.seed else []
        plan = ["--replay", str(folder / "plan.json")] if self.plan is not None else []
        files = [str(folder / _model_name(stage)), "-p", str(folder / "passes.txt")]
        return shlex.join(["prunec", *files, *plan, *seed, *self.options])

    def _write(self, folder: Path, stage: Stage, error: BaseException) -> None:
        message = error.render() if isinstance(error, PrunecError) else f"{type(error).__name__}: {error}"
        for name, text in {
            "passes.txt": "\n".join(map(str, Pipeline.of(stage.remaining))) + "\n",
            "reproducer.json": json.dumps(self._facts(stage), indent=2) + "\n",
            "traceback.txt": "".join(traceback.format_exception(error)),
            "README.md": README.format(
                title=f"prunec {prunec.__version__}: `{stage.pass_.name}` failed",
                error=message,
                command=self._replay(stage),
                model=_model_name(stage),
            ),
        }.items():
            write_text(folder / name, text)
        if self.plan is not None:
            self.plan.save(folder / "plan.json")
        if stage.before is not None:
            prunec.save(stage.before, folder / _model_name(stage))

    def _facts(self, stage: Stage) -> dict[str, object]:
        source = stage.module.source.original
        return {
            "pass": str(stage.pass_),
            "place": f"{stage.number} of {len(stage.passes)}",
            "command": shlex.join(self.command),
            "source": {"name": source.name, "sha256": source.sha256},
            "seed": stage.seed,
            "versions": {
                "prunec": prunec.__version__,
                "python": platform.python_version(),
                **dict(_versions()),
            },
            "platform": platform.platform(),
        }


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _new_folder(parent: Path) -> Path:
    """A fresh folder with the first number that is free."""
    for number in count(1):
        folder = parent / f"prunec-crash-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("numbers do not end")


def _model_name(stage: Stage) -> str:
    """What the model before the pass is called, with the ending that its dialect is written in."""
    return f"before{dialect_of(stage.module.model).suffix}"
