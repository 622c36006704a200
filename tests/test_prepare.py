"""What does not fit is told before anything is loaded: teachers of another vocabulary, methods a model cannot have."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import tiny_models
from fewtune.cli import main
from fewtune.engine import loading
from fewtune.errors import DataError, StudyError
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import WorkerState, run_trial
from fewtune.study import ModelChoice, Study, load_study
from fewtune.tasks import hans

STUDY = """
name: misfits
models: [{model}]
tasks:
  - own_files: {{train: {data}, text: text, label: label, as: feelings}}
methods:
{methods}
shots: [8]
precision: float32
baselines: false
"""


def fill(folder: Path, study_file: Path, model: Path, *methods: str, more: str = "") -> Study:
    lines = "\n".join(f"  - {method}" for method in methods)
    path = folder / "study.yaml"
    path.write_text(more + STUDY.format(model=model, data=study_file.parent / "feelings.csv", methods=lines))
    return load_study(path)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """The tiny Llama with a tokenizer that was trained on other texts."""
    return tiny_models.save("llama", tmp_path / "stranger", more=["quibbles and quarrels"] * 50)


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no weights may be read")

    monkeypatch.setattr(loading, "load_model", refuse)


@pytest.mark.usefixtures("nothing_loads")
def test_a_teacher_of_another_vocabulary_is_refused_where_that_is_compared(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path], stranger: Path
) -> None:
    method = f"context_distillation: {{calibration: none, teacher: {stranger}, kl_over: %s}}"
    study = fill(tmp_path, study_file, model_folders["llama"], method % "vocabulary")
    with pytest.raises(StudyError) as caught:
        prepare_jobs(study, None)
    student = model_folders["llama"]
    words = f"teacher {str(stranger)!r} and student {str(student)!r} have different vocabularies"
    message = f"context_distillation: {words}. Use a teacher of the student's family."
    assert [fault.message for fault in caught.value.faults] == [message]
    prepare_jobs(fill(tmp_path, study_file, stranger, method % "vocabulary"), None)
    prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], method % "label_words"), None)


@pytest.mark.usefixtures("nothing_loads")
def test_what_a_model_cannot_have_is_told_and_recorded_without_loading_it(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {
        "adaptive: {blocks: 9}": "blocks is 9 and the model has 3 blocks: set 3 or fewer",
        "bitfit": "model type 'llama' has no biases",
        "context_distillation: {calibration: none, student: last_blocks, blocks: 9}": "blocks is 9 and the model",
        "probe: {layer: 9}": "layer is 9 and the model has 3 blocks: set 3 or fewer",
        "soft_prompt: {tokens: 100}": "tokens is 100 and the model reads 128: set 64 or fewer",
    }
    jobs, _ = prepare_jobs(
        fill(tmp_path, study_file, model_folders["llama"], *wanted, "soft_prompt: {kind: prefix}"), None
    )
    assert len(jobs) == 6 and jobs[-1].skip_reason is None
    for job, reason in zip(jobs, wanted.values(), strict=False):
        assert job.skip_reason is not None and job.skip_reason.startswith(reason)
        record, predictions = run_trial(job, WorkerState())
        assert predictions is None and record.status == "skipped" and record.failure is not None
        assert record.failure.message == job.skip_reason
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path / "study.yaml")])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for method, reason in wanted.items():
        on = re.escape(str(model_folders["llama"]))
        assert re.search(
            rf"will be skipped \([^)]*\b{method.split(':')[0]}\b[^)]* on {on}\): {re.escape(reason)}", text
        )


def test_a_grid_is_skipped_only_where_every_setting_of_it_is(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    tuning = "tuning: {trials: 2, folds: 2}"
    some, every = ("adaptive: {epochs: 1, grid: {blocks: [9, 1]}}", "adaptive: {epochs: 1, grid: {blocks: [9, 8]}}")
    ((job,), _) = prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], some, more=tuning), None)
    record, _ = run_trial(job, WorkerState())
    assert record.status == "done" and record.trial.settings["blocks"] == 1
    assert record.notes.tuning.tried[0].failure == "blocks is 9 and the model has 3 blocks: set 3 or fewer"
    ((job,), _) = prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], every, more=tuning), None)
    assert job.skip_reason == "blocks is 9 and the model has 3 blocks: set 3 or fewer"


def test_a_task_that_stands_twice_is_refused(tmp_path: Path, study_file: Path, model_folders: dict[str, Path]) -> None:
    study = fill(tmp_path, study_file, model_folders["llama"], "pattern")
    text = (tmp_path / "study.yaml").read_text()
    line = next(line for line in text.splitlines() if "own_files" in line)
    twin = line.replace("as: feelings", "as: twins, metric: macro_f1")
    (tmp_path / "study.yaml").write_text(text.replace(line, f"{line}\n{twin}"))
    assert len(study.tasks) == 1
    with pytest.raises(StudyError, match="tasks feelings and twins have the same rows and patterns"):
        prepare_jobs(load_study(tmp_path / "study.yaml"), None)


def test_what_changes_nothing_makes_no_further_trials(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    given = 'tasks.0.own_files.patterns=[{name: a, template: "{text} A:", label_words: [" bad", " good"]}, '
    given += '{name: b, template: "{text} B:", label_words: [" bad", " good"]}]'
    methods = (
        "in_context: {demonstrations: 0, as: asked}",
        "in_context: {demonstrations: 2, as: shown}",
        "vanilla: {as: plain}",
        "vanilla: {prompted: true, as: prompted}",
    )
    fill(tmp_path, study_file, model_folders["llama"], *methods, more="patterns: all\nfit_seeds: [0, 1, 2]")
    jobs, _ = prepare_jobs(load_study(tmp_path / "study.yaml", [given]), None)
    trials = Counter(job.trial.method.variant for job in jobs)
    assert trials == {"asked": 2, "shown": 6, "plain": 3, "prompted": 6}


def test_a_method_whose_settings_come_to_anothers_is_refused(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    methods = ("in_context: {as: a, demonstrations: 8}", "in_context: {as: b, demonstrations: 8, contexts: 4}")
    with pytest.raises(StudyError, match="b: its settings come to those of a for every task"):
        prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], *methods), None)


def test_a_teachers_revision_goes_with_each_job(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    taught = f"context_distillation: {{calibration: none, teacher: {model_folders['gpt2']}}}"
    study = fill(tmp_path, study_file, model_folders["llama"], taught)
    named = [*study.models, ModelChoice(name=str(model_folders["gpt2"]), revision="v2")]
    jobs, _ = prepare_jobs(study.model_copy(update={"models": tuple(named)}), None)
    assert [dict(job.revisions) for job in jobs] == [{str(model_folders["gpt2"]): "v2"}] * 2


def test_patterns_in_a_grid_are_chosen_from_and_not_spread(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    more = "patterns: all\ntuning: {trials: 2, folds: 2}"
    tuned = "pattern: {epochs: 1, grid: {pattern: [null, plain]}}"
    study = fill(tmp_path, study_file, model_folders["llama"], tuned, more=more)
    with pytest.raises(StudyError, match="unknown pattern of feelings 'plain'"):
        prepare_jobs(study, None)
    rates = "pattern: {epochs: 1, grid: {learning_rate: [1e-5, 1e-4]}}"
    spread, tasks = prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], rates, more=more), None)
    (derived,) = (pattern.name for pattern in tasks["feelings"].patterns)
    assert [job.trial.pattern for job in spread] == [derived]
    chosen = tuned.replace("plain", derived)
    with pytest.raises(StudyError, match="settings 1 and 2 of its grid come to one on feelings with 8 shots"):
        prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], chosen, more=more), None)
    study = two_patterns(fill(tmp_path, study_file, model_folders["llama"], tuned, more=more))
    ((job,), _) = prepare_jobs(study, None)
    assert job.trial.pattern is None and len(job.trial.candidates) == 2


def two_patterns(study: Study) -> Study:
    """The study with two patterns of its own task, `derived` and `plain`."""
    words = [" good", " bad"]
    given = [{"name": name, "template": "{text} " + name, "label_words": words} for name in ("derived", "plain")]
    [task] = study.tasks
    settings = {**task.settings, "patterns": given}
    return study.model_copy(update={"tasks": (task.model_copy(update={"settings": settings}),)})


def test_a_methods_own_pattern_takes_no_trial_of_one_that_runs_under_all(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    fixed, spread = "pattern: {epochs: 1, as: fixed, pattern: plain}", "pattern: {epochs: 1, as: spread}"
    for methods in ((fixed, spread), (spread, fixed)):
        study = two_patterns(fill(tmp_path, study_file, model_folders["llama"], *methods, more="patterns: all"))
        with pytest.raises(StudyError) as caught:
            prepare_jobs(study, None)
        assert "fixed: its trials are those of spread under the pattern 'plain'" in str(caught.value)


def test_one_pattern_alone_is_no_spread_that_another_method_could_take_from(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    methods = ("pattern: {epochs: 1, as: fixed, pattern: plain}", "pattern: {epochs: 1, as: spread}")
    study = two_patterns(fill(tmp_path, study_file, model_folders["llama"], *methods, more="patterns: all\n"))
    with pytest.raises(StudyError, match="its settings come to those of") as caught:
        prepare_jobs(study.model_copy(update={"patterns": {"feelings": ("plain",)}}), None)
    assert "under the pattern" not in str(caught.value)


def test_a_candidate_that_fails_is_left_to_tuning(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    more, tuned = "tuning: {trials: 2, folds: 2}\n", "pattern: {epochs: 1, grid: {validation_fraction: [0.0, 0.1]}}"
    jobs, _ = prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], tuned, more=more), None)
    assert len(jobs[0].trial.candidates) == 2


def test_epochs_in_a_grid_beside_steps_are_told_to_do_nothing(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    more, tuned = "tuning: {trials: 2, folds: 2}", "pattern: {steps: 3, grid: {epochs: [1, 2]}}"
    with pytest.raises(StudyError, match="come to one on feelings"):
        prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], tuned, more=more), None)


def test_a_share_held_out_that_leaves_a_label_without_rows_is_told_before(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    study = fill(tmp_path, study_file, model_folders["llama"], "pattern: {epochs: 1, validation_fraction: 0.1}")
    with pytest.raises(StudyError, match=r"pattern: validation_fraction 0.1 of the 4 support rows of one label"):
        prepare_jobs(study, None)


def test_a_share_held_out_that_a_fold_has_no_rows_for_is_told_before(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    """Of four rows a label .15 rounds to one, of the two that a fold leaves to none."""
    more = "tuning: {trials: 2, folds: 2}\n"
    tuned = "pattern: {epochs: 1, validation_fraction: 0.15, grid: {learning_rate: [1.0e-5, 1.0e-4]}}"
    with pytest.raises(StudyError, match=r"pattern: validation_fraction 0.15 of the 2 support rows of one label"):
        prepare_jobs(fill(tmp_path, study_file, model_folders["llama"], tuned, more=more), None)


def test_natural_draws_without_a_label_are_told_with_seeds_that_hold_all(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    study = fill(tmp_path, study_file, model_folders["llama"], "majority", more="sampling: natural\n")
    study = study.model_copy(update={"shots": (3,), "data_seeds": tuple(range(20))})
    with pytest.raises(StudyError) as caught:
        prepare_jobs(study, None)
    told = re.search(r"with these all is there: data_seeds: (\[.*?\])", str(caught.value))
    assert told
    sound = json.loads(told[1])
    assert len(sound) == 20 and not set(sound) & set(json.loads(f"[{format_list(str(caught.value))}]"))
    prepare_jobs(study.model_copy(update={"data_seeds": tuple(sound)}), None)


def format_list(told: str) -> str:
    """What stands in the first list of numbers."""
    found = re.search(r"data seeds \[(.*?)\]", told)
    assert found
    return found[1]


def test_teachers_are_asked_of_the_models_that_their_method_runs_on(
    tmp_path: Path, study_file: Path, model_folders: dict[str, Path]
) -> None:
    student, encoder = model_folders["llama"], model_folders["bert"]
    taught = (
        f"context_distillation: {{calibration: none, kl_over: vocabulary, teacher: {student}, models: [{student}]}}"
    )
    study = fill(tmp_path, study_file, student, taught)
    both = study.model_copy(update={"models": (*study.models, ModelChoice(name=str(encoder)))})
    prepare_jobs(both, None)
    wrong = fill(tmp_path, study_file, student, f"context_distillation: {{calibration: none, teacher: {encoder}}}")
    with pytest.raises(StudyError, match="is an encoder, whose rows cannot go on from a context"):
        prepare_jobs(wrong, None)


def test_a_task_without_two_labels_or_with_an_empty_test_set_is_told(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for task, told in (
        ("questions: {fewest_rows: 100}", "only 1 label is left"),
        ("sentiment: {neutral_below: 3.0}", "the test set nyt has no rows left"),
    ):
        path.write_text(f"name: odd\ntasks: [{task}]\nmethods: [tfidf]\nshots: [4]\nbaselines: false\n")
        with pytest.raises(StudyError, match=told):
            prepare_jobs(load_study(path), None)


def test_a_hans_file_without_its_facets_is_told() -> None:
    rows = [{"sentence1": "a man ate", "sentence2": "he ate", "gold_label": "entailment"}]
    with pytest.raises(DataError, match="row 1 has no column 'heuristic'"):
        hans._make_rows(rows, "hans.jsonl")
