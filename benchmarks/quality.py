"""What a cut costs trained networks without any training after it: plain, repaired on data, and by Torch-Pruning.

::

    python benchmarks/quality.py nets --peer peerenv/bin/python --json benchmarks/results/quality.json
    python benchmarks/report.py --readme docs/quality.md

The networks are trained here, with fixed seeds, on data that are made or that ship with Python, and kept in the folder
``nets`` (``training.py``, ``networks.py``, ``specimens.py``); this needs torch. Each is cut by the same share of every
channel group (of attention in the size of its heads), and measured on samples that nothing has seen: accuracy, or
perplexity for the decoder. ``kept`` is the share of the dense accuracy that is left, ``times`` how many times the
dense perplexity it is. ``--peer`` names a Python with torch and torch-pruning (see ``peers.py``), which cuts the same
network in torch by its group norm and measures it there (``quality_peer.py``). ``seconds`` has all: analysis, cut, fit,
verification.

``--check`` fails unless at 30 % ``compensate`` keeps 95 % of the dense accuracy and more than the plain cut, and at
20 % the decoder's perplexity is at most 1.3 times the dense one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import machine
import processes
from report import Column, Report, add_output_options, new_parser, publish
from training import Trained, trained

RATIOS = {"digits-cnn": (0.3, 0.5), "resnet20": (0.3, 0.5), "vit": (0.3, 0.5), "decoder": (0.2, 0.3)}
"""Networks, and the shares of channels that go."""
METHODS = (
    ("l2", ""),
    ("l2", "recalibrate-norm"),
    ("l2", "compensate{method=bias}"),
    ("l2", "compensate"),
    ("activation", "compensate"),
    ("reconstruction", "compensate"),
)
"""Criteria, and what repairs the cut."""
LEAST_KEPT, MOST_TIMES = 0.95, 1.3
COLUMNS = (
    Column(key="model", title="network"),
    Column(key="ratio", title="cut", format=".0%"),
    Column(key="criterion", title="criterion"),
    Column(key="repair", title="behind it"),
    Column(key="parameters", title="parameters", format=",d"),
    Column(key="accuracy", title="accuracy", format=".2%"),
    Column(key="kept", title="kept", format=".1%"),
    Column(key="perplexity", title="perplexity", format=".3f"),
    Column(key="times", title="times", format=".2f"),
    Column(key="seconds", title="seconds", format=".1f"),
)


def measure(net: Trained, text: str) -> dict[str, Any]:
    """What a pipeline makes of a network; of the network itself, if the text is empty."""
    import prunec
    from prunec.passes.cost import measure as cost_of

    with np.load(net.calibration) as file:
        calibration = dict(file)
    module = prunec.load(net.model)
    if not text:
        parameters = cost_of(module.model, prunec.analyse(module.model)).parameters
        return {"parameters": parameters, **score(module, net)}
    started = perf_counter()
    result = prunec.run(module, text, data=calibration)
    seconds = perf_counter() - started
    return {"parameters": result.cost_after.parameters, **score(result.module, net), "seconds": seconds}


def score(module: Any, net: Trained) -> dict[str, float]:
    """Accuracy or perplexity on the test samples, with nothing of what the passes compute."""
    from prunec.ir.execute import Runner

    with np.load(net.test) as file:
        arrays = dict(file)
    labels = arrays.pop("label")
    [(name, inputs)] = arrays.items()
    runner = Runner(module, optimize=True, threads=1)
    parts = [runner.run({name: inputs[at : at + 100]})["logits"] for at in range(0, len(inputs), 100)]
    logits = np.concatenate(parts).astype(np.float64)
    return named(net.name, accuracy_or_perplexity(logits, labels))


def accuracy_or_perplexity(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Of logits [sample, class] the accuracy, of logits [sample, position, class] the perplexity."""
    if logits.ndim == 2:
        return float(np.mean(logits.argmax(axis=1) == labels))
    highest = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[..., 0]
    chosen = np.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return float(np.exp(np.mean(total - chosen)))


