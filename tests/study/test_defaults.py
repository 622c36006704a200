"""What null settings stand for: known before a trial runs, in its id and in its record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewtune.methods import get_method
from fewtune.running.prepare import prepare_jobs
from fewtune.study import load_study
from fewtune.study.defaults import resolve_max_tokens, resolve_settings
from fewtune.tasks.base import Task
from test_trial import TRIAL


@pytest.mark.parametrize(
    ("method", "given", "resolved"),
    [
        ("adaptive", {}, {"learning_rate": 2e-5, "blocks": 0.5, "pattern": "feeling"}),
        ("adaptive", {"readout": "head", "pattern": "verdict"}, {"learning_rate": 2e-4, "pattern": "verdict"}),
        ("adaptive", {"readout": "head"}, {"blocks": 4}),
        ("adaptive", {"readout": "head", "learning_rate": 0.1}, {"learning_rate": 0.1}),
        ("lora", {}, {"epochs": 10}),
        ("lora", {"readout": "head"}, {"epochs": 40}),
        ("lora", {"readout": "head", "epochs": 3}, {"epochs": 3}),
        ("ia3", {}, {"epochs": 10}),
        ("ia3", {"readout": "head"}, {"epochs": 40}),
        ("soft_prompt", {}, {"learning_rate": 3e-2, "epochs": 10}),
        ("soft_prompt", {"readout": "head"}, {"learning_rate": 3e-3, "epochs": 40}),
        ("soft_prompt", {"kind": "prefix", "epochs": 3}, {"learning_rate": 1e-2, "epochs": 3}),
        ("vanilla", {}, {"pattern": None}),  # it reads none
        ("vanilla", {"prompted": True}, {"pattern": "feeling"}),
        # Two labels, 16 labelled and 64 unlabelled rows: 5 steps of 16 an epoch, 40 steps in 8.
        ("context_distillation", {}, {"demonstrations": 8, "epochs": 8, "learning_rate": 5e-5, "teacher": None}),
        ("context_distillation", {"student": "low_rank", "epochs": 3}, {"learning_rate": 5e-4, "epochs": 3}),
        ("context_distillation", {"context": ["instruction"], "instruction": "Good?"}, {"demonstrations": None}),
        ("context_distillation", {"context": ["scratchpad"]}, {"scratchpad": "{text}\nThoughts:"}),
        # Labelled rows alone: one step an epoch, or four.
        ("context_distillation", {"variant": "full"}, {"epochs": 40}),
        ("context_distillation", {"alpha": 0.0, "batch_size": 5}, {"epochs": 10}),
        # Which support rows are taught is drawn while the trial runs.
        ("context_distillation", {"alpha": 1.0}, {"epochs": None}),
        ("probe", {}, {"layer": None}),
        ("tfidf", {}, {}),
    ],
)
def test_nulls_stand_for_known_values(task: Task, method: str, given: dict[str, Any], resolved: dict[str, Any]) -> None:
    settings = resolve_settings(get_method(method), given, task, shots=16, pool_rows=64)
    assert {name: settings[name] for name in resolved} == resolved
    again = resolve_settings(get_method(method), settings, task, shots=16, pool_rows=64)
    assert again == settings


def test_tokens_are_512_or_what_the_model_reads() -> None:
    unsaid = replace(TRIAL, max_tokens=None)
    assert [resolve_max_tokens(unsaid, positions) for positions in (100, 2048, None)] == [100, 512, None]
    assert resolve_max_tokens(replace(TRIAL, max_tokens=64), 2048) == 64


def test_a_trial_is_the_same_whether_its_values_were_said_or_left_out(study_file: Path) -> None:
    given = "methods=[adaptive: {epochs: 2}, pattern: {epochs: 2}]"
    left_out = prepare_jobs(load_study(study_file, [given]), None)[0]
    first = left_out[0].trial.settings["pattern"]
    assert {job.trial.max_tokens for job in left_out} == {128}
    adaptive = f"{{epochs: 2, blocks: 0.5, learning_rate: 2e-5, pattern: {first}}}"
    said = f"methods=[adaptive: {adaptive}, pattern: {{epochs: 2}}]"
    jobs = prepare_jobs(load_study(study_file, [said, "max_tokens=128"]), None)[0]
    assert [job.trial_id for job in jobs] == [job.trial_id for job in left_out]


def test_each_candidate_has_the_rate_that_suits_it(study_file: Path) -> None:
    given = "methods=[adaptive: {grid: {readout: [label_words, head]}}]"
    jobs = prepare_jobs(load_study(study_file, [given, "tuning={trials: 2, folds: 2}"]), None)[0]
    assert [each["learning_rate"] for each in jobs[0].trial.candidates] == [2e-5, 2e-4]
