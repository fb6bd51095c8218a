"""Make docs/report.png: the HTML report of a real run on the digits, in Chromium. `make screenshot` runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
DIGITS = DOCS.parent / "examples" / "data" / "digits.npy"
CHAIN = (
    "read digits.npy then shuffle --seed 7 then repeat --epochs 2 then noise --sigma 0.1 then standardize"
    " then pairwise digits.npy --metric minkowski --p 1.5 then write distances.npy"
)
WIDTH = 1040
MOST_BYTES = 200_000


def report(directory: Path) -> Path:
    """Run the chain twice, the second time with compiled kernels, and make a page of that."""
    shutil.copy(DIGITS, directory / "digits.npy")
    mlpipe = [sys.executable, "-m", "mlpipe", "--quiet"]
    for _ in range(2):
        subprocess.run([*mlpipe, "run", "--report", "run.json", "--force", *CHAIN.split()], cwd=directory, check=True)
    subprocess.run([*mlpipe, "report", "html", "run.json", "--output", "run.html"], cwd=directory, check=True)
    return directory / "run.html"


def picture(page: Path, path: Path) -> None:
    """Take what is above the tables, with the pointer on the busiest lane."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        shown = browser.new_page(viewport={"width": WIDTH, "height": 1400}, color_scheme="light")
        shown.goto(page.as_uri())
        marked = shown.locator("#time .row:has(.chip) svg")
        lane = (marked if marked.count() else shown.locator("#time svg.lane")).first
        lane.hover()
        end = shown.locator("#time").bounding_box()
        assert end is not None
        shown.screenshot(path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": end["y"] + end["height"] + 12})
        browser.close()
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path}: {path.stat().st_size} bytes, a README takes {MOST_BYTES}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        picture(report(Path(temporary)), DOCS / "report.png")
