"""The model card of a compile, in Markdown: what was measured by itself, what people say, and what nobody has said."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.exporters.report.costs import tiles
from prunec.exporters.report.evidence import Evidence
from prunec.exporters.report.fields import CardFields
from prunec.exporters.report.judged import Compounding, Judgement, compounding, judgement
from prunec.exporters.report.latencies import latencies
from prunec.exporters.report.page import environment
from prunec.exporters.report.provenance import provenance
from prunec.ir.files import write_text

if TYPE_CHECKING:
    from prunec.passes.manager import Result

SMALL = 100
"""Samples below which a slice says little."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def write_card(
    result: Result,
    path: str | os.PathLike[str],
    *,
    fields: CardFields | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    **evidence: Any,
) -> None:
    """Write the model card of a compile.

    Args:
        result: what ``prunec.run`` returned.
        path: the file.
        fields: what only people know: a mapping of tables, or the path of a TOML file
            (see :mod:`prunec.exporters.report.fields`); what is missing is "not stated" in the card.
        **evidence: as for :func:`prunec.write_report`.

    Raises:
        UserError: jinja2 is not installed, a field or the evidence is wrong, or the file cannot be written.

    Example:
        >>> import prunec
        >>> result = prunec.run(prunec.load("examples/digits.onnx"), "prune-channels{ratio=0.3}")
        >>> prunec.write_card(result, "card.md", fields={"use": {"intended": "reading postcodes"}})
    """
    text = render_card(Evidence.of(result, **evidence), CardFields.of(fields))
    write_text(path, text)


def render_card(evidence: Evidence, fields: CardFields) -> str:
    """The card as text."""
    templates = environment()
    templates.filters["md"] = plain
    judged = None if evidence.evaluation is None else judgement(evidence.evaluation)
    table = None if evidence.quantization is None else compounding(evidence.quantization)
    return templates.get_template("card.md").render(
        title=fields.values.get("model", {}).get("name") or Path(evidence.result.module.source.name).name,
        fields=fields,
        tiles=list(tiles(evidence)),
        judgement=judged,
        compounding=table,
        latencies=None if evidence.bench is None else latencies(evidence.bench),
        verdicts=[str(verdict) for verdict in evidence.result.verdicts],
        limits=list(_limits(evidence, judged, table)),
        provenance=list(provenance(evidence)),
    )


def plain(text: object) -> str:
    """Text that Markdown and HTML show as it is, on one line.

    >>> print(plain("a|b <script> `x`"))
    a\\|b \\<script\\> \\`x\\`
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).replace("&", "&amp;").split()))


def _limits(evidence: Evidence, judged: Judgement | None, table: Compounding | None) -> Iterator[str]:
    """What the measurements themselves say against the model, or leave open."""
    if judged is None:
        yield "No metric was measured: whether the model is still accurate is not known."
    else:
        for row in judged.rows:
            for demand, status in row.thresholds:
                if status != "holds":
                    yield f"{_named(row.name)}: {demand}: {status}."
        small = [_named(row.name) for row in judged.rows if row.size < SMALL]
        if small:
            yield f"Fewer than {SMALL} samples speak for {', '.join(small)}; the intervals are wide."
        if len(judged.rows) == 1:
            yield "No slices were measured: a mean over all samples hides what happens to rare ones."
    if table is not None and table.warning is not None:
        yield f"{table.warning[0].upper()}{table.warning[1:]}."
    if not evidence.result.verdicts:
        yield "No transform was verified."
    else:
        yield "Verification is evidence from running the models on some inputs, not a formal proof."
    if evidence.bench is None:
        yield "Latency was not measured; fewer operations are not always less time."


def _named(name: str) -> str:
    return "all samples" if name == "all" else f"slice {name}"
