"""Pages of ``--report`` in a headless Chromium: do they fit, can they be read, and do they ask for nothing?

::

    python benchmarks/report_page.py REPORT.html ... [--screenshots FOLDER]

Every page is opened at 400 and 1,200 pixels in light and dark, and as it prints. It must have no error on its console,
ask for nothing but itself, stay within the width of the window (tables scroll by themselves), and keep a contrast of at
least 4.5 between text and ground (WCAG 2.2, 1.4.3). Exits with 1 where one does not, or without a browser.
"""

from __future__ import annotations

import argparse
import base64
from collections.abc import Iterator
from pathlib import Path

from browser import Browser, find_browser

WIDTHS = (400, 1200)
SCHEMES = ("light", "dark")
LEAST_CONTRAST = 4.5

WORST_TEXT = """
(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  let worst = [21, ''];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), svg = element instanceof SVGElement;
    const [a, b] = [luminance(parts(svg ? style.fill : style.color)), luminance(ground(element))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < worst[0]) worst = [contrast, own.slice(0, 40)];
  }
  return worst;
})()
"""
"""The lowest contrast of a text with its ground, and the text."""


def problems(browser: Browser, page: Path, width: int) -> Iterator[str]:
    """What is wrong with an opened page."""
    yield from browser.problems
    yield from (f"asks for {url}" for url in browser.requests if url != page.resolve().as_uri())
    if (needed := browser.evaluate("document.documentElement.scrollWidth")) > width:
        yield f"is {needed} pixels wide in a window of {width}"
    contrast, text = browser.evaluate(WORST_TEXT)
    if contrast < LEAST_CONTRAST:
        yield f"has a contrast of {contrast:.2f} at '{text}'"


def capture(browser: Browser, width: int, path: Path) -> None:
    """The whole page as PNG."""
    height = browser.evaluate("document.documentElement.scrollHeight")
    area = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=area)
    path.write_bytes(base64.b64decode(shot["data"]))


def check(page: Path, program: str, folder: Path | None) -> Iterator[str]:
    """What is wrong with a page at any width, in any scheme, and in print."""
    looks = [(width, scheme, "screen") for width in WIDTHS for scheme in SCHEMES] + [(800, "light", "print")]
    for width, scheme, media in looks:
        with Browser(program, size=(width, 1000)) as browser:
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.call("Emulation.setEmulatedMedia", media=media, features=features)
            browser.open(page)
            found = [
                f"{page.name}, {width} pixels, {scheme}, {media}: {p}" for p in problems(browser, page, width)
            ]
            if folder is not None:
                capture(browser, width, folder / f"{page.stem}-{width}-{scheme}-{media}.png")
        yield from found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="+", type=Path, metavar="REPORT", help="pages")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="keep screenshots here")
    options = parser.parse_args()
    program = find_browser()
    if program is None:
        raise SystemExit("error: no Chromium or Chrome is on the path; $CHROMIUM may name one")
    if options.screenshots is not None:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    found = [problem for page in options.pages for problem in check(page, program, options.screenshots)]
    print("\n".join(found) or "ok")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
