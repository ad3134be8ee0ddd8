"""What a compile says of pruning and quantising together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunec.ir.diagnostics import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.judging.quantization_table import QuantizationTable
    from prunec.passes.manager import Progress, Result
    from prunec.passes.pipeline import Pipeline


def compared(
    module: Module,
    pipeline: Pipeline,
    data: CalibrationData | None,
    result: Result,
    *,
    seed: int,
    progress: Progress,
) -> QuantizationTable | None:
    """The four models beside each other, where the pipeline prunes and quantises and there are samples to judge by.

    What cannot be judged on these samples (labels of another kind, say) is a remark: the model itself is done.
    """
    if data is None:
        return None
    from prunec.passes.judging.quantization_table import prunes_and_quantises, quantization_table

    if not prunes_and_quantises(pipeline):
        return None
    try:
        return quantization_table(module, pipeline, data, result=result, seed=seed, progress=progress)
    except UserError as error:
        result.remarks.missed(
            "quantize",
            "pruned and quantised models are not compared",
            reason=error.message,
            help="put `quantize` last" if _is_pruned_behind(pipeline) else None,
            urgent=True,
        )
        return None


def _is_pruned_behind(pipeline: Pipeline) -> bool:
    """Whether something is pruned that has been quantised: such a plan fits no model that is not."""
    from prunec.passes.judging.quantization_table import PRUNING

    contracts = [pass_.contract for pass_ in pipeline.expand()]
    return any(contract in PRUNING for contract in contracts[contracts.index("quantised") :])


def render_table(table: QuantizationTable) -> RenderableType:
    """The table with its verdict beneath."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("")
    columns = {"dense": table.dense, "pruned": table.pruned, "quantised": table.quantised, "both": table.both}
    for header in columns:
        grid.add_column(header, justify="right")
    grid.add_row(
        table.metric, *(f"{100 * v:.2f} %" if table.is_share else f"{v:.4g}" for v in columns.values())
    )
    lost = [table.drop(value) for value in columns.values()][1:]
    grid.add_row("lost", "", *(table.amount(value).removesuffix(" points") for value in lost))
    return Group(grid, *(Text(line, no_wrap=True, overflow="ignore") for line in _lines(table)))


def _lines(table: QuantizationTable) -> list[str]:
    from prunec.passes.judging.quantization_table import HELP

    if table.warning is not None:
        return [f"warning: {table.warning}", *(f"  = help: {line}" for line in HELP)]
    more = "more" if table.interaction >= 0 else "less"
    amount = table.amount(abs(table.interaction))
    return [
        f"together they lose {amount} {more} than each by itself ({table.samples:,} samples of {table.data})"
    ]
