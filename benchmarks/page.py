"""The page of ``prunec inspect --html`` in a headless Chromium: does it work, and how smoothly does it move?

::

    python benchmarks/page.py MODEL ... [--screenshots FOLDER] [--seconds 3]

For each model: seconds and CPU seconds of ``prunec inspect`` alone and with ``--html``, the size of the page,
seconds until it is drawn, and the time of a frame while the graph is panned and zoomed, from one animation
frame to the next (``median``, ``95 %``; 16.7 ms is what a screen of 60 Hz shows) and of the drawing alone
(``draw``). ``close`` pans where labels are read, ``far`` with the whole graph in sight and with shape
arithmetic. Every control of the page is used on the way.

The browser is ``$CHROMIUM``, or the first Chromium or Chrome on the path. Exits with 1 if there is none, if the
page has an error on its console, asks for anything but itself, or shows another number of nodes than it should.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import processes
from browser import Browser, find_browser
from report import Column, Report, add_output_options, new_parser, publish

COLUMNS = (
    Column(key="model", title="model"),
    Column(key="nodes", title="nodes"),
    Column(key="inspect_seconds", title="inspect s", format=".2f"),
    Column(key="inspect_cpu_seconds", title="CPU s", format=".2f"),
    Column(key="html_seconds", title="--html s", format=".2f"),
    Column(key="html_cpu_seconds", title="CPU s", format=".2f"),
    Column(key="page_kib", title="page KiB", format=",.0f"),
    Column(key="open_seconds", title="opens in s", format=".2f"),
    Column(key="close_ms", title="close median ms", format=".1f"),
    Column(key="close_95_ms", title="close 95 % ms", format=".1f"),
    Column(key="close_draw_ms", title="close draw ms", format=".1f"),
    Column(key="far_ms", title="far median ms", format=".1f"),
    Column(key="far_95_ms", title="far 95 % ms", format=".1f"),
    Column(key="far_draw_ms", title="far draw ms", format=".1f"),
    Column(key="outcome", title="outcome"),
)

FRAMES = """
new Promise(done => {
  const frames = [], draws = [], draw = Scene.prototype.draw, end = performance.now() + SECONDS * 1000;
  page.scene.draw = function () { const t = performance.now(); draw.call(this); draws.push(performance.now() - t); };
  let before = null, turn = 0;
  const step = now => {
    if (before !== null) frames.push(now - before);
    before = now;
    const out = Math.floor(turn / 60) % 2 ? 1 : -1;
    page.scene.pan(out * 6, out * 24);
    if (turn % 4 === 0) page.scene.zoom(turn % 8 ? 1.02 : 1 / 1.02);
    turn += 1;
    if (performance.now() < end) { requestAnimationFrame(step); return; }
    delete page.scene.draw;
    const at = (list, share) => list.sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(share * list.length))];
    done([at(frames, .5), at(frames, .95), at(draws, .5)]);
  };
  requestAnimationFrame(step);
})
"""
"""Pans and zooms for a while: median and 95th percentile of the time between frames, median time of drawing."""

CONTROLS = """
(() => {
  const press = (key, more) => page.canvas.dispatchEvent(
    new KeyboardEvent('keydown', { key, bubbles: true, ...more }));
  for (const key of ['0', '+', '-', 'ArrowUp', 'ArrowLeft', 'Home', 'PageDown', 'Escape']) press(key);
  for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'ArrowUp']) press(key, { shiftKey: true });
  for (const mode of ['sparsity', 'op', 'group']) page.recolour(mode);
  for (const node of nodes) page.panel.showNode(node);
  for (const group of groups) page.chooseGroup(group);
  for (const head of document.querySelectorAll('th button')) head.click();
  for (const row of [...document.querySelectorAll('tbody tr')].slice(0, 20)) row.click();
  page.search.input.value = nodes[nodes.length - 1].name;
  page.search.update();
  page.search.key(new KeyboardEvent('keydown', { key: 'Enter' }));
  const chosen = page.scene.chosen;
  press('Escape');
  return chosen;
})()
"""
"""Uses every control of the page; what the search for the last node's name has selected."""

FIRST_NODE = """
(() => {
  const { scene } = page, { layout } = scene, box = page.canvas.getBoundingClientRect();
  return { x: box.left + (layout.x[0] - scene.x) * scene.scale, y: box.top + (layout.y[0] - scene.y) * scene.scale };
})()
"""
"""Where the first node is on the screen."""


