"""The page of a compile: one file that opens from disk, without scripts and without the network.

Everything from the model is text: the templates escape all that they are given, and a content security policy allows
nothing but the page's own style sheet, which it names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.exporters.report.costs import layer_bars, metric_tile, tiles
from prunec.exporters.report.curves import curves
from prunec.exporters.report.cuts import decisions
from prunec.exporters.report.evidence import Evidence
from prunec.exporters.report.judged import compounding, judgement
from prunec.exporters.report.latencies import latencies
from prunec.exporters.report.provenance import provenance
from prunec.exporters.report.theme import theme
from prunec.ir.diagnostics import UserError, counted
from prunec.ir.files import write_text

if TYPE_CHECKING:
    import jinja2

    from prunec.passes.manager import Result

_SECTIONS = {
    "slices": ("Accuracy", "judgement"),
    "quantised": ("Quantised", "compounding"),
    "verified": ("Verification", None),
    "cuts": ("Removed", "decisions"),
    "layers": ("Layers", "layers"),
    "sensitivity": ("Sensitivity", "curves"),
    "latency": ("Latency", "latencies"),
    "remarks": ("Remarks", "remarks"),
    "provenance": ("Provenance", None),
}
"""Title of each section, and the view without which it is left out."""
_KINDS = {"missed": "could not be done", "analysis": "found out", "passed": "done"}


def write_report(result: Result, path: str | os.PathLike[str], **evidence: Any) -> None:
    """Write the page of a compile.

    Args:
        result: what ``prunec.run`` returned.
        path: the file.
        **evidence: what else is known: ``output`` (the file that was written), ``evaluation``, ``profile``,
            ``bench``, ``quantization``, each as an object, as its JSON, or as a file of it.

    Raises:
        UserError: jinja2 is not installed, evidence is of another model or of another kind, or the file cannot be
            written.

    Example:
        >>> import prunec
        >>> result = prunec.run(prunec.load("examples/digits.onnx"), "prune-channels{ratio=0.3}")
        >>> prunec.write_report(result, "report.html")
    """
    write_text(path, render_report(Evidence.of(result, **evidence)))


def render_report(evidence: Evidence) -> str:
    """The page as text."""
    views = _views(evidence)
    style = theme() + files(__package__).joinpath("templates", "report.css").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("page.html")
        .render(
            **views,
            title=Path(evidence.result.module.source.name).name,
            lede=_lede(evidence.result),
            states=list(_states(evidence, views)),
            sections=_sections(views),
            style=_trusted(style),
            style_hash=_hash(style),
        )
    )


def _views(evidence: Evidence) -> dict[str, Any]:
    """What the template draws, by the name that it has there; None or empty where there is nothing to draw."""
    result = evidence.result
    judged = None if evidence.evaluation is None else judgement(evidence.evaluation)
    return {
        "tiles": [*([] if judged is None else [metric_tile(judged)]), *tiles(evidence)],
        "judgement": judged,
        "compounding": None if evidence.quantization is None else compounding(evidence.quantization),
        "verdicts": [str(verdict) for verdict in result.verdicts],
        "decisions": decisions(result.plan),
        "layers": layer_bars(result.cost_before, result.cost_after),
        "curves": None if evidence.profile is None else curves(evidence.profile, result.plan),
        "latencies": None if evidence.bench is None else latencies(evidence.bench),
        "remarks": list(_remarks(result)),
        "provenance": list(provenance(evidence)),
    }


def _sections(views: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and title of every section that has something in it."""
    largest, _ = views["layers"]
    there = {**views, "layers": largest}
    return [(id, title) for id, (title, view) in _SECTIONS.items() if view is None or there[view]]


def environment() -> jinja2.Environment:
    """Templates that escape what they are given.

    Raises:
        UserError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UserError(
            "reports need jinja2, which is not installed", help=["pip install 'prunec[judge]'"]
        ) from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("prunec.exporters.report", "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _trusted(style: str) -> Any:
    """Our own style sheet, which is not escaped."""
    from markupsafe import Markup

    return Markup(style)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _lede(result: Result) -> str:
    """The page in one sentence."""
    before, after = result.cost_before, result.cost_after
    pairs = (
        ("parameters", before.parameters, after.parameters),
        ("multiply-accumulates", before.macs, after.macs),
    )
    fewer = [f"{100 * (1 - now / was):.1f} % fewer {what}" for what, was, now in pairs if was and now < was]
    zeros = sum(mask.zeros for step in result.plan.steps for mask in step.masks)
    if zeros:
        fewer.append(f"{zeros:,} weights set to zero")
    if not fewer:
        return "Nothing was removed from this model." if result.changed else "No pass changed this model."
    return f"{' and '.join(fewer)}."


def _states(evidence: Evidence, views: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The verdicts of all that judged, each with its colour."""
    verdicts = evidence.result.verdicts
    yield (
        ("good", f"verified: {counted(len(verdicts), 'transform')}")
        if verdicts
        else ("doubt", "not verified")
    )
    if views["judgement"] is not None and views["judgement"].status:
        words = {"holds": ("good", "all thresholds hold"), "fails": ("bad", "a threshold fails")}
        yield words.get(views["judgement"].status, ("doubt", "a threshold is undecided"))
    if views["compounding"] is not None and views["compounding"].warning is not None:
        yield "doubt", "pruning and quantising compound"
    if missed := sum(remark.kind == "missed" for remark in evidence.result.remarks):
        yield "doubt", f"{counted(missed, 'thing')} could not be done"


def _remarks(result: Result) -> Iterator[tuple[str, str, list[Any]]]:
    for kind, title in _KINDS.items():
        found = [remark for remark in result.remarks if remark.kind == kind]
        if found:
            yield kind, title, found
