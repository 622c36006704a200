"""Settings are chosen on the support alone, by folds that are the same for all, and the search is counted as cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from fewtune.errors import DataError, StudyError, TrialFailure
from fewtune.methods.base import Method
from fewtune.methods.plan import Plan
from fewtune.predictors.predictor import Predictor
from fewtune.running.prepare import Job, prepare_jobs
from fewtune.running.trial import WorkerState, run_trial
from fewtune.running.trial_inputs import name_axes
from fewtune.running.tune import Search, Tuned, check_folds, split_folds, tune
from fewtune.study import Study, Tuning, load_study
from fewtune.tasks.base import Draw, Example, Task


@dataclass(frozen=True)
class Skill:
    """How often the stand-in is right, and how sure it is."""

    right: Annotated[float, Field(description="Share of rows answered right.")] = 0.5
    sure: Annotated[float, Field(description="Probability of the answer.")] = 0.9


class Witness:
    """A method that notes the rows it was shown, and answers held-out rows as well as its settings say."""

    def __init__(self, task: Task) -> None:
        self.labels = {row.row_id: row.label for row in task.train}
        self.supports: list[frozenset[str]] = []
        self.asked: list[list[Example]] = []
        self.draws: list[Draw] = []
        self.tasks: list[Task] = []
        self.seeds: list[int] = []
        self.method = Method("witness", "notes what it sees", "https://none", Skill, self.plan, uses_model=False)

    def plan(self, settings: Skill, model: None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
        if settings.right < 0:
            raise TrialFailure("diverged", "the loss became nan")
        self.supports.append(frozenset(row.row_id for row in draw.support))
        self.draws.append(draw)
        self.tasks.append(task)
        self.seeds.append(int(rng.integers(2**31)))

        def score(rows: Sequence[Example]) -> np.ndarray:
            self.asked.append(list(rows))
            answers = []
            for place, row in enumerate(rows):
                gold = self.labels[row.row_id] or 0
                answer = gold if place < round(settings.right * len(rows)) else 1 - gold
                answers.append([settings.sure if label == answer else 1 - settings.sure for label in (0, 1)])
            return np.log(np.array(answers))

        scorer: Any = SimpleNamespace(log_probabilities=score)
        return Plan(Predictor(task.labels, task.fields, scorer))


def choose(witness: Witness, task: Task, draw: Draw, *candidates: dict[str, Any], folds: int = 4) -> Tuned:
    axes = ("made-up", 8, 0, 0)
    search = Search(witness.method, candidates, list(candidates[0]), folds)
    return tune(search, None, task, draw, axes, lambda *fits: None)


def test_folds_part_the_support_and_hold_every_label() -> None:
    rows = [Example(f"r{i}", {"text": "x"}, i % 3) for i in range(26)]
    folds = split_folds(rows, 4, "task", 0)
    assert sorted(row.row_id for fold in folds for row in fold) == sorted(row.row_id for row in rows)
    assert {len(fold) for fold in folds} == {6, 7}
    for fold in folds:
        assert set(Counter(row.label for row in fold)) == {0, 1, 2}
    assert folds == split_folds(rows, 4, "task", 0) != split_folds(rows, 4, "task", 1)


def test_a_candidate_never_sees_the_rows_it_is_judged_by(task: Task, draw: Draw) -> None:
    witness = Witness(task)
    choose(witness, task, draw, {"right": 0.5}, {"right": 1.0})
    support = {row.row_id for row in draw.support}
    assert len(witness.supports) == len(witness.asked) == 8
    for shown, asked, given, seen in zip(witness.supports, witness.asked, witness.draws, witness.tasks, strict=True):
        held_out = {row.row_id for row in asked}
        assert not shown & held_out and shown | held_out == support
        assert all(row.label is None for row in asked)
        assert given.test_sets == () and given.pool == draw.pool and seen.train == () and seen.test_sets == ()


def test_every_candidate_is_fitted_on_equal_folds_with_equal_seeds(task: Task, draw: Draw) -> None:
    witness = Witness(task)
    choose(witness, task, draw, {"right": 0.5}, {"right": 1.0})
    assert witness.supports[:4] == witness.supports[4:] and len(set(witness.supports[:4])) == 4
    assert witness.seeds[:4] == witness.seeds[4:]


def test_the_best_of_the_held_out_rows_is_chosen_ties_going_to_the_lower_loss(task: Task, draw: Draw) -> None:
    tuned = choose(Witness(task), task, draw, {"right": 0.5}, {"right": 1.0}, {"right": 0.0})
    assert tuned.settings == {"right": 1.0} == tuned.notes.chosen
    assert [entry.score for entry in tuned.notes.tried] == [0.5, 1.0, 0.0]
    tied = choose(Witness(task), task, draw, *({"right": 1.0, "sure": sure} for sure in (0.6, 0.9, 0.7)))
    assert tied.settings["sure"] == 0.9
    assert tied.notes.tried[1].log_loss == pytest.approx(-np.log(0.9), abs=1e-5)
    equal = choose(Witness(task), task, draw, {"right": 0.6}, {"right": 0.5})  # one of two rows a fold, both
    assert equal.notes.tried[0].log_loss == equal.notes.tried[1].log_loss and equal.settings == {"right": 0.6}


def test_a_candidate_that_fails_is_noted_and_out_of_the_choice(task: Task, draw: Draw) -> None:
    tuned = choose(Witness(task), task, draw, {"right": -1.0}, {"right": 0.0})
    assert tuned.settings == {"right": 0.0}
    assert tuned.notes.tried[0].failure == "the loss became nan" and len(tuned.notes.tried) == 2
    with pytest.raises(TrialFailure, match="all 2 settings of the grid failed; the first: the loss became nan"):
        choose(Witness(task), task, draw, {"right": -1.0}, {"right": -2.0})


def test_more_folds_than_rows_of_a_label_are_refused(task: Task, draw: Draw) -> None:
    with pytest.raises(DataError, match=r"tuning.folds is 5 and the 8 shots hold 4 rows labelled .*, or 4 folds"):
        check_folds(task, draw.support, 5)
    check_folds(task, draw.support, 4)


TUNED = """
name: tuned
models: [{model}]
tasks:
  - own_files: {{train: {data}, text: text, label: label, as: feelings}}
