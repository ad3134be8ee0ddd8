"""The page of a compile: complete, closed to the network, and with nothing of the model read as HTML."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
from documents import ROOT

import prunec
from prunec.exporters.report.evidence import Evidence
from prunec.exporters.report.page import render_report
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module, Source
from prunec.passes.manager import Result

EVIL = "</h1></style><script>alert(1)</script><img src=x onerror=\"alert('1')\"> & {{ 7 * 7 }} \u202e"
PIPELINE = "fold-norm, prune-channels{ratio=50%}, quantize{mode=dynamic}"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and all of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def result() -> Result:
    return prunec.run(prunec.load(ROOT / "examples" / "digits.onnx"), PIPELINE)


def documents(result: Result, name: str = "") -> dict[str, Any]:
    """One document of every kind, about the model of a result, with a text in all places that hold one."""
    source = result.module.source
    sha, before = source.sha256, source.original.sha256
    check = {"name": "min", "limit": 0.95, "status": "fails"}
    whole = {"name": "all", "where": "", "size": 450, "value": 0.9, "interval": [0.87, 0.93], "dense": 0.99,
             "drop": 0.09, "checks": []}  # fmt: skip
    rare = {**whole, "name": f"rare{name}", "where": f"label = 8{name}", "size": 44, "checks": [check]}
    latency = {"p50": 1e-4, "p95": 2e-4, "p99": 3e-4, "best": 1e-4}
    timings = [
        {"model": f"a{name}", "batch": 1, "latency": latency, "ratio": None},
        {"model": "b", "batch": 1, "latency": latency, "ratio": {"value": 1.5, "low": 1.4, "high": 1.6}},
    ]
    cut = result.plan.steps[0].groups[0].tensors[0] if result.plan.steps else None
    group = {"id": "g1", "units": 24, "layers": [f"stem{name}", "other"],
             "tensors": [] if cut is None else [f"{cut.name}:{cut.axis}"],
             "curve": [{"ratio": 0.2, "removed": 5, "value": 0.97}, {"ratio": 0.5, "removed": 12, "value": None}]}  # fmt: skip
    return {
        "evaluation": {"schema": "prunec.evaluation/1", "model": {"name": "x", "sha256": sha}, "samples": 450,
                       "data": f"digits.npz{name}", "metric": f"top1{name}", "rows": [whole, rare]},
        "profile": {"schema": "prunec.sensitivity/1", "model": {"name": "x", "sha256": before},
                    "data": {"name": f"d{name}", "samples": 9}, "groups": [group],
                    "metric": {"name": f"top1{name}", "higher_is_better": True, "dense": 0.99}},
        "bench": {"schema": "prunec.bench/1", "models": [{"name": f"a{name}", "sha256": before}], "timings": timings,
                  "verdicts": [f"b is faster{name}"], "versions": {"processor": f"cpu{name}"}, "threads": 1,
                  "providers": ["CPU"],
                  "explanations": [{"reasons": [{"message": f"odd{name}", "help": f"round{name}"}]}]},
        "quantization": {"schema": "prunec.quantization/1", "metric": f"top1{name}", "higher_is_better": True,
                         "data": f"d{name}", "samples": 9, "dense": 0.99, "pruned": 0.98, "quantised": 0.97,
                         "both": 0.9, "limit": 0.01, "seed": 0},
    }  # fmt: skip


def page_of(result: Result, **documents: Any) -> str:
    return render_report(Evidence.of(result, **documents))


@pytest.fixture(scope="module")
def page(result: Result) -> str:
    return page_of(result, **documents(result))


def test_the_page_says_what_was_done_and_measured(page: str, result: Result) -> None:
    text = " ".join(Tags(page).text.split())
    cost = result.cost_after
    for part in (
        "digits.onnx",
        "69.8 % fewer parameters",
        f"{cost.parameters:,}",
        f"{cost.macs:,}",
        "verified: 3 transforms",
        "a threshold fails",
        "pruning and quantising compound",
        "at least 95 %: fails",
        "87.00 - 93.00 %",
        "block.first.conv.weight",
        "3-4, 8, 11, 14, 16, 22-23",
        "/classifier/Gemm",
        "stem and 1 more",
        "1.50x (1.40 - 1.60)",
        "9 samples of d, too few to say anything about others",
        "lose 6.00 points of top1 more than each by itself",
        "b is faster",
        "odd",
        str(result.verdicts[1]),
        result.module.source.original.sha256 or "",
        "prune-channels{ratio=0.5",
    ):
        assert part in text or part in page, part


@pytest.mark.parametrize(
    ("missing", "section"),
    [
        ("evaluation", "Accuracy"),
        ("profile", "Sensitivity"),
        ("bench", "Latency"),
        ("quantization", "Pruned and quantised"),
    ],
)
def test_a_section_is_there_if_its_evidence_is(result: Result, page: str, missing: str, section: str) -> None:
    without = page_of(result, **{k: v for k, v in documents(result).items() if k != missing})
    assert f">{section}" in page
    assert f">{section}" not in without


def test_the_page_is_closed_to_the_network_and_runs_nothing(page: str) -> None:
    tags = Tags(page).tags
    assert not {"script", "img", "iframe", "link", "object", "embed", "form", "base"} & {
        tag for tag, _ in tags
    }
    attributes = [(name, value or "") for _, given in tags for name, value in given.items()]
    assert all(value.startswith("#") for name, value in attributes if name in ("href", "src"))
    assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]
    assert not re.search(r"https?://|url\(|@import", page)
    policy = next(given["content"] or "" for _, given in tags if given.get("http-equiv"))
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"'sha256-{digest}'" in policy


def test_the_links_of_the_page_lead_somewhere(page: str) -> None:
    tags = Tags(page).tags
    ids = {given["id"] for _, given in tags if "id" in given}
    assert {(given["href"] or "")[1:] for tag, given in tags if tag == "a"} <= ids


def evil_result() -> Result:
    """A compile of a model whose nodes, tensors, file and remarks are all called by a piece of HTML."""
    proto = """<ir_version: 9, opset_import: ["" : 17]>
        net (float[N, 16] x) => (float[N, 16] y) { [a] h = MatMul (x, w) [b] r = Relu (h) [c] y = MatMul (r, v) }"""
    model = onnx_ir.from_onnx_text(proto)
    for name in ("w", "v"):
        value = onnx_ir.Value(name=f"{name}{EVIL}", const_value=onnx_ir.tensor(np.eye(16, dtype=np.float32)))
        model.graph.register_initializer(value)
        node = next(n for n in model.graph if any(i is not None and i.name == name for i in n.inputs))
        node.replace_input_with(1, value)
    for node in model.graph:
        node.name = f"{node.name}{EVIL}"
    result = prunec.run(
        Module(model, Source(name=f"net{EVIL}.onnx", path=Path(f"net{EVIL}.onnx"))),
        "prune-channels{ratio=50% round-to=1}",
    )
    result.remarks.missed("x", f"message{EVIL}", reason=f"reason{EVIL}", help=f"help{EVIL}")
    return result


def test_nothing_of_the_model_is_read_as_html() -> None:
    result = evil_result()
    page = page_of(result, **documents(result, EVIL))
    plain = Tags(page_of(prunec.run(prunec.load(ROOT / "examples" / "digits.onnx"), "prune-channels")))
    evil = Tags(page)
    assert {tag for tag, _ in evil.tags} <= {tag for tag, _ in plain.tags} | {
        *("code", "thead", "tfoot", "table", "p", "line", "circle", "polyline", "text", "li", "h3", "br")
    }
    assert "<script" not in page
    assert evil.text.count("<script>alert(1)</script>") > 20
    assert "{{ 7 * 7 }}" in evil.text  # no template reads what it is given as a template


def test_the_same_compile_gives_the_same_page(result: Result, page: str) -> None:
    assert page_of(result, **documents(result)) == page


def test_curves_mark_the_cuts_that_were_made_and_no_others() -> None:
    """Two layers that one weight reads: what one of them lost is not said of the other, whatever their ids are."""
    result = prunec.run(
        prunec.load(ROOT / "examples" / "digits.onnx"), "fold-norm, prune-channels{ratio=25% only=/wide/*}"
    )
    rows = [("g6", "narrow"), ("g7", "wide")]
    groups = [
        {"id": id, "units": 32, "layers": [f"/{name}/conv/Conv"], "curve": [{"ratio": 0.5, "removed": 16, "value": 0.9}],
         "tensors": [f"{name}.conv.weight:0", f"{name}.norm.weight:0", "classifier.weight:1"]}
        for id, name in rows
    ]  # fmt: skip
    profile = {**documents(result)["profile"], "groups": groups}
    text = " ".join(Tags(page_of(result, profile=profile)).text.split())
    section = text.partition("removed by this pipeline")[2].partition("Remarks")[0]
    assert "/narrow/conv/Conv narrow.conv.weight, 32 channels /wide/conv/Conv" in section
    assert "wide.conv.weight, 32 channels, 25 % gone" in section
    assert "g6" not in section and "g7" not in section


def test_a_metric_without_the_dense_model_says_nothing_of_a_change(result: Result) -> None:
    document = documents(result)["evaluation"]
    alone = {**document["rows"][0], "dense": None, "drop": None}
    page = page_of(result, evaluation={**document, "rows": [alone]})
    assert "dense not measured" in page
    assert "no change" not in Tags(page).text


def test_a_slice_without_a_number_has_a_row_that_says_so(result: Result) -> None:
    document = documents(result)["evaluation"]
    nan = {
        **document["rows"][1],
        "name": "empty",
        "value": None,
        "interval": [None, None],
        "dense": None,
        "drop": None,
    }
    page = page_of(result, evaluation={**document, "rows": [document["rows"][0], nan]})
    assert "not a number" in page
    assert "None" not in Tags(page).text


def test_a_model_that_nothing_was_done_to(tmp_path: Path) -> None:
    result = prunec.run(prunec.load(ROOT / "examples" / "digits.onnx"), "verify")
    result.report(tmp_path / "report.html")
    text = Tags((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "No pass changed this model." in text
    assert "not verified" in text


def test_zeros_and_orders_are_told(tmp_path: Path) -> None:
    module = prunec.load(ROOT / "examples" / "digits.onnx")
    page = page_of(prunec.run(module, "fold-norm, sparsify{layers=all permute}"))
    text = " ".join(Tags(page).text.split())
    assert "weights set to zero" in text
    assert "2:4" in text
    assert "have their channels in another order" in text


def test_it_says_what_to_install(result: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError) as caught:
        result.report(tmp_path / "report.html")
    assert str(caught.value) == (
        "error: reports need jinja2, which is not installed\n  = help: pip install 'prunec[judge]'"
    )


def test_the_page_can_be_read_in_a_browser(page: str, tmp_path: Path) -> None:
    """In Chromium where there is one: widths, schemes, contrast, requests; else the script says that there is none."""
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    script = ROOT / "benchmarks" / "report_page.py"
    done = subprocess.run(
        [sys.executable, str(script), str(path)], capture_output=True, text=True, check=False
    )
    if "no Chromium" not in done.stderr:
        assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
