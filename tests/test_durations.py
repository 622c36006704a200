"""Lengths of time and sizes that users write are the seconds, minutes and bytes they stand for."""

from __future__ import annotations

import pytest

from fewtune.cli.run import Ending
from fewtune.errors import FewtuneError
from fewtune.system.durations import parse_minutes, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5m", 90), ("2h", 7200), (" 2 h ", 7200), ("0.5h", 1800)]
)
def test_a_time_is_so_many_seconds(text: str, seconds: float) -> None:
    assert parse_seconds("--budget", text) == seconds
    assert parse_minutes("--budget", text) == seconds / 60


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "0s", "0.0h", "1d", "1e3s", "nan"])
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(FewtuneError, match=r"^--budget is .*; give a time above 0 such as 90s, 30m or 2h"):
        parse_seconds("--budget", text)


def test_a_runs_limits_reach_its_study() -> None:
    given = Ending(until="decided", within=0.02, budget="30m", max_memory="2GiB")
    assert given.list_overrides(races=False) == [
        "until=decided",
        "within=0.02",
        "budget.minutes=30.0",
        f"budget.memory={2 * 2**30}",
    ]
    assert Ending().list_overrides(races=False) == []