methods:
  - majority
  - pattern: {{epochs: 4, grid: {{learning_rate: [1e-6, 1e-2]}}}}
  - lora: {{grid: {{epochs: [1, 6], learning_rate: [1e-2]}}}}
  - in_context: {{grid: {{demonstrations: [0, 2]}}}}
  - tfidf: {{grid: {{inverse_penalty: [0.01, 10.0]}}}}
tuning: {{trials: 2, folds: 2}}
shots: [8]
precision: float32
baselines: false
"""


@pytest.fixture(scope="module")
def tuned_study(study_file: Path, model_folders: dict[str, Path]) -> Study:
    path = study_file.parent / "tuned.yaml"
    path.write_text(TUNED.format(model=model_folders["llama"], data=study_file.parent / "feelings.csv"))
    return load_study(path)


def list_jobs(study: Study) -> dict[str, Job]:
    return {job.trial.method.variant: job for job in prepare_jobs(study, None)[0]}


def test_a_tuned_trial_equals_the_same_trial_with_the_chosen_settings(tuned_study: Study) -> None:
    state = WorkerState()
    for variant, job in list_jobs(tuned_study).items():
        record, predictions = run_trial(job, state)
        assert record.status == "done" and predictions is not None, record.failure
        if variant == "majority":
            assert record.notes.tuning is None and "tune" not in record.phase_seconds
            continue
        notes = record.notes.tuning
        assert notes is not None
        assert len(notes.tried) == 2 and notes.folds == 2
        [chosen] = (dict(each) for each in job.trial.candidates if notes.chosen.items() <= each.items())
        assert record.trial.settings == chosen
        untuned = replace(job.trial, candidates=(record.trial.settings,), tuning=None)
        plain, expected = run_trial(replace(job, trial=untuned), state)
        assert expected is not None and plain.cost is not None and record.cost is not None
        assert predictions.equals(expected)
        assert plain.cost.fit_tokens is not None and record.cost.fit_tokens is not None
        assert record.cost.fit_seconds is not None and record.cost.fit_seconds > notes.seconds > 0
        assert 0 < record.phase_seconds["tune"] < record.cost.fit_seconds
        if variant != "tfidf":
            assert record.cost.fit_tokens > plain.cost.fit_tokens


def test_what_is_tuned_and_how_enters_a_trials_identity(tuned_study: Study) -> None:
    ids = {variant: job.trial_id for variant, job in list_jobs(tuned_study).items()}
    more = tuned_study.model_copy(update={"tuning": Tuning(trials=2, folds=4)})
    others = {variant: job.trial_id for variant, job in list_jobs(more).items()}
    assert ids["majority"] == others["majority"]
    assert all(ids[variant] != others[variant] for variant in ids if variant != "majority")


def test_a_study_whose_draws_are_too_small_for_the_folds_is_refused(tuned_study: Study) -> None:
    small = tuned_study.model_copy(update={"shots": (2,)})
    with pytest.raises(StudyError, match=r"tuning.folds is 2 and the 2 shots hold 1 row labelled"):
        prepare_jobs(small, None)


def test_a_resolved_tuned_study_reads_back_as_itself(tuned_study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(tuned_study.to_yaml())
    assert load_study(path) == tuned_study


def test_folds_of_a_method_without_randomness_do_not_follow_the_studys_fit_seeds(study_file: Path) -> None:
    """Its id holds no fit seed: the same trial has the same folds, whichever seed is the study's first."""
    grid = "methods=[tfidf: {grid: {longest_phrase: [1, 2]}}, lora: {grid: {rank: [2, 4]}}]"
    axes = []
    for seeds in ("[0]", "[5]"):
        changes = [grid, "tuning={trials: 2, folds: 2}", f"fit_seeds={seeds}", "data_seeds=[0]", "baselines=false"]
        jobs, tasks = prepare_jobs(load_study(study_file, changes), None)
        [task] = tasks.values()
        axes.append({job.trial.method.name: (job.trial_id, name_axes(job.trial, task)) for job in jobs})
    assert axes[0]["tfidf"] == axes[1]["tfidf"]
    assert axes[0]["lora"][0] != axes[1]["lora"][0] and axes[0]["lora"][1] != axes[1]["lora"][1]
