"""What sparsity costs a trained network, by criterion: error of layer outputs, accuracy, seconds.

::

    python benchmarks/criteria.py [MODEL CALIBRATION.npz TEST.npz] [--pattern 2:4] [--check]

Without a model it is the digits example. ``layer error`` is, for each layer, how far its outputs move when its weights
are replaced by the sparse ones, on test samples, with inputs from the sparse network before it: the norm of the
difference over the norm of the outputs, mean over the layers. It is measured by running both in ONNX Runtime,
with nothing of what the criteria compute. ``below magnitude`` and ``below wanda`` compare these means.
``accuracy`` needs an array ``label`` in TEST; there is no training after the cut.

``--check`` fails unless sparsegpt is 40 % below magnitude and 15 % below wanda, and loses at most 0.5 points of
accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.ir.module import Module

EXAMPLES = Path(__file__).parent.parent / "examples"
DIGITS = [EXAMPLES / name for name in ("digits.onnx", "digits_calibration.npz", "digits.npz")]
CRITERIA = ("magnitude", "wanda", "sparsegpt")
BELOW_MAGNITUDE, BELOW_WANDA, POINTS = 0.40, 0.15, 0.005
COLUMNS = (
    Column(key="model", title="model"),
    Column(key="pipeline", title="pipeline"),
    Column(key="layers", title="layers"),
    Column(key="error", title="layer error", format=".2%"),
    Column(key="below_magnitude", title="below magnitude", format=".0%"),
    Column(key="below_wanda", title="below wanda", format=".0%"),
    Column(key="accuracy", title="accuracy", format=".2%"),
    Column(key="seconds", title="seconds", format=".2f"),
)


def measure(
    dense: Module, pipeline: str, calibration: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, Any]:
    """Run a pipeline and look at what it does to a network."""
    import prunec

    started = perf_counter()
    sparse = prunec.run(dense, pipeline, data=calibration).module
    seconds = perf_counter() - started
    errors = list(layer_errors(dense, sparse, test))
    return {
        "pipeline": pipeline,
        "layers": len(errors),
        "error": float(np.mean(errors)),
        "errors": errors,
        "accuracy": accuracy(sparse, test),
        "seconds": seconds,
    }


def layer_errors(dense: Module, sparse: Module, test: Mapping[str, Any]) -> Iterator[float]:
    """The error of every layer whose weights changed, in graph order."""
    from prunec.ir.facts import infer_facts
    from prunec.passes.sparsity.layers import find_layers

    weights = {layer.value.name: layer for layer in find_layers(dense.model, infer_facts(dense.model)).layers}
    for layer in find_layers(sparse.model, infer_facts(sparse.model)).layers:
        before = weights[layer.value.name].tensor
        if np.array_equal(before.numpy(), layer.tensor.numpy()):
            continue
        name, after = layer.node.outputs[0].name or "", layer.tensor
        new = _run(sparse, test, name)
        layer.value.const_value = before
        old = _run(sparse, test, name)
        layer.value.const_value = after
        yield float(np.linalg.norm(new - old) / np.linalg.norm(old))


def accuracy(module: Module, test: Mapping[str, Any]) -> float | None:
    """The share of test samples whose largest output is that of their label; None without labels."""
    if "label" not in test:
        return None
    scores = _run(module, test, module.graph.outputs[0].name or "")
    return float(np.mean(scores.argmax(axis=1) == test["label"]))


def _run(module: Module, test: Mapping[str, Any], output: str) -> np.ndarray[Any, Any]:
    """One value of a model on all test samples."""
    from prunec.ir.execute import Runner
    from prunec.passes.calibration.data import CalibrationData

    runner = Runner(module, outputs=[output])
    runs = CalibrationData.of(test).bind(module)
    return np.concatenate([runner.run(feeds)[output] for feeds in runs])


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with how far each is below those of magnitude and wanda."""
    base = {row["criterion"]: row["error"] for row in rows}
    for row in rows:
        for other in ("magnitude", "wanda"):
            if row["criterion"] != other:
                row[f"below_{other}"] = 1 - row["error"] / base[other]
    return rows


def misses(rows: list[dict[str, Any]], dense: float | None) -> list[str]:
    """What the results do not reach."""
    best = next(row for row in rows if row["criterion"] == "sparsegpt")
    missed = []
    if best["below_magnitude"] < BELOW_MAGNITUDE or best["below_wanda"] < BELOW_WANDA:
        missed.append(
            f"sparsegpt is {best['below_magnitude']:.0%} below magnitude and {best['below_wanda']:.0%} below wanda"
        )
    if dense is not None and dense - best["accuracy"] > POINTS:
        missed.append(f"accuracy falls from {dense:.2%} to {best['accuracy']:.2%}")
    return missed


def main() -> None:
    import prunec
    from prunec.ir.npz import ArrayFile

    options = _parser().parse_args()
    model, calibration, test = options.files or DIGITS
    dense = prunec.run(prunec.load(model), options.prepare).module
    arrays, held_out = ArrayFile(calibration), ArrayFile(test)
    rows = []
    for criterion in CRITERIA:
        text = f"sparsify{{pattern={options.pattern} criterion={criterion} layers=all}}"
        row = {"model": model.name, "criterion": criterion, **measure(dense, text, arrays, held_out)}
        rows.append(row)
    before = accuracy(dense, held_out)
    publish(
        Report(
            benchmark="criteria",
            title="Layer error and accuracy without training, by criterion",
            columns=COLUMNS,
            rows=compared(rows),
            options={"prepare": options.prepare, "pattern": options.pattern, "dense": before},
            notes=[] if before is None else [f"accuracy of the dense network: {before:.2%}"],
        ),
        options,
    )
    if options.check and (missed := misses(rows, before)):
        raise SystemExit(f"error: {'; '.join(missed)}")


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="model, calibration data, test data")
    parser.add_argument("--prepare", default="fold-norm", metavar="PASSES", help="what runs first")
    parser.add_argument("--pattern", default="2:4", help="of the zeros")
    parser.add_argument("--check", action="store_true", help="fail where the results are not good enough")
    add_output_options(parser)
    return parser


if __name__ == "__main__":
    main()
