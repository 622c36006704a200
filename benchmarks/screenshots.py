"""Pictures of a report for the README, taken in Debian's Chromium.

python -m benchmarks.screenshots [FOLDER]      writes docs/report-desktop.png and docs/report-phone.png

FOLDER is a study's; results/race-sentiment where none is given.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from fewtune.analysis.study import analyse_folder
from fewtune.report.page import write_report_page

ROOT = Path(__file__).parent.parent
SIZES = {"desktop": (1100, 1000), "phone": (390, 780)}
"""Width and height by name, in pixels of the page."""


def main() -> None:
    """Take every picture."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("screenshots: needs Chromium on the path. Install Debian's package `chromium`.")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "race-sentiment"
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        page = write_report_page(analyse_folder(folder), Path(place))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            opened = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1.5)
            opened.goto(page.as_uri())
            path = ROOT / "docs" / f"report-{name}.png"
            opened.screenshot(path=path)
            print(path)
        browser.close()


if __name__ == "__main__":
    main()
