"""Reasons that say what to do, where there is something to do."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import coupling_of, graph, prune

from prunec.ir.module import Module
from prunec.ir.rule import RuleError, fit, parse_template

CACHE = """net (float[N,3,8] x, float[N,4,2,6] past) => (float[N,3,24] y, float[N,4,P,6] present) <float[8,24] w>
    { a = MatMul(x, w) r = Reshape(a, heads) t = Transpose<perm=[0,2,1,3]>(r) present = Concat<axis=2>(past, t)
      k = Transpose<perm=[0,1,3,2]>(present) s = MatMul(t, k) p = Softmax(s) c = MatMul(p, present)
      u = Transpose<perm=[0,2,1,3]>(c) y = Reshape(u, joined) }"""


def helps(module: Module) -> set[str]:
    """What the reasons of a module say can be done."""
    return {g.frozen.help for g in coupling_of(module).groups if g.frozen is not None and g.frozen.help}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("net (float[N,4] x) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w) y = com.acme.Odd(a) }",
         "give the op a rule (docs/add-an-op.md)"),
        ("net (float[N,3,8] x, int64[6] p) => (float[N,5,8] y) <float[4,3,1] w, float[5,4,1] v> "
         "{ a = Conv(x, w) b = Pad(a, p) y = Conv(b, v) }", "export with fixed sizes, so that the number is a constant"),
    ],
)  # fmt: skip
def test_a_reason_says_what_to_do(text: str, says: str) -> None:
    module = graph(text)
    assert says in helps(module)
    assert any(says in str(remark) for remark in prune(module).remarks)


def test_heads_of_a_cache_name_the_option() -> None:
    module = graph(CACHE, heads=np.array([0, 0, 4, 6]), joined=np.array([0, 0, 24]))
    assert helps(module) == {"`prune-channels{allow-io=true}` lets the heads of caches shrink"}


def test_a_kernel_longer_than_its_input_is_named() -> None:
    with pytest.raises(RuleError, match="a kernel longer than its input"):
        fit(parse_template("n c s -> n c t"), [(2, 3, 4)], [(2, 3, 0)], known={"t": 1})
