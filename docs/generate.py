"""Writes the reference pages that follow from the code: ``passes.md``, a page for each pass, and ``ops.md``.

::

    python docs/generate.py            # write them
    python docs/generate.py --check    # exit 1 where one of them is not up to date
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from prunec.ir import registry
from prunec.ir.op import Op
from prunec.ir.ops.refused import Refused
from prunec.passes.base import Pass
from prunec.passes.registry import BUILT_IN, load_pass
from prunec.passes.text.options import OptionField, fields_of

HERE = Path(__file__).parent

CONTRACTS = {
    "same": "what the model computes stays the same (checked on probe inputs)",
    "masked": "the result equals the model before with the removed slices set to zero (checked likewise)",
    "sparse": "nothing changes but the masked weights, which have the pattern; outputs are finite (checked likewise)",
    "repaired": "new numbers in the tensors that it names are all that changes; outputs are finite (checked likewise)",
    "quantised": "quantised weights are within one step of what they were, all others the same; outputs keep their "
    "shapes and are finite, and their change is measured (on held-out samples, or on probe inputs)",
    "none": "nothing is compared for the pass itself",
}


GUIDES = {
    "compensate": ("compensation.md", "calibration.md"),
    "permute-channels": ("sparsity.md",),
    "prune-channels": ("plan.md", "judging.md"),
    "quantize": ("quantization.md", "calibration.md"),
    "sparsify": ("sparsity.md", "calibration.md"),
}
"""Pages that say more about a pass."""


def passes_page() -> Iterator[str]:
    """The list of all passes."""
    yield "# Passes"
    yield ""
    yield "Written by `docs/generate.py` from the passes; `prunec passes NAME` says the same as the page of a pass."
    yield "[pipeline.md](pipeline.md) tells how they are put together."
    yield from ("", "| pass | what it does | options |", "| --- | --- | --- |")
    for name in BUILT_IN:
        pass_class = load_pass(name)
        summary = " ".join(_documentation(pass_class).split("\n\n")[0].split())
        options = ", ".join(f"`{field.name}`" for field in fields_of(pass_class)) or "none"
        yield f"| [`{name}`](passes/{name}.md) | {summary} | {options} |"


def pass_page(name: str) -> Iterator[str]:
    """The page of one pass: what it does, what is proven of it, its options, and its textual test."""
    pass_class = load_pass(name)
    yield from (f"# {name}", "", _documentation(pass_class), "")
    yield f"Contract: {CONTRACTS[pass_class.contract]}."
    yield from ("", "## Options", "")
    if fields := fields_of(pass_class):
        yield from ("| option | takes | default | meaning |", "| --- | --- | --- | --- |")
        yield from map(_option_row, fields)
    else:
        yield "It has none."
    yield from ("", "## Example", "")
    test = f"tests/textual/passes/{name}.prunec"
    yield f"From its [textual test](../../{test}): `RUN` is the pipeline, `CHECK` what the dump of its result holds."
    yield from ("", "```text", _first_section(HERE.parent / test), "```", "")
    guides = ["pipeline.md", *GUIDES.get(name, ())]
    links = ", ".join(f"[{page}](../{page})" for page in guides)
    yield f"More: [all passes](../passes.md), {links}. Written by `docs/generate.py` from the pass."


def _first_section(path: Path) -> str:
    """The first of the tests in a file of textual tests."""
    return path.read_text(encoding="utf-8").partition("\n// -----")[0].strip()


def _documentation(pass_class: type[Pass]) -> str:
    return inspect.cleandoc(pass_class.__doc__ or "").replace("``", "`")


def _option_row(field: OptionField) -> str:
    default = "must be given" if field.default_text is None else f"`{field.default_text}`"
    bounds = f" {field.bounds}" if field.bounds else ""
    takes = field.type_text.replace("|", "\\|")
    return f"| `{field.name}` | `{takes}`{bounds} | {default} | {field.help} |"


def ops_page() -> Iterator[str]:
    """The page of all ops with a rule."""
    yield "# Ops with a rule"
    yield ""
    yield "Written by `docs/generate.py` from the registry. An op that is not here is left as it is, with all"
    yield "that its operands are coupled to; [add-an-op.md](add-an-op.md) tells how to give it a rule."
    yield ""
    yield "`If`, `Loop` and `Scan` need no rule: what goes into and comes out of their bodies is tied, and the bodies"
    yield "are analysed and cut like the graph around them. Other ops with bodies (`BeamSearch`) keep their own inputs"
    yield "and outputs and those of their bodies; what lies between those is cut."
    for domain, families in sorted(_families().items()):
        yield from ("", f"## {domain or 'ai.onnx'}", "", "| family | ops |", "| --- | --- |")
        for family, names in families.items():
            summary = (inspect.cleandoc(family.__doc__ or "").split("\n\n")[0]).replace("\n", " ")
            yield f"| {_cell(summary)} | {', '.join(sorted(names))} |"
    yield from _refused_ops()


def _refused_ops() -> Iterator[str]:
    """The table of the ops that are left alone on purpose."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for (domain, name), op in registry.OPS.items():
        if isinstance(op, Refused):
            reasons[op.reason].append(f"{domain}::{name}" if domain else name)
    yield from ("", "## Left alone on purpose", "")
    yield "All axes of their operands keep their size, for the reason that is given here and in the remarks. What `If`,"
    yield "`Loop` and `Scan` do is not in these tables, nor are the domains `ai.onnx.ml` (trees and the like),"
    yield "`ai.onnx.preview` and those of custom ops, which have no rules."
    yield from ("", "| reason | ops |", "| --- | --- |")
    for reason, names in sorted(reasons.items()):
        yield f"| {_cell(reason)} | {', '.join(sorted(names))} |"


def _cell(text: str) -> str:
    """Docstring text as the cell of a table."""
    return re.sub(r":\w+:`", "`", text.replace("``", "`")).replace("|", "\\|")


def _families() -> dict[str, dict[type[Op], list[str]]]:
    import prunec.ir.fx.ops
    import prunec.ir.ops

    prunec.ir.ops.register_all()
    prunec.ir.fx.ops.register_all()
    found: dict[str, dict[type[Op], list[str]]] = defaultdict(lambda: defaultdict(list))
    for (domain, name), op in registry.OPS.items():
        if not isinstance(op, Refused):
            found[domain][type(op)].append(name)
    return found


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "passes.md": passes_page,
    "ops.md": ops_page,
    **{f"passes/{name}.md": partial(pass_page, name) for name in BUILT_IN},
}


def main(arguments: Iterable[str]) -> int:
    """Write the pages, or compare them; pages of passes that are gone go too."""
    check = "--check" in arguments
    stale = [path.relative_to(HERE).as_posix() for path in (HERE / "passes").glob("*.md")]
    stale = [name for name in stale if name not in PAGES]
    for name in () if check else stale:
        (HERE / name).unlink()
    for name, page in PAGES.items():
        path, text = HERE / name, "\n".join(page()) + "\n"
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    if check and stale:
        print(f"not up to date: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
