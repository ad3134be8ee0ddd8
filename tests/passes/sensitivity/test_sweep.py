"""What a sweep measures is what the cut model is worth, wherever it runs, and however often it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from conformance import CASES, Draw
from core_graphs import graph
from numpy.typing import NDArray

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.execute import Runner, probe_feeds
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.coupling.transfer import transferred
from prunec.passes.sensitivity import cluster as cluster_module
from prunec.passes.sensitivity.cluster import Dask
from prunec.passes.sensitivity.executor import Threads
from prunec.passes.sensitivity.identity import sweep_header
from prunec.passes.sensitivity.journal import Journal
from prunec.passes.sensitivity.prefix import Prefix
from prunec.passes.sensitivity.sweep import Job, Settings, Sweep
from prunec.passes.verifier.masked import mask

Arrays = Mapping[str, NDArray[Any]]


class Energy:
    """The mean square of the first output: a metric that every change of a result changes."""

    name = "energy"
    higher_is_better = True
    needs_labels = False
    needs_reference = False

    def __init__(self, before: Callable[[], None] = lambda: None, scale: float = 1.0) -> None:
        self.before = before
        self.scale = scale

    def observe(self, outputs: Arrays, columns: Arrays, reference: Arrays | None) -> NDArray[np.float64]:
        self.before()
        rows = next(iter(outputs.values())).astype(np.float64)
        return np.square(rows.reshape(len(rows), -1)).mean(axis=1, keepdims=True)

    def value(self, observations: NDArray[np.float64]) -> float:
        return self.scale * float(observations.mean())

    def __str__(self) -> str:
        return self.name


UNSTEADY = {"MoE", "QMoE"}
"""Ops that give other numbers where an input of theirs is an output of the graph, in ONNX Runtime 1.31 on a CPU."""

NET = """net (float[N,3,6,6] x) => (float[N,5] y)
    <float[8,3,3,3] a, float[8] s, float[8] t, float[12,8,3,3] b, float[12] d, float[48,5] w> {
        h = Conv<pads = [1, 1, 1, 1]>(x, a)  i = Transpose<perm = [0, 2, 3, 1]>(h)
        j = LayerNormalization(i, s, t)      k = Transpose<perm = [0, 3, 1, 2]>(j)
        l = Conv<pads = [1, 1, 1, 1]>(k, b, d)  r = Sigmoid(l)  p = MaxPool<kernel_shape = [3, 3], strides = [3, 3]>(r)
        f = Flatten(p)  y = MatMul(f, w) }"""
X = np.random.default_rng(0).standard_normal((40, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_a_point_is_the_value_of_the_model_that_is_really_cut(ratio: float) -> None:
    module = graph(NET)
    profile = prunec.sensitivity(module, {"x": X}, Energy(), ratios=[ratio])
    assert [group.tensors for group in profile.groups] == [
        ("a:0", "s:0", "t:0", "b:1"),
        ("b:0", "d:0", "w:0"),
    ]
    for group in profile.groups:
        (point,) = group.curve
        text = f"prune-channels{{ratio={ratio} round-to=1 only={group.tensors[0].partition(':')[0]}}}"
        text = text.replace("only=b", "exclude-outputs-of=none only=w")
        cut = prunec.run(module, text)
        assert cut.plan.steps[0].groups[0].units - len(cut.plan.steps[0].groups[0].removed) == group.units - (
            point.removed
        )
        assert point.value == pytest.approx(prunec.evaluate(cut.module, {"x": X}, Energy()).value, rel=1e-4)
        assert point.value != pytest.approx(profile.dense, rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_what_runs_again_is_all_that_a_cut_changes(name: str) -> None:
    """Behind the prefix the masked model computes what all of it would, for every op there is."""
    network = CASES[name](Draw(0, name))
    module = network.build(0)
    kinds = {node.op_type for node in module.graph}
    if kinds & UNSTEADY:
        return
    tolerance = 5e-2 if "DequantizeLinear" in kinds else 1e-3  # it is fused into sums of integers, or is not
    try:
        data = CalibrationData.of({key: array[None] for key, array in probe_feeds(module).items()})
        sweep = Sweep(module, data, Energy(), Settings(ratios=(0.5,), unit=network.unit))  # type: ignore[arg-type]
    except UserError as error:
        assert "nothing can be pruned" in error.message or "graph input" in error.message
        return
    prefix = Prefix(sweep.module, sweep._feeds, sweep._live, memory=1 << 30)
    found = [sweep.candidates.make(row, sweep.candidates.removed(row, 0.5)) for row in sweep.candidates.rows]
    for candidate in sorted(found, key=lambda c: c.position):
        prefix.move(candidate.position)
        masked = sweep.module.clone()
        mask(masked.model, transferred(sweep._coupling, masked.graph), candidate.gone)
        whole = Runner(masked, optimize=True, threads=1).run(sweep._feeds[0])
        for key, array in sweep._rest(masked, prefix)(0).items():
            scale = max(float(np.abs(np.nan_to_num(whole[key].astype(np.float64))).max()), 1.0)
            np.testing.assert_allclose(
                array.astype(np.float64),
                whole[key].astype(np.float64),
                rtol=tolerance,
                atol=tolerance * scale,
            )


def test_memory_and_threads_change_nothing_but_the_time() -> None:
    module, settings = graph(NET), {"ratios": (0.2, 0.5)}
    found = []
    for memory, workers in ((1 << 30, 1), (1 << 30, 3), (5000, 1), (0, 2)):
        sweep = Sweep(
            module, CalibrationData.of({"x": X}), Energy(), Settings(**settings, batch=8, memory=memory)
        )
        points: dict[tuple[str, int], float | None] = {}
        candidates = [
            sweep.candidates.make(row, sweep.candidates.removed(row, r))
            for row in sweep.candidates.rows
            for r in (0.2, 0.5)
        ]
        Threads(workers).run(sweep, candidates, lambda row, n, v, points=points: points.update({(row, n): v}))
        found.append(points)
    assert all(other.keys() == found[0].keys() and len(other) == 4 for other in found)
    for other in found[1:]:
        assert [other[key] for key in found[0]] == pytest.approx(list(found[0].values()), rel=1e-5)


@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_a_point_of_a_comparison_is_that_of_the_cut_model_with_the_whole_one(ratio: float) -> None:
    module = graph(NET)
    profile = prunec.sensitivity(module, {"x": X}, "cosine", ratios=[ratio])
    (point,) = profile.groups[0].curve
    cut = prunec.run(module, f"prune-channels{{ratio={ratio} round-to=1 only=a}}").module
    expected = prunec.evaluate(cut, {"x": X}, "cosine", reference=module).value
    assert point.value == pytest.approx(expected, rel=1e-5)
    assert point.value < 0.9999


def test_the_model_as_it_is_runs_once_however_many_candidates_are_compared_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    run = Runner.run

    def counted(self: Runner, feeds: Arrays) -> dict[str, NDArray[Any]]:
        ran.append("")
        return run(self, feeds)

    def runs(metric: str | Energy, ratios: tuple[float, ...], memory: int = 1 << 30) -> int:
        settings = Settings(ratios=ratios, batch=8, memory=memory)
        sweep = Sweep(graph(NET), CalibrationData.of({"x": X}), metric, settings)
        ran.clear()
        span = [
            sweep.candidates.make(row, sweep.candidates.removed(row, ratio))
            for row in sweep.candidates.rows
            for ratio in ratios
        ]
        sweep.run_span(span, lambda row, removed, value: None)
        return len(ran)

    monkeypatch.setattr(Runner, "run", counted)
    each = len(X) // 8
    for ratios in [(0.3,), (0.2, 0.5, 0.7)]:
        assert runs("cosine", ratios) - runs(Energy(), ratios) == each
    assert runs("cosine", (0.2, 0.5, 0.7), memory=0) > runs("cosine", (0.2, 0.5, 0.7)), (
        "what is not kept runs again"
    )


def test_a_dask_cluster_measures_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of a worker share its memory and one sweep, and when all is done it lets that go."""
    from distributed import LocalCluster

    run_span, allowed, prepare, prepared = Sweep.run_span, set(), Job.prepare, []

    def counted(job: Job) -> Sweep:
        prepared.append(job)
        sleep(0.2)  # the other thread is there by then
        return prepare(job)

    def observed(*args: Any, memory: int | None = None, **options: Any) -> None:
        allowed.add(memory)
        run_span(*args, memory=memory, **options)

    module = prunec.load("examples/digits.onnx")
    with np.load("examples/digits.npz") as file:
        data = dict(file)
    here = prunec.sensitivity(module, data, "top1", ratios=[0.6])
    monkeypatch.setattr(Sweep, "run_span", observed)
    monkeypatch.setattr(Job, "prepare", counted)
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        there = prunec.sensitivity(module, data, "top1", ratios=[0.6], executor=address)
        assert cluster_module._prepared.cache_info().currsize == 0
    assert there == here
    assert len(prepared) == 1
    assert allowed == {Settings().memory // 2}


def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    measured: list[int] = []
    with pytest.raises(UserError) as caught:
        metric = Energy(lambda: measured.append(1))
        prunec.sensitivity(graph(NET), {"x": X}, metric, executor=Dask("tcp://127.0.0.1:1", patience=0.5))
    assert not measured, "nothing is measured for a cluster that is not there"
    assert caught.value.message == "no Dask scheduler answers at dask://127.0.0.1:1 within 0.5 s"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_sweep_that_was_stopped_goes_on(tmp_path: Path, stop: type[BaseException]) -> None:
    partial, calls = tmp_path / "profile.json.partial", []

    def fail() -> None:
        calls.append(1)
        if len(calls) == 4:  # the model as it is takes one run of 16 samples each
            raise stop

    def sweep(metric: Energy) -> prunec.Profile:
        return prunec.sensitivity(
            graph(NET), {"x": X[:16]}, metric, ratios=[0.3, 0.6], executor="threads:1", partial=partial
        )

    with pytest.raises(stop):
        sweep(Energy(fail))
    kept = [json.loads(line) for line in partial.read_text().splitlines()[1:]]
    assert kept and all(point["value"] is not None for point in kept)
    with partial.open("a") as file:
        file.write('{"group": "g2", "remo')  # what a kill leaves
    calls[:] = [1] * 10
    whole = sweep(Energy())
    again = sweep(Energy(lambda: calls.append(1)))
    assert whole == again and not partial.exists()
    resumed = [point.value for group in whole.groups for point in group.curve]
    assert all(point["value"] in resumed for point in kept)


def test_partial_results_of_another_sweep_are_refused(tmp_path: Path) -> None:
    partial = tmp_path / "p.partial"
    partial.write_text('{"schema": "prunec.sensitivity.partial/2", "metric": "top1"}\n')
    with pytest.raises(UserError, match="partial results are of another sweep: version is None") as caught:
        prunec.sensitivity(graph(NET), {"x": X}, Energy(), partial=partial)
    assert "remove the file" in str(caught.value)


def interrupted(partial: Path, measured: list[int], scale: float = 1.0) -> prunec.Profile:
    """A sweep of four points, kept in a file, that `measured` counts and ends behind its third."""

    def count() -> None:
        measured.append(1)
        if len(measured) == 4:
            raise RuntimeError

    return prunec.sensitivity(
        graph(NET),
        {"x": X[:16]},
        Energy(count, scale),
        ratios=[0.3, 0.6],
        executor="threads:1",
        partial=partial,
    )


def test_a_metric_that_says_something_else_now_goes_on_from_nothing(tmp_path: Path) -> None:
    """The name of a metric is no evidence of what its code does."""
    partial = tmp_path / "p.partial"
    with pytest.raises(RuntimeError):
        interrupted(partial, [])
    kept = partial.read_bytes()
    with pytest.raises(UserError) as caught:
        interrupted(partial, [1] * 4, scale=0.5)
    assert "another sweep: the metric of the dense model is" in caught.value.message
    assert caught.value.notes == ("the code of the metric has changed, or what it reads",)
    assert partial.read_bytes() == kept
    head, _, points = kept.decode().partition("\n")
    almost = json.loads(head)
    almost["dense"] *= 1 + 1e-8  # other threads, another order of the sum
    partial.write_text(f"{json.dumps(almost)}\n{points}")
    assert interrupted(partial, [1] * 4).dense


def test_a_sweep_is_told_from_one_of_a_similar_model_or_of_similar_samples() -> None:
    """Ops, names and weights are the same, and so are the first and the last samples."""

    def header(net: str = NET, x: NDArray[np.float32] = X) -> Mapping[str, Any]:
        return sweep_header(Sweep(graph(net), CalibrationData.of({"x": x}), Energy(), Settings()), 1.0)

    assert header() == header()
    changed = NET.replace("LayerNormalization(", "LayerNormalization<epsilon = 0.1>(")
    assert [key for key, value in header().items() if value != header(changed)[key]] == ["model"]
    samples = np.tile(X, (200, 1, 1, 1))
    whole = header(x=samples)
    samples[len(samples) // 2] += 1
    assert [key for key, value in whole.items() if value != header(x=samples)[key]] == ["data"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{ what", "line 3 of 3 is no JSON"),
        ("[1]", "line 3 of 3 is no object"),
        ('{"group": "g1", "removed": 3}', "line 3 is no measurement"),
        ('{"group": "g1", "removed": 3, "value": "high"}', "line 3 is no measurement"),
    ],
)
def test_damaged_partial_results_are_located(tmp_path: Path, line: str, message: str) -> None:
    partial = tmp_path / "p.partial"
    partial.write_text(f'{{"metric": "top1"}}\n{{"group": "g1", "removed": 1, "value": 0.5}}\n{line}\n')
    with pytest.raises(UserError) as caught:
        Journal(partial, {"metric": "top1"})
    assert caught.value.message == f"cannot use the partial results: {message}"
    partial.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot use the partial results: not UTF-8 text: byte 0 is 0xff"):
        Journal(partial, {"metric": "top1"})


def test_a_masked_model_that_overflows_has_no_value_and_ends_nothing() -> None:
    net = graph("""net (float[N,3] x) => (float[N,5] y) <float[3,8] v, float[8,5] w> {
        h = MatMul(x, v)  a = Abs(h)  m = ReduceSum<keepdims = 1>(a, e)  z = Sub(m, m)  q = Div(z, z)
        k = Add(h, z)  y = MatMul(k, w) }""", e=np.array([1]))  # fmt: skip
    profile = prunec.sensitivity(net, {"x": X[:, :, 0, 0]}, Energy())
    assert all(point.value is not None for group in profile.groups for point in group.curve)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratios": [0.2, 1.0]}, "ratios of a sensitivity sweep lie between 0 and 1, got 0.2, 1"),
        ({"executor": "cluster"}, "unknown executor 'cluster'"),
        ({"executor": "threads:0"}, "unknown executor 'threads:0'"),
        ({"executor": "dask://host"}, "unknown executor 'dask://host'"),
        ({"metric": "top1"}, "metric `top1` needs labels"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        prunec.sensitivity(graph(NET), {"x": X}, **arguments)
    assert caught.value.message.startswith(message)


def test_a_model_without_groups_is_told_apart() -> None:
    with pytest.raises(UserError, match="nothing can be pruned in this model"):
        prunec.sensitivity(
            graph("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), {"x": X[:, :, 0, 0]}
        )