def measure(model: Path, browser: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Make the page of a model and try it."""
    page = folder / f"{model.stem}.html"
    plain = processes.run([*processes.PRUNEC, "inspect", str(model)], seconds=120)
    made = processes.run([*processes.PRUNEC, "inspect", str(model), "--html", str(page)], seconds=120)
    if made.code:
        return {"model": model.stem, "outcome": f"exit {made.code}: {made.last_words}"}
    row = {
        "model": model.stem,
        "inspect_seconds": plain.wall_seconds,
        "inspect_cpu_seconds": plain.cpu_seconds,
        "html_seconds": made.wall_seconds,
        "html_cpu_seconds": made.cpu_seconds,
        "page_kib": page.stat().st_size / 1024,
    }
    with Browser(browser) as opened:
        opened.open(page)
        return {**row, **_tried(opened, page, seconds)}


def _tried(browser: Browser, page: Path, seconds: float) -> dict[str, Any]:
    frames = FRAMES.replace("SECONDS", str(seconds))
    opened = browser.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    browser.screenshot(page.with_suffix(".png"))
    browser.evaluate("page.chooseNode(layers[0].node.index); new Promise(requestAnimationFrame)")
    browser.screenshot(page.with_suffix(".node.png"))
    found = browser.evaluate(CONTROLS)
    browser.evaluate("page.chooseGroup(groups[0]); page.panel.show('groups'); page.scene.begin()")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.evaluate("new Promise(requestAnimationFrame)")
    browser.screenshot(page.with_suffix(".dark.png"))
    close = browser.evaluate(frames)
    browser.evaluate("page.useLayout(1); page.scene.fit()")
    far = browser.evaluate(frames)
    browser.evaluate("page.scene.fit(); new Promise(requestAnimationFrame)")
    browser.screenshot(page.with_suffix(".far.png"))
    names = f"nodes[{found}].name === nodes.at(-1).name"
    nodes, drawn, last = browser.evaluate(f"[nodes.length, page.scene.layout.shown.length, {names}]")
    unheard = list(_unheard(browser))
    problems = unheard + list(_problems(browser, page, nodes=nodes, drawn=drawn, last=last))
    return {
        "nodes": nodes,
        "open_seconds": opened / 1000,
        **dict(zip(("close_ms", "close_95_ms", "close_draw_ms"), close, strict=True)),
        **dict(zip(("far_ms", "far_95_ms", "far_draw_ms"), far, strict=True)),
        "outcome": "; ".join(problems) or "ok",
    }


def _unheard(browser: Browser) -> Iterator[str]:
    """The kinds of real input that do nothing: a wheel, a drag, two fingers, a click, a key."""
    browser.evaluate("page.clear(); page.useLayout(0); page.scene.begin(); page.canvas.focus()")
    middle = {"x": 300, "y": 400}
    scale = browser.evaluate("page.scene.scale")
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", **middle, deltaX=0, deltaY=-200)
    if browser.evaluate("page.scene.scale") <= scale:
        yield "the wheel does nothing"
    top = browser.evaluate("page.scene.y")
    _mouse(browser, mousePressed=middle, mouseMoved={"x": 300, "y": 330}, mouseReleased={"x": 300, "y": 330})
    if browser.evaluate("page.scene.y") <= top:
        yield "dragging does nothing"
    browser.evaluate("page.scene.begin()")
    for kind, apart in (("touchStart", [40]), ("touchMove", [90]), ("touchEnd", [])):
        fingers = [{"x": 300 + side * a, "y": 400, "id": side + 1} for a in apart for side in (-1, 1)]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)
    if browser.evaluate("page.scene.scale") <= scale:
        yield "pinching does nothing"
    browser.evaluate("page.scene.begin()")
    place = browser.evaluate(FIRST_NODE)
    _mouse(browser, mousePressed=place, mouseReleased=place)
    if not browser.evaluate("page.scene.chosen === page.scene.layout.shown[0]"):
        yield "a click does nothing"
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="/", text="/")
    if browser.evaluate("document.activeElement.id") != "search":
        yield "the key for the search does nothing"


def _mouse(browser: Browser, **events: Mapping[str, float]) -> None:
    for kind, place in events.items():
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)


def _problems(browser: Browser, page: Path, *, nodes: int, drawn: int, last: bool) -> Iterator[str]:
    yield from browser.problems
    yield from (f"asks for {url}" for url in browser.requests if url != page.resolve().as_uri())
    if browser.evaluate("document.querySelectorAll('img, iframe, object, link, [src], [href]').length"):
        yield "has elements that it should not have"
    if drawn != nodes:
        yield f"shows {drawn} of {nodes} nodes"
    if not last:
        yield "the search does not find the last node"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="models")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="keep pages and screenshots here")
    parser.add_argument("--seconds", type=float, default=3.0, help="of panning (default: %(default)s)")
    add_output_options(parser)
    options = parser.parse_args()
    browser = find_browser()
    if browser is None:
        raise SystemExit("error: no Chromium or Chrome is on the path; $CHROMIUM may name one")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.screenshots or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [measure(model, browser, folder, options.seconds) for model in options.models]
    report = Report(
        benchmark="page",
        title="The page of prunec inspect --html in headless Chromium, drawn without a GPU",
        columns=COLUMNS,
        rows=rows,
        options={"seconds": options.seconds},
    )
    publish(report, options)
    if any(row["outcome"] != "ok" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
