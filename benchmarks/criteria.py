"""What sparsity costs a trained network, by criterion: error of layer outputs, accuracy, seconds.

::

    python benchmarks/criteria.py [MODEL CALIBRATION.npz TEST.npz] [--pattern 2:4] [--prepare fold-norm]

Without a model it is the digits example. ``layer error`` is, for each layer, how far its outputs move when its weights
are replaced by the sparse ones, on test samples, with inputs from the sparse network before it: the norm of the
difference over the norm of the outputs, mean over the layers. It is measured by running both in ONNX Runtime,
with nothing of what the criteria compute. ``below magnitude`` and ``below wanda`` compare these means.
``accuracy`` needs an array ``label`` in TEST; there is no training after the cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from report import Column, Report, add_output_options, new_parser, publish

if TYPE_CHECKING:
    from prunec.ir.module import Module

EXAMPLES = Path(__file__).parent.parent / "examples"
DIGITS = [EXAMPLES / name for name in ("digits.onnx", "digits_calibration.npz", "digits.npz")]
PREPARE, PATTERN = "fold-norm", "2:4"
CRITERIA = ("magnitude", "wanda", "sparsegpt")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The criteria beside each other.

    Attributes:
        rows: one a criterion.
        dense: accuracy of the network before, None without labels.
    """

    rows: list[dict[str, Any]]
    dense: float | None


def compare(files: Sequence[Path] = DIGITS, *, prepare: str = PREPARE, pattern: str = PATTERN) -> Comparison:
    """Sparsify one network by every criterion.

    Args:
        files: the model, calibration data, test data.
        prepare: pipeline that runs first; the dense network is what comes out of it.
        pattern: of the zeros.
    """
    import prunec
    from prunec.ir.npz import ArrayFile

    model, calibration, test = files
    dense = prunec.run(prunec.load(model), prepare).module
    arrays, held_out = ArrayFile(calibration), ArrayFile(test)
    rows = []
    for criterion in CRITERIA:
        text = f"sparsify{{pattern={pattern} criterion={criterion} layers=all}}"
        rows.append({"model": model.name, "criterion": criterion, **measure(dense, text, arrays, held_out)})
    base = {row["criterion"]: row["error"] for row in rows}
    for row in rows:
        others = [other for other in ("magnitude", "wanda") if other != row["criterion"]]
        row |= {f"below_{other}": 1 - row["error"] / base[other] for other in others}
    return Comparison(rows=rows, dense=accuracy(dense, held_out))


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="model, calibration data, test data")
    parser.add_argument("--prepare", default=PREPARE, metavar="PASSES", help="what runs first")
    parser.add_argument("--pattern", default=PATTERN, help="of the zeros")
    add_output_options(parser)
    options = parser.parse_args()
    found = compare(options.files or DIGITS, prepare=options.prepare, pattern=options.pattern)
    report = Report(
        benchmark="criteria",
        title="Layer error and accuracy without training, by criterion",
        columns=COLUMNS,
        rows=found.rows,
        options={"prepare": options.prepare, "pattern": options.pattern, "dense": found.dense},
        notes=[] if found.dense is None else [f"accuracy of the dense network: {found.dense:.2%}"],
    )
    publish(report, options)


if __name__ == "__main__":
    main()