def named(model: str, value: float) -> dict[str, float]:
    """A value under the name of what it is for a network."""
    return {"perplexity" if model == "decoder" else "accuracy": value}


def pipeline(ratio: float, criterion: str, repair: str) -> str:
    """The pipeline of a row; statistics of norms are estimated before they are folded."""
    cut = f"prune-channels{{ratio={ratio:.0%} criterion={criterion} unit=head-dim round-to=1}}"
    if repair == "recalibrate-norm":
        return f"{cut}, recalibrate-norm, fold-norm"
    return f"fold-norm, {cut}" + (f", {repair}" if repair else "")


def peer(python: Path, net: Trained, ratio: float) -> dict[str, Any]:
    """What Torch-Pruning keeps of a network."""
    script = Path(__file__).with_name("quality_peer.py")
    command = [
        str(python),
        str(script),
        net.name,
        str(net.weights),
        str(net.test),
        str(ratio),
        str(net.characters),
    ]
    done = processes.run(command, seconds=300)
    if done.code:
        raise SystemExit(f"error: the peer fails on {net.name}: {done.last_words}")
    found = json.loads(done.output.splitlines()[-1])
    return {
        "parameters": found["parameters"],
        **named(net.name, found["value"]),
        "seconds": found["seconds"],
    }


def rows_of(net: Trained, python: Path | None) -> Iterator[dict[str, Any]]:
    """All rows of a network, the dense one first."""
    dense = {"model": net.name, "criterion": "dense", **measure(net, "")}
    yield dense
    norms = net.name in ("digits-cnn", "resnet20")
    for ratio in RATIOS[net.name]:
        about = {"model": net.name, "ratio": ratio}
        if python is not None:
            row = {**about, "criterion": "Torch-Pruning, group norm", **peer(python, net, ratio)}
            yield row | against(row, dense)
        for criterion, repair in METHODS:
            if repair == "recalibrate-norm" and not norms:
                continue
            row = {**about, "criterion": criterion, "repair": repair or None}
            row |= measure(net, pipeline(ratio, criterion, repair))
            yield row | against(row, dense)


def against(row: Mapping[str, Any], dense: Mapping[str, Any]) -> dict[str, float]:
    """A row beside the dense network."""
    if "perplexity" in row:
        return {"times": row["perplexity"] / dense["perplexity"]}
    return {"kept": row["accuracy"] / dense["accuracy"]}


def failures(rows: list[dict[str, Any]]) -> list[str]:
    """The numbers that are not reached, in words."""
    found = []
    by = {(r["model"], r.get("ratio"), r["criterion"], r.get("repair")): r for r in rows}
    for model, ratio in (("digits-cnn", 0.3), ("resnet20", 0.3), ("vit", 0.3), ("decoder", 0.2)):
        if (plain := by.get((model, ratio, "l2", None))) is None:
            continue
        fitted = by[model, ratio, "l2", "compensate"]
        if model == "decoder" and fitted["times"] > MOST_TIMES:
            found.append(f"{model}: {fitted['times']:.2f} times the perplexity, at most {MOST_TIMES}")
        if model != "decoder" and not LEAST_KEPT <= fitted["kept"] > plain["kept"]:
            found.append(f"{model}: {fitted['kept']:.1%} kept, at least {LEAST_KEPT:.0%} and more than plain")
    return found


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where the trained networks are kept")
    parser.add_argument("--only", choices=RATIOS, action="append", help="take only these networks")
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python with torch and torch-pruning")
    parser.add_argument("--check", action="store_true", help="fail unless every number is reached")
    add_output_options(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.only or RATIOS:
        for row in rows_of(trained(name, options.folder), options.peer):
            print(json.dumps(row), file=sys.stderr)
            rows.append(row)
    missed = failures(rows)
    report = Report(
        benchmark="quality",
        title="Accuracy and perplexity after a cut, without training",
        columns=COLUMNS,
        rows=rows,
        options={"check": options.check},
        machine=machine.facts(("numpy", "scipy", "onnx", "onnxruntime", "torch")),
        notes=missed,
    )
    publish(report, options)
    if options.check and missed:
        raise SystemExit(f"error: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
