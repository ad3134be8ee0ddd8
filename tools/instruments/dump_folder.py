"""A folder of dumps, one for the input and one for every pass: ``000_input.prunec``, ``001_fold-norm.prunec``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import file_error, write_text
from prunec.passes.base import Outcome
from prunec.passes.instruments import Instrument, Stage
from prunec.tools.instruments.print_ir import dump

_OURS = re.compile(r"\d{3,}_.+\.prunec")


@dataclass(slots=True, kw_only=True)
class DumpFolder(Instrument):
    """Writes a dump of the input, and a numbered one after every pass that changed something.

    Attributes:
        folder: made by :meth:`open`, which also removes the dumps of an earlier run.
    """

    folder: Path

    @classmethod
    def open(cls, path: Path) -> DumpFolder:
        """Make the folder, or clear an earlier run out of it.

        Raises:
            UserError: it cannot be written, or holds anything else than dumps.
        """
        place = Place(file=str(path))
        try:
            path.mkdir(parents=True, exist_ok=True)
            entries = sorted(path.iterdir())
            foreign = next((e.name for e in entries if not _OURS.fullmatch(e.name)), None)
            if foreign is not None:
                raise UserError(
                    f"the dump folder holds '{foreign}', which is no dump",
                    place=place,
                    help=["give the name of a new folder"],
                )
            for entry in entries:
                entry.unlink()
        except OSError as error:
            raise file_error(path, "cannot use the dump folder", error) from error
        return cls(folder=path)

    def before_pass(self, stage: Stage) -> None:
        """Write the input, once."""
        if not (self.folder / "000_input.prunec").exists():
            self._write("000_input", stage)

    def after_pass(self, stage: Stage, outcome: Outcome) -> None:
        """Write what the pass left; a pass that changed nothing leaves no file."""
        if outcome.changed:
            self._write(f"{stage.number:03d}_{stage.pass_.name}", stage)

    def _write(self, stem: str, stage: Stage) -> None:
        path = self.folder / f"{stem}.prunec"
        write_text(path, dump(stage), "dump")
