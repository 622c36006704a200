"""Checking a large study takes as long as listing it: nothing is drawn or asked again for every trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.errors import StudyError
from fewtune.running import prepare, row_checks
from fewtune.study import grid as trial
from fewtune.study import load_study
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling

ROWS = "text,label\n" + "".join(f"row number {i},{'bad' if i % 2 else 'good'}\n" for i in range(200))


def write_study(folder: Path, *lines: str, patterns: str = "") -> Path:
    (folder / "train.csv").write_text(ROWS)
    path = folder / "study.yaml"
    task = f"{{own_files: {{train: {folder / 'train.csv'}{patterns}}}}}"
    path.write_text("\n".join(["name: large", f"tasks: [{task}]", "baselines: false", *lines]))
    return path


def test_natural_draws_are_tried_at_the_fewest_shots_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    make_draw = row_checks.make_draw

    def note(task: Task, sampling: Sampling, data_seed: int) -> Draw:
        tried.append(sampling.shots)
        return make_draw(task, sampling, data_seed)

    monkeypatch.setattr(row_checks, "make_draw", note)
    lines = ["methods: [majority]", "shots: [40, 30, 50]", "sampling: natural", "data_seeds: {count: 7}"]
    jobs, _ = prepare.prepare_jobs(load_study(write_study(tmp_path, *lines)), None)
    assert len(jobs) == 21 and tried == [30] * 7
    scarce = ["methods: [majority]", "shots: [40, 2]", "sampling: natural", "data_seeds: {count: 20}"]
    with pytest.raises(StudyError, match="the 2 shots of data seed"):
        prepare.prepare_jobs(load_study(write_study(tmp_path, *scarce)), None)


def test_a_grid_is_asked_once_and_not_for_every_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    build_settings = trial.build_settings

    def count(*given: object) -> object:
        nonlocal asked
        asked += 1
        return build_settings(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "build_settings", count)
    penalties = ", ".join(f"{1 + i / 8}" for i in range(50))
    lines = [f"methods: [tfidf: {{grid: {{inverse_penalty: [{penalties}]}}}}]", "tuning: {trials: 50}", "shots: [20]"]
    jobs, _ = prepare.prepare_jobs(load_study(write_study(tmp_path, *lines, "data_seeds: {count: 40}")), None)
    assert len(jobs) == 40 and asked <= 200


def test_patterns_count_among_the_trials_of_a_study(tmp_path: Path, model_folders: dict[str, Path]) -> None:
    words = "label_words: [' no', ' yes']"
    several = ", ".join(f"{{name: p{i}, template: '{{text}} {i}:', {words}}}" for i in range(110))
    path = write_study(
        tmp_path,
        f"models: [{model_folders['llama']}]",
        "methods: [in_context: {demonstrations: 2}]",
        "patterns: all",
        "shots: [4]",
        "data_seeds: {count: 1000}",
        patterns=f", patterns: [{several}]",
    )
    with pytest.raises(StudyError, match="its patterns make 110000 trials of 1000; a study may have 100000"):
        prepare.prepare_jobs(load_study(path), None)
