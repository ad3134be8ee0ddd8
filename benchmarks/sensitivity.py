"""What a sensitivity sweep costs beside pruning, saving and evaluating every layer; how well latency targets are hit.

The sweep runs on a CNN of 50 channel groups with random weights, made here, over random samples. The naive way is a
script that calls, for one layer after the other, `prunec MODEL -p ... -o pruned.onnx` and a program that evaluates the
file; and, kinder, the same within one process that is warm, with verification and without. It is measured on some of
the layers, evenly spread, and scaled to all. Seconds are those of the wall; CPU seconds, those of the process and its
children, say more on a busy machine. Latency targets are tried on the models given, and what comes out is measured
anew: on the clock of one thread, and on the wall's.

::

    python benchmarks/sensitivity.py tv_resnet18.onnx tv_mobilenet_v2.onnx --check

columns: value = the measurement; of = what it is of; load = load average over the last minute, at the end
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from report import Column, Report, add_output_options, new_parser, publish

COLUMNS = (
    Column(key="measurement", title="measurement"),
    Column(key="subject", title="subject"),
    Column(key="value", title="value", format=".3f"),
    Column(key="unit", title="unit"),
    Column(key="of", title="of"),
    Column(key="load", title="load", format=".1f"),
)
RATIO = 0.2
FASTER = 5.0
"""Times that a sweep has to be faster than a script."""
WITHIN = 0.05
"""How far a latency may be from its target."""
WIDTHS = (16, 32, 64)
SIZE = 16

Row = dict[str, Any]


def network(groups: int) -> onnx.ModelProto:
    """A plain CNN: convolutions of 3 x 3 with ReLU, three widths, image [N, 3, 16, 16], ten classes."""
    rng, nodes, weights = np.random.default_rng(0), [], []
    channels, value = 3, "image"
    for number in range(groups):
        stage = number * len(WIDTHS) // groups
        stride = 2 if number and stage != (number - 1) * len(WIDTHS) // groups else 1
        array = rng.standard_normal((WIDTHS[stage], channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        weights += [(f"w{number}", array), (f"b{number}", rng.standard_normal(WIDTHS[stage]) / 10)]
        attributes: Any = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes.append(
            helper.make_node("Conv", [value, f"w{number}", f"b{number}"], [f"c{number}"], **attributes)
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        channels, value = WIDTHS[stage], f"r{number}"
    weights.append(("head", rng.standard_normal((channels, 10))))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights]
    graph = helper.make_graph(nodes, "cnn", [image], [logits], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@dataclass(frozen=True)
class Spent:
    """Seconds of the wall, and of the CPUs by this process and its children."""

    wall: float
    cpu: float


def timed(work: Callable[[], Any]) -> tuple[Any, Spent]:
    """What a function gives, and the seconds that it takes."""
    wall, before = perf_counter(), os.times()
    result = work()
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return result, Spent(perf_counter() - wall, cpu)


def sweep_rows(groups: int, samples: int, layers: int) -> Iterator[Row]:
    """The sweep against the naive ways, over the same samples."""
    import prunec
    from prunec.ir.execute import run_model

    images = np.random.default_rng(1).standard_normal((samples, 3, SIZE, SIZE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(network(groups), folder / "cnn.onnx")
        module = prunec.load(folder / "cnn.onnx")
        logits = run_model(module, {"image": images}, optimize=True)["logits"]
        data = {"image": images, "label": logits.argmax(axis=1)}  # the model as it is has them all right
        np.savez(folder / "data.npz", **data)
        prunec.sensitivity(
            module, {k: v[:32] for k, v in data.items()}, "top1", ratios=[RATIO]
        )  # imports, caches
        profile, ours = timed(partial(prunec.sensitivity, module, data, "top1", ratios=[RATIO]))
        of = f"{len(profile.groups)} layers, {samples:,} samples, ratio {RATIO}"
        yield from seconds_rows("sweep", ours, of)
        chosen = profile.groups[:: max(1, len(profile.groups) // layers)]
        scale = len(profile.groups) / len(chosen)
        ways: dict[str, Callable[[str], float]] = {
            "naive, a script": partial(by_script, folder),
            "naive, one process": partial(in_process, folder, module, data, True),
            "naive, one process, unverified": partial(in_process, folder, module, data, False),
        }
        for way, value_of in ways.items():
            values, spent = timed(partial(naive, value_of, chosen))
            theirs = Spent(spent.wall * scale, spent.cpu * scale)
            same = sum(abs(v - g.curve[0].value) < 1.5 / samples for v, g in zip(values, chosen, strict=True))
            yield from seconds_rows(way, theirs, f"{len(chosen)} layers, scaled; {same} values agree")
            for clock in ("wall", "cpu"):
                ratio = getattr(theirs, clock) / getattr(ours, clock)
                yield row("sweep against " + way, clock, ratio, "times as fast", of)


def seconds_rows(what: str, spent: Spent, of: str) -> Iterator[Row]:
    yield row(what, "wall", spent.wall, "s", of)
    yield row(what, "cpu", spent.cpu, "s", of)


def naive(value_of: Callable[[str], float], groups: Sequence[Any]) -> list[float]:
    """One layer after the other: prune, save, evaluate."""
    found = []
    for group in groups:
        bias = next(t for t in group.tensors if t.startswith("b")).partition(":")[0]
        found.append(value_of(f"prune-channels{{ratio={RATIO} round-to=1 only={bias}}}"))
    return found


def by_script(folder: Path, passes: str) -> float:
    """The command, then a program that evaluates what it wrote."""
    pruned = folder / "pruned.onnx"
    command = [sys.executable, "-m", "prunec", str(folder / "cnn.onnx"), "-p", passes, "-o", str(pruned)]
    subprocess.run(command, check=True, capture_output=True)
    program = (
        f"import numpy, prunec; data = numpy.load({str(folder / 'data.npz')!r}); "
        f"print(prunec.evaluate(prunec.load({str(pruned)!r}), data, 'top1').value)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)


def in_process(folder: Path, module: Any, data: Any, verify: bool, passes: str) -> float:
    """The same in this process, which has imported everything."""
    import prunec

    pruned = folder / "pruned.onnx"
    prunec.run(module, passes, verify=verify).save(pruned)
    return prunec.evaluate(prunec.load(pruned), data, "top1").value


def latency_rows(models: list[Path], share: float) -> Iterator[Row]:
    """Latency targets, measured anew."""
    import prunec
    from prunec.exporters.latency import compare_latency
    from prunec.passes.pruning.latency_target import Stopwatch

    for path in models:
        module = prunec.load(path)
        result, spent = timed(partial(prunec.run, module, f"prune-channels{{target=latency:{share}}}"))
        macs = result.cost_after.macs / max(result.cost_before.macs, 1)
        ratio = Stopwatch(dense=module, threads=1, batch=1).ratio(result.module, rounds=6)
        wall = compare_latency(module, result.module, runs=60)
        of = f"target {share:g}, {macs:.0%} of the MACs stay, found in {spent.wall:.0f} s"
        yield row(
            "latency target",
            path.stem,
            ratio.value,
            "of the time",
            f"{of}; [{ratio.low:.3f}, {ratio.high:.3f}]",
        )
        ends = f"[{1 / wall.high:.3f}, {1 / wall.low:.3f}]"
        yield row("the same by the wall", path.stem, 1 / wall.speedup, "of the time", ends)


def row(measurement: str, subject: str, value: float, unit: str, of: str) -> Row:
    load = os.getloadavg()[0]
    return {
        "measurement": measurement,
        "subject": subject,
        "value": value,
        "unit": unit,
        "of": of,
        "load": load,
    }


def failures(rows: list[Row], share: float) -> list[str]:
    """Measurements that miss their limits."""
    slow = [
        f"the sweep is {r['value']:.1f} times as fast ({r['subject']}), not {FASTER:g}"
        for r in rows
        if r["measurement"] == "sweep against naive, a script" and r["value"] < FASTER
    ]
    off = [
        f"{r['subject']}: {r['value']:.3f} of the time, not {share:g}"
        for r in rows
        if r["measurement"] == "latency target" and abs(r["value"] - share) > WITHIN
    ]
    return [*slow, *off]


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="models for latency targets")
    parser.add_argument("--groups", type=int, default=50, help="channel groups of the CNN; 0: no sweep")
    parser.add_argument("--samples", type=int, default=1000, help="samples of the sweep")
    parser.add_argument("--layers", type=int, default=10, help="layers on which the naive way is measured")
    parser.add_argument("--share", type=float, default=0.7, help="the latency target")
    parser.add_argument("--check", action="store_true", help="fail where a number misses its limit")
    add_output_options(parser)
    options = parser.parse_args()
    rows = list(sweep_rows(options.groups, options.samples, options.layers)) if options.groups else []
    rows += latency_rows(options.models, options.share)
    report = Report(
        benchmark="sensitivity",
        title=f"A sensitivity sweep beside the naive way; latency targets of {options.share:g}",
        columns=COLUMNS,
        rows=rows,
        options={"groups": options.groups, "samples": options.samples, "share": options.share},
        notes=failures(rows, options.share) if options.check else [],
    )
    publish(report, options)
    if options.check and failures(rows, options.share):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
