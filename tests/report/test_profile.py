"""Where the time went adds up: by phase to the trials, with what was outside them to the whole."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fewtune.records import PHASES, Record, load_records, record_path
from fewtune.report.profile import OUTSIDE, CommandSeconds, show_profile
from study_maker import make_study

FLOOR = {"load": 0.5, "prepare": 0.25, "fit": 0.0, "score": 0.25, "other": 1.0}
TRAINED = {"load": 1.0, "tokenise": 0.5, "prepare": 2.0, "fit": 10.0, "score": 4.0, "other": 0.5}
COMMAND = CommandSeconds(check=3.0, run=50.0, analyse=1.5, rest=0.5, workers=1)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Two trials of a floor and two of a method that trains, 40 seconds in all; one skipped."""
    made = make_study(tmp_path, {"majority": [0.5, 0.5], "pattern": [0.8, 0.8]}, skips={"bitfit": "no biases"})
    spent = {"majority": FLOOR, "pattern": TRAINED, "bitfit": {"other": 0.001}}
    return [record.model_copy(update={"phase_seconds": spent[record.trial.variant]}) for record in made]


def show(records: list[Record], command: CommandSeconds | None = None, reused: int = 0, width: int = 80) -> str:
    stream = StringIO()
    show_profile(Console(file=stream, width=width, color_system=None), records, command, reused)
    return stream.getvalue()


def read_figures(text: str, until: str = "A mean trial") -> dict[str, tuple[float, int]]:
    """Seconds and per cent of each line of the study's table."""
    found = {}
    for line in text.split(until)[0].splitlines():
        words = line.split()
        place = next((i for i, word in enumerate(words) if word.endswith("%")), None)
        if place is not None:
            found[" ".join(words[: place - 1])] = (float(words[place - 1]), int(words[place][:-1]))
    return found


def test_phases_add_up_to_the_trials_and_with_the_rest_to_the_wall_time(records: list[Record]) -> None:
    figures = read_figures(show(records, COMMAND))
    inside = sum(figures[name][0] for name in PHASES if name in figures)
    assert figures["4 trials"] == (inside, 73) == (40.0, 73)
    assert figures["workers"] == (10.0, 18)
    assert figures["in all"] == (inside + sum(figures[name][0] for name in OUTSIDE), 100) == (COMMAND.wall, 100)


def test_workers_side_by_side_add_up_to_more_than_the_wall_time_and_that_is_said(records: list[Record]) -> None:
    text = show(records, CommandSeconds(check=3.0, run=25.0, analyse=1.5, rest=0.5, workers=2))
    assert read_figures(text)["in all"] == (55.0, 100)
    assert "2 workers ran side by side: their seconds add up to more than the 30.0 s of wall time" in _flatten(text)
    assert "side by side" not in show(records, COMMAND)


def test_a_mean_trial_of_each_method_comes_with_the_costliest_first(records: list[Record]) -> None:
    table = show(records).split("A mean trial")[1].splitlines()
    rows = [line.split() for line in table if line.split()[:1] in (["majority"], ["pattern"])]
    assert rows == [
        ["pattern", "2", "1.00", "0.50", "2.00", "10.00", "4.00", "0.50", "18.00"],
        ["majority", "2", "0.50", "–", "0.25", "0.00", "0.25", "1.00", "2.00"],
    ]
    assert "bitfit" not in show(records) and "tune" not in show(records), "skipped, and never entered"


def test_what_is_left_out_is_said(records: list[Record], tmp_path: Path) -> None:
    assert "were done before" not in show(records, COMMAND)
    assert "3 trials were done before this run and are left out" in _flatten(show(records, COMMAND, reused=3))
    for record in records:
        path = record_path(tmp_path, record.trial_id)
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "phase_seconds"}))
    old = load_records(tmp_path)
    assert "1 trial left no seconds (killed, or recorded by an older fewtune)" in _flatten(
        show([*records[:3], old[-1]])
    )
    alone = _flatten(show(old))
    assert "4 trials left no seconds" in alone and "phase" not in alone
    failed = records[0].model_copy(update={"status": "failed"})
    assert "1 trial failed; its seconds until then count" in _flatten(show([failed, *records[1:]]))


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_at(records: list[Record], width: int) -> None:
    tuned = [
        record.model_copy(
            update={
                "phase_seconds": dict.fromkeys(PHASES, 1234.5),
                "trial": record.trial.model_copy(update={"variant": "context_distillation [red]of a kind[/red]"}),
            }
        )
        for record in records
    ]
    text = show(tuned, COMMAND, width=width)
    assert "…" not in text and "[red]" in "".join(text.split())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for shown in (*PHASES, *OUTSIDE, "1234.50"):
        assert shown in text


def _flatten(text: str) -> str:
    return " ".join(text.split())
