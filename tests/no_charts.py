"""Pages without their charts, for tests of commands: a chart takes a second, and is the claim of others."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from fewtune.report import page


def leave_charts_out(patch: pytest.MonkeyPatch) -> None:
    """Have a page's charts stand empty."""

    def draw_nothing(*asked: Any) -> Future[str]:
        drawn = Future[str]()
        drawn.set_result("<svg></svg>")
        return drawn

    patch.setattr(page, "have_drawn", draw_nothing)
