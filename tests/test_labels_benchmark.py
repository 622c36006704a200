"""The benchmark of labels: its studies hold the labels asked for, and its table sets both checkouts side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import labels
from benchmarks.labels import SHOTS, TESTED, is_word, write_study, write_table
from fewtune.running.prepare import prepare_jobs
from fewtune.study import read_study

WORDS = [f" word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(320)]


@pytest.mark.parametrize(("count", "tokens"), [(2, 1), (20, 4), (77, 2)])
def test_a_study_has_so_many_labels_of_so_many_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folders: dict[str, Path], count: int, tokens: int
) -> None:
    values = yaml.safe_load(write_study(tmp_path, WORDS, count, tokens, draws=3).read_text())
    monkeypatch.chdir(tmp_path)
    jobs, tasks = prepare_jobs(read_study({**values, "models": [str(model_folders["llama"])]}), tmp_path)
    [task] = tasks.values()
    assert len(jobs) == 3 and len(task.labels) == count and len(task.train) >= SHOTS
    assert len(task.test_sets[0].rows) == TESTED
    words = task.patterns[0].label_words
    assert len(set(words)) == count and {len(word.split()) for word in words} == {tokens}
    assert not task.patterns[0].constrained
    again = yaml.safe_load(write_study(tmp_path, WORDS, count, tokens, draws=3, constrained=True).read_text())
    assert again["tasks"][0]["own_files"]["patterns"][0].pop("constrained") and again == values


def test_words_are_whole_and_have_their_space() -> None:
    assert is_word(" parcel") and not any(map(is_word, ("parcel", " Parcel", " ab", " par cel", " parcel1")))


def test_the_table_tells_tokens_a_row_and_how_many_times_faster() -> None:
    now = {"fit_seconds": 8.0, "fit_tokens": SHOTS * 30, "predict_seconds": TESTED * 0.02, "predict_tokens": 1}
    before = {**now, "fit_seconds": 20.0, "predict_seconds": TESTED * 0.05}
    machine = {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}}
    few = {**now, "fit_seconds": 4.0, "predict_seconds": TESTED * 0.01}
    cells = [
        {"labels": 4, "tokens": 2, "now": now, "before": before, "constrained": few},
        {"labels": 77, "tokens": 2, "now": now},
    ]
    table = write_table({"cells": cells, "machine": machine})
    assert "| 4 | 2 | 30 | 8.0 s | 20 ms | 2.5 | 2.5 | 4.0 s | 10 ms |" in table
    assert "| 77 | 2 | 30 | 8.0 s | 20 ms |  |  |  |  |" in table


def test_a_cell_is_measured_on_the_sides_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Path, bool]] = []

    def run(source: Path, study: Path, out: Path) -> dict[str, float]:
        ran.append((source, "constrained: true" in study.read_text()))
        return {"fit_seconds": float(len(ran))}

    monkeypatch.setattr(labels, "run_study", run)
    cell: dict[str, Any] = {"labels": 4, "tokens": 2, "now": {"fit_seconds": 9.0}}
    before = Path("elsewhere")
    assert labels.measure(WORDS, cell, before) and not labels.measure(WORDS, cell, before)
    assert ran == [(before, False), (labels.ROOT, True)]
    assert cell["now"]["fit_seconds"] == 9.0 and cell["before"]["fit_seconds"] == 1.0
    one: dict[str, Any] = {"labels": 77, "tokens": 1}
    assert labels.measure(WORDS, one, before) and set(one) == {"labels", "tokens", "now"}
