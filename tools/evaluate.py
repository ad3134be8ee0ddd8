"""``prunec eval A B ... --data D``: how good models are on samples, slice by slice, and whether that is enough."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import prunec
from prunec.ir.diagnostics import GateError, Place, UserError
from prunec.ir.files import write_text
from prunec.tools.baseline import read_baseline, with_versions, write_baseline
from prunec.tools.console import WIDE, show
from prunec.tools.data_files import DATA_HELP, read_samples
from prunec.tools.options import seed_option, verbose_option
from prunec.tools.outputs import check_outputs
from prunec.tools.progress import show_progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.judging.baseline import Comparison
    from prunec.passes.judging.evaluate import Evaluation
    from prunec.passes.judging.metrics import Metric
    from prunec.passes.judging.slices import SliceFile


@click.command("eval", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1, required=True, metavar="A.onnx [B.onnx ...]")
@click.option("--data", metavar="DATA", required=True, help=DATA_HELP)
@click.option("--slices", metavar="FILE", help="Slices of the samples and what is demanded of them (TOML).")
@click.option(
    "--metric",
    metavar="M",
    help="top1, top5, f1, mae, rmse, perplexity, agreement, cosine, or module:function.  [default: that of the "
    "slices; top1 or rmse, as labels and outputs are; without labels agreement]",
)
@click.option(
    "--against",
    metavar="DENSE",
    help="Model that drops are measured against.  [default: A, where there are others]",
)
@click.option("--save-baseline", metavar="FILE", help="Store what the model does on these samples, as JSON.")
@click.option(
    "--baseline",
    metavar="FILE",
    help="Compare with what was stored: metrics, and drift of inputs and outputs.",
)
@click.option(
    "--max-psi",
    type=click.FloatRange(min=0),
    default=0.25,
    show_default=True,
    help="With --baseline: population stability index above which something has drifted.",
)
@click.option("--json", "json_file", metavar="FILE", help="Also write everything as JSON.")
@seed_option()
@verbose_option()
def evaluate_models(
    models: tuple[str, ...],
    data: str,
    slices: str | None,
    metric: str | None,
    against: str | None,
    save_baseline: str | None,
    baseline: str | None,
    max_psi: float,
    json_file: str | None,
    seed: int,
    verbose: bool,
) -> None:
    """Measure models on samples of yours, as a whole and slice by slice.

    With several models the first is the dense one: the others are measured against it, sample by sample. A threshold of
    --slices fails (exit 3) only if even the favourable end of its 95 % interval is beyond it. With --baseline, what
    got worse since, or has drifted, fails too.
    """
    if against is None and len(models) > 1:
        against, models = models[0], models[1:]
    inputs = [Path(file) for file in (*models, against, data, slices, baseline) if file]
    check_outputs(inputs=inputs, outputs=[Path(file) for file in (json_file, save_baseline) if file])
    if (save_baseline or baseline) and len(models) > 1:
        raise UserError(f"a baseline is of one model, and {len(models)} are given", help=["name one model"])
    stored = None if baseline is None else read_baseline(Path(baseline))
    file = None if slices is None else _read_slices(slices)
    found: list[Evaluation] = []
    compared = None
    with show_progress(verbose=verbose) as progress:
        job = _Job.of(data, metric, against, file, seed)
        for model in models:
            progress(f"evaluating {model}")
            module = prunec.load(model)
            found += job.evaluations(module, watched=bool(save_baseline or baseline))
            if save_baseline is not None:
                write_baseline(Path(save_baseline), module, job.samples, found)
            if stored is not None:
                options: dict[str, Any] = {"limit": max_psi, "file": str(baseline)}
                compared = stored.compare(module, job.samples, found, **options)
    _show(found, compared)
    if save_baseline is not None:
        click.echo(f"wrote {save_baseline}", err=True)
    if json_file is not None:
        _write_json(Path(json_file), found, compared)
    _require(found, file, compared, baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What all models of one command are measured by.

    Attributes:
        samples: of ``--data``.
        metric: that is meant; None is the default for the samples and each model.
        reference: the dense model, or None.
        slices: of ``--slices``, or None.
        seed: for all that is random.
    """

    samples: CalibrationData
    metric: Metric | None
    reference: Module | None
    slices: SliceFile | None
    seed: int

    @classmethod
    def of(
        cls, data: str, metric: str | None, against: str | None, slices: SliceFile | None, seed: int
    ) -> _Job:
        """Read what the options name."""
        from prunec.passes.judging.metrics import parse_metric

        named = None if slices is None else slices.metric
        chosen = None if named is None else parse_metric(named)
        if metric is not None:
            chosen = parse_metric(metric, file="--metric")
        return cls(
            samples=read_samples(data),
            metric=chosen,
            reference=None if against is None else prunec.load(against),
            slices=slices,
            seed=seed,
        )

    def evaluations(self, module: Module, *, watched: bool) -> Iterator[Evaluation]:
        """A model measured; one that is watched by agreement with the dense model, too, as far as that goes."""
        from prunec.passes.judging.default import metric_of

        compares = metric_of(self.metric, self.samples, module).metric.needs_reference
        if watched and self.slices is None and compares and self.reference is None:
            return  # no labels and no dense model: distributions are all there is
        yield self._evaluate(module, self.metric, self.slices)
        if watched and self.reference is not None and not compares:
            from prunec.passes.judging.metrics import parse_metric

            yield self._evaluate(module, parse_metric("agreement"), None)

    def _evaluate(self, module: Module, metric: Metric | None, slices: SliceFile | None) -> Evaluation:
        return prunec.evaluate(
            module, self.samples, metric, reference=self.reference, slices=slices or (), seed=self.seed
        )


def _read_slices(path: str) -> SliceFile:
    from prunec.passes.judging.slice_file import read_slices

    return read_slices(path)


def _show(found: Sequence[Evaluation], compared: Comparison | None) -> None:
    from prunec.tools.evaluate_tables import render_comparison, render_evaluation

    parts: list[RenderableType] = [render_evaluation(result) for result in found]
    parts += [] if compared is None else [render_comparison(compared)]
    lines = [line for part in parts for line in ("", part)]
    show(*lines[1:], width=WIDE)


def _write_json(path: Path, found: Sequence[Evaluation], compared: Comparison | None) -> None:
    content: dict[str, Any] = {"evaluations": [result.to_json() for result in found]}
    if compared is not None:
        content["comparison"] = compared.to_json()
    text = json.dumps(with_versions("prunec.evaluations/1", content), indent=1, ensure_ascii=False)
    write_text(path, f"{text}\n")
    click.echo(f"wrote {path}", err=True)


def _require(
    found: Sequence[Evaluation], file: SliceFile | None, compared: Comparison | None, baseline: str | None
) -> None:
    """See that every threshold holds for every model, and that nothing is worse than the baseline.

    Raises:
        GateError: one does not, or something is.
    """
    several = len({result.model for result in found}) > 1
    undecided = file is not None and file.undecided == "fail"
    failures = [
        (f"{result.model}: {line}" if several else line, "" if file is None else file.source.file)
        for result in found
        for line in result.failures(undecided=undecided)
    ]
    failures += [] if compared is None else [(line, str(baseline)) for line in compared.failures()]
    if failures:
        lines, places = zip(*failures, strict=True)
        raise GateError.of(lines, Place(file=places[0]))
