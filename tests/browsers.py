"""A real browser for tests of pages, and the reasons why there may be none."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

HOSTILE = "<script>alert(1)</script>"
"""A user's word that is markup: no page may run it."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path: Debian's package `chromium`"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="needs Playwright: pip install 'fewtune[test]'"
    ),
]
"""Marks of tests that need a browser."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium without a window, as Playwright drives it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()
