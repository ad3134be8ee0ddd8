"""Running pipelines: verification, cached analyses, replay, seeds, and inputs that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, outputs, prune, shape_of, weight, weights
from coupling_graphs import coupled

import prunec
import prunec.passes.coupling as coupling_room
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.analyses import Analyses
from prunec.passes.base import Context, Contract, Outcome, Pass
from prunec.passes.coupling.groups import Coupling
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.prune_channels import PruneChannels

PRUNE = "prune-channels{ratio=0.5 round-to=1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch(Pass):
    """Says that it changed something, and keeps what it is told to keep."""

    name: ClassVar[str] = "touch"
    kept: ClassVar[frozenset[str]] = frozenset()
    says: ClassVar[bool] = True
    seen: ClassVar[list[tuple[int, ...]]] = []

    def run(self, module: Module, context: Context) -> Outcome:
        a = context.analyses
        self.seen.append(
            (id(a.facts()), id(a.coupling()), id(a.cost()), id(a.coupling(CouplingOptions(unit="head-dim"))))
        )
        held.extend([a.facts(), a.coupling(), a.cost(), a.coupling(CouplingOptions(unit="head-dim"))])
        return Outcome(changed=self.says, preserved=self.kept)


held: list[object] = []
"""Keeps analyses alive, so that ids tell them apart."""


def passes(kept: frozenset[str] = frozenset(), *, says: bool = True) -> tuple[Pass, list[tuple[int, ...]]]:
    """A touching pass, and the analyses that its runs see."""
    seen: list[tuple[int, ...]] = []
    cls = type("Chosen", (Touch,), {"__slots__": (), "kept": kept, "says": says, "seen": seen})
    made: Pass = cls()
    return made, seen


def twice(made: Pass) -> None:
    from prunec.passes.pipeline import Pipeline

    prunec.run(coupled("heads"), Pipeline(passes=(made, made)), verify=False)


@pytest.mark.parametrize(
    ("kept", "says", "same"),
    [
        (set(), False, [True, True, True, True]),
        (set(), True, [False, False, False, False]),
        ({"facts"}, True, [True, False, False, False]),
        ({"facts", "coupling"}, True, [True, True, False, True]),
        ({"facts", "coupling", "cost"}, True, [True, True, True, True]),
    ],
)
def test_analyses_are_kept_where_a_pass_preserved_them(kept: set[str], says: bool, same: list[bool]) -> None:
    made, seen = passes(frozenset(kept), says=says)
    twice(made)
    first, second = seen
    assert [a == b for a, b in zip(first, second, strict=True)] == same


def test_an_analysis_is_made_once() -> None:
    analyses = Analyses(coupled("heads"))
    assert analyses.facts() is analyses.facts()
    assert analyses.coupling() is analyses.coupling(CouplingOptions())
    assert analyses.coupling() is not analyses.coupling(CouplingOptions(unit="head-dim"))
    assert analyses.coupling().facts is analyses.facts()


# -- verification ------------------------------------------------------------


def test_every_transform_is_verified_and_timed() -> None:
    said: list[str] = []
    result = prunec.run(coupled("residual"), f"{PRUNE}, verify", progress=said.append)
    assert [v.pass_name for v in result.verdicts] == ["prune-channels"]
    assert [t.pass_name for t in result.timings] == ["prune-channels", "verify"]
    assert result.timings[0].verify_seconds > 0
    assert said == ["analysis", "prune-channels (1 of 2)", "verify prune-channels", "verify (2 of 2)"]


def test_verification_can_be_switched_off() -> None:
    result = prunec.run(coupled("residual"), PRUNE, verify=False)
    assert result.verdicts == ()
    assert result.plan.steps


def test_a_pass_that_changed_nothing_is_not_verified() -> None:
    result = prunec.run(coupled("residual"), "prune-channels{ratio=0}")
    assert (result.verdicts, result.plan.steps, result.changed) == ((), (), False)


# -- inputs stay ------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual", "shared zero bias", "tied weights", "computed windows"])
def test_the_input_module_stays_as_it_is(name: str) -> None:
    module = coupled(name)
    before = onnx_ir.to_proto(module.model).SerializeToString()
    prune(module)
    assert onnx_ir.to_proto(module.model).SerializeToString() == before


def test_a_failure_leaves_the_input_module_alone() -> None:
    from sabotage import change, saboteur

    module = coupled("residual")
    before = onnx_ir.to_proto(module.model).SerializeToString()
    with pytest.raises(prunec.VerificationError):
        prunec.run(module, saboteur(change("w0", lambda w: w * 2)))
    assert onnx_ir.to_proto(module.model).SerializeToString() == before


# -- determinism ------------------------------------------------------------


def bytes_of(seed: int, criterion: str = "random") -> bytes:
    result = prunec.run(coupled("residual"), f"prune-channels{{round-to=1 criterion={criterion}}}", seed=seed)
    return onnx_ir.to_proto(result.module.model).SerializeToString()


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert bytes_of(3) == bytes_of(3)
    assert len({bytes_of(seed) for seed in range(6)}) > 1
    assert bytes_of(3, "l2") == bytes_of(4, "l2")


# -- results ------------------------------------------------------------


def test_what_passes_made_is_no_longer_what_the_file_holds(tmp_path: Path) -> None:
    prunec.save(coupled("residual"), tmp_path / "net.onnx")
    module = prunec.load(tmp_path / "net.onnx")
    first = prunec.run(module, PRUNE)
    second = prunec.run(first.module, "prune-channels{ratio=0.5 round-to=1}")
    for result in (first, second):
        source = result.module.source
        assert (source.path, source.sha256, source.size) == (None, None, None)
        assert source.name == module.source.name
        assert source.original is module.source
        assert result.plan.source_sha256 == module.source.sha256
    assert module.source.made_from is None
    replayed = prunec.run(module, PRUNE, replay=first.plan)
    assert not any(remark.origin == "replay" for remark in replayed.remarks)
    assert prunec.run(module, "verify").module.source is module.source


def test_the_plan_says_where_it_came_from() -> None:
    plan = prunec.run(coupled("residual"), f"  {PRUNE} ,\n verify # all").plan
    assert plan.source_name == "<memory>"
    assert (
        plan.pipeline.split() == ["prune-channels{round-to=1}", "verify"] or "prune-channels" in plan.pipeline
    )
    assert prunec.parse_pipeline(plan.pipeline).passes == prunec.parse_pipeline(f"{PRUNE}, verify").passes


def test_a_pipeline_may_be_text_a_pass_or_parsed() -> None:
    made = PruneChannels(ratio=0.5, round_to=1)
    shapes = [
        shape_of(prunec.run(coupled("residual"), p, verify=False).module, "w0")
        for p in (PRUNE, made, prunec.parse_pipeline(PRUNE))
    ]
    assert shapes == [(2, 3, 1, 1)] * 3


def test_cost_before_and_after() -> None:
    result = prunec.run(coupled("residual"), PRUNE)
    assert result.cost_after.macs < result.cost_before.macs
    assert result.cost_after.bytes < result.cost_before.bytes


def test_a_result_saves_itself(tmp_path: object) -> None:
    from pathlib import Path

    target = Path(str(tmp_path)) / "out.onnx"
    result = prune(coupled("residual"))
    result.save(target)
    loaded, feeds = prunec.load(target), {"x": weight("x", 2, 3, 8, 8)}
    np.testing.assert_array_equal(outputs(loaded, feeds)["y"], outputs(result.module, feeds)["y"])


# -- mistakes ------------------------------------------------------------


def test_an_unknown_pass_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="unknown pass 'prune-chanels'") as caught:
        prunec.run(coupled("plain"), "prune-chanels")
    assert "did you mean 'prune-channels'?" in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_impossible_ratio_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="ratio"):
        prunec.run(coupled("plain"), "prune-channels{ratio=1.5}")


def test_a_plan_with_nothing_left_prunes_nothing() -> None:
    plan = prune(coupled("residual")).plan
    result = prunec.run(coupled("residual"), f"{PRUNE}, {PRUNE}", replay=plan)
    assert len(result.plan.steps) == 1
    assert result.plan.steps == plan.steps


def test_a_replay_takes_what_the_plan_says_and_not_what_the_options_say() -> None:
    plan = prune(coupled("residual"), 0.25).plan
    result = prunec.run(coupled("residual"), "prune-channels{ratio=0.75 round-to=1}", replay=plan)
    assert weights(result.module)["w0"].shape == (3, 3, 1, 1)


def test_a_model_without_anything_to_prune_says_why() -> None:
    result = prunec.run(
        graph("net (float[N,3] x) => (float[N,2] y) <float[3,2] w> { y = MatMul(x, w) }"), PRUNE
    )
    remark, *pinned = [r for r in result.remarks if r.kind == "missed"]
    assert remark.message == "nothing can be pruned in this model"
    assert set((remark.reason or "").split("; ")) == {"graph input `x`", "graph output `y`"}
    assert [(r.message, r.reason, r.group, r.numbers) for r in pinned] == [
        ("group g1 (w) keeps all 3 units", "pinned: graph input `x`", "g1", (("units", 3),)),
        ("group g2 (w) keeps all 2 units", "pinned: graph output `y`", "g2", (("units", 2),)),
    ]


def test_what_is_pinned_is_said_once_and_only_of_groups_that_the_filters_let_through() -> None:
    pipeline = "repeat{times=2}(prune-channels{round-to=1 IGNORE})"
    pinned = {
        ignore: [r.node for r in prunec.run(coupled("residual"), pipeline.replace("IGNORE", ignore)).remarks
                 if (r.reason or "").startswith("pinned: ")]
        for ignore in ("", "ignore=w4")
    }  # fmt: skip
    assert pinned == {"": ["w0", "w4"], "ignore=w4": ["w0"]}


def test_groups_that_keep_everything_say_why() -> None:
    result = prunec.run(coupled("residual"), "prune-channels{ratio=0.1}")
    missed = [r for r in result.remarks if r.kind == "missed"]
    rounded = [r for r in missed if not (r.reason or "").startswith("pinned: ")]
    assert len(rounded) == 2
    assert "keeps all 4 units" in rounded[0].message
    assert "round-to=8" in (rounded[0].reason or "")
    assert rounded[0].help == "lower `round-to`"


def test_the_contract_of_a_pass_decides_whether_a_plan_step_is_its() -> None:
    plan = prune(coupled("residual")).plan
    result = prunec.run(coupled("residual"), f"verify, {PRUNE}, verify", replay=plan)
    assert result.plan.steps == plan.steps
    contracts: list[Contract] = [PruneChannels().contract, prunec.parse_pipeline("verify").passes[0].contract]
    assert contracts == ["masked", "none"]


@pytest.mark.parametrize("unit", ["head", "head-dim"])
def test_the_coupling_is_analysed_once_as_the_passes_look_at_it(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    analyse = coupling_room.analyse

    def counted(*args: Any, **options: Any) -> Coupling:
        seen.append(unit)
        return analyse(*args, **options)

    monkeypatch.setattr(coupling_room, "analyse", counted)
    text = f"prune-channels{{ratio=50% round-to=1 unit={unit}}}"
    assert prunec.run(coupled("heads"), text, verify=False).changed
    assert seen == [unit]
