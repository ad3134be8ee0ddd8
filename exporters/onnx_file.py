"""The target ``onnx``: the module as an ONNX file, for every runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from prunec.exporters.target import Export, ExportContext, Target
from prunec.passes.base import option

if TYPE_CHECKING:
    from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFile(Target):
    """The module as an ONNX file, unchanged: for any runtime."""

    name: ClassVar[str] = "onnx"

    external_data: bool | None = option(
        None, help="weights in a file of their own, OUT.data; none: where the source has them so"
    )

    def write(self, module: Module, path: Path, context: ExportContext) -> Export:  # noqa: ARG002
        """Save the module and load it again."""
        from prunec.ir.load import load
        from prunec.ir.save import save

        save(module, path, external_data=self.external_data)
        written = load(path).source
        return Export(target=self.name, files=(path, *written.data), size=written.size or 0)
