"""The benchmark of labels: its studies hold the labels asked for, and its table sets both checkouts side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.labels import SHOTS, TESTED, is_word, write_study, write_table
from fewtune.running.prepare import prepare_jobs
from fewtune.study import read_study

WORDS = [f" word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(320)]


@pytest.mark.parametrize(("labels", "tokens"), [(2, 1), (20, 4), (77, 2)])
def test_a_study_has_so_many_labels_of_so_many_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folders: dict[str, Path], labels: int, tokens: int
) -> None:
    values = yaml.safe_load(write_study(tmp_path, WORDS, labels, tokens, draws=3).read_text())
    monkeypatch.chdir(tmp_path)
    jobs, tasks = prepare_jobs(read_study({**values, "models": [str(model_folders["llama"])]}), tmp_path)
    [task] = tasks.values()
    assert len(jobs) == 3 and len(task.labels) == labels and len(task.train) >= SHOTS
    assert len(task.test_sets[0].rows) == TESTED
    words = task.patterns[0].label_words
    assert len(set(words)) == labels and {len(word.split()) for word in words} == {tokens}


def test_words_are_whole_and_have_their_space() -> None:
    assert is_word(" parcel") and not any(map(is_word, ("parcel", " Parcel", " ab", " par cel", " parcel1")))


def test_the_table_tells_tokens_a_row_and_how_many_times_faster() -> None:
    now = {"fit_seconds": 8.0, "fit_tokens": SHOTS * 30, "predict_seconds": TESTED * 0.02, "predict_tokens": 1}
    before = {**now, "fit_seconds": 20.0, "predict_seconds": TESTED * 0.05}
    machine = {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}}
    cells = [{"labels": 4, "tokens": 2, "now": now, "before": before}, {"labels": 77, "tokens": 2, "now": now}]
    table = write_table({"cells": cells, "machine": machine})
    assert "| 4 | 2 | 30 | 8.0 s | 20 ms | 2.5 | 2.5 |" in table and "| 77 | 2 | 30 | 8.0 s | 20 ms |  |  |" in table
