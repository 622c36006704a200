"""Trials end in records that stand alone, repeat exactly, survive failures and are not run twice."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tiny_models
from fewtune.engine import loading, pages
from fewtune.engine.meter import Meter
from fewtune.errors import StudyError, TrialFailure
from fewtune.methods import embeddings, majority
from fewtune.models import ModelSnapshot, find_model
from fewtune.records import PHASES, load_predictions, load_records
from fewtune.running import trial as run_module
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.trial_inputs import load_trial
from fewtune.running.worker import WorkerState
from fewtune.study import Study, load_study
from listening import Listener, run_jobs


@pytest.fixture(scope="session")
def study(study_file: Path) -> Study:
    return load_study(study_file)


@pytest.fixture(scope="session")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole study has run, in a worker process as users run it."""
    out = tmp_path_factory.mktemp("finished")
    listener = Listener()
    jobs, _ = prepare_jobs(study, None)
    run_jobs(jobs, out, listener)
    assert [r.status for r in listener.records] == ["done"] * 8
    assert any(p.phase == "fitting" and p.step == p.steps and p.loss is not None for p in listener.progress)
    return out


def test_a_study_run_twice_gives_equal_predictions_row_for_row(finished: Path, study: Study) -> None:
    state = WorkerState()
    for job in prepare_jobs(study, None)[0]:
        record, predictions = run_trial(job, state)
        assert record.status == "done" and predictions is not None
        assert_frame_equal(predictions, load_predictions(finished, job.trial_id), check_exact=True)


def test_accuracy_recomputed_from_the_predictions_equals_the_record(finished: Path) -> None:
    for record in load_records(finished):
        predictions = load_predictions(finished, record.trial_id)
        assert predictions.columns == ["test_set", "row_id", "gold", "predicted", "score_bad", "score_good"]
        for test_set, metrics in record.metrics.items():
            rows = predictions.filter(pl.col("test_set") == test_set)
            assert (rows["gold"] == rows["predicted"]).mean() == pytest.approx(metrics["accuracy"])
            assert rows.height == record.baselines[test_set]["rows"]


def test_a_record_stands_alone(finished: Path) -> None:
    by_method = {r.trial.method: r for r in load_records(finished)}
    pattern = by_method["pattern"]
    assert pattern.cost is not None and by_method["in_context"].cost is not None
    assert pattern.cost.fit_seconds and pattern.cost.predict_seconds and pattern.cost.fit_tokens
    held, allocated = pattern.cost.resident_memory_bytes, pattern.cost.peak_memory_bytes
    assert held is not None and (allocated is None or held > allocated), "libraries are held too"
    assert pattern.cost.trainable_parameters == pattern.cost.total_parameters
    assert by_method["in_context"].cost.trainable_parameters == 0
    assert set(pattern.fingerprints) == {"data", "draw", "weights"}
    assert set(by_method["majority"].fingerprints) == {"data", "draw"}
    assert by_method["majority"].trial.model is None
    assert {"torch", "transformers", "fewtune"} <= set(pattern.environment["packages"])
    assert pattern.environment["precision"] == "float32"
    assert len(pattern.notes.fit.losses) == 2
    assert pattern.notes.fit.groups[0].tensors > 0
    assert pattern.notes.prompt.cut.rows == 0
    assert pattern.baselines["in_domain"]["chance"] == 0.5


def test_a_trials_seconds_are_told_by_phase(finished: Path) -> None:
    for record in load_records(finished):
        assert record.cost is not None and record.cost.fit_seconds is not None
        spent = record.phase_seconds
        assert set(spent) <= set(PHASES) and min(spent.values()) >= 0
        assert {"load", "prepare", "fit", "score", "other"} <= set(spent)
        assert ("tokenise" in spent) == (record.trial.model is not None)
        assert spent["prepare"] + spent["fit"] <= record.cost.fit_seconds + 1e-5


def test_every_method_sees_the_same_draw(finished: Path) -> None:
    draws: dict[int, set[str]] = {}
    for record in load_records(finished):
        draws.setdefault(record.trial.data_seed, set()).add(record.fingerprints["draw"])
    assert all(len(found) == 1 for found in draws.values())
    assert draws[0] != draws[1]


def test_records_hold_no_texts(finished: Path) -> None:
    texts = (*tiny_models.GOOD, *tiny_models.BAD)
    for path in (finished / "trials").glob("*.json"):
        assert not [t for t in texts if t in path.read_text()]


def test_a_failing_trial_is_recorded_with_its_reason(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, _ = prepare_jobs(study, None)

    method = majority.METHOD
    for error, kind in (
        (ValueError("seven of\nnine"), "error"),
        (TrialFailure("diverged", "the loss became nan"), "diverged"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
    ):
        plan = Mock(side_effect=error)
        monkeypatch.setattr(run_module, "get_method", lambda name, plan=plan: replace(method, plan=plan))
        record, predictions = run_trial(jobs[0], WorkerState())
        assert predictions is None and record.status == "failed" and not record.reusable
        assert record.failure is not None and record.failure.kind == kind
        assert "\n" not in record.failure.message and record.failure.trace
        assert record.metrics == {} and record.cost is None
        assert set(record.phase_seconds) == {"load", "fit", "prepare", "other"}, "it took its time all the same"


def test_a_method_never_meets_a_test_row_or_the_training_rows(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[Any] = []
    method = majority.METHOD

    def watch(settings: Any, model: Any, task: Any, draw: Any, rng: Any) -> Any:
        met.append((task, draw))
        plan = method.plan(settings, model, task, draw, rng)
        predictor = plan.predictor

        def score(rows: Any) -> Any:
            met.append(rows)
            return predictor.log_probabilities(rows)

        watched: Any = SimpleNamespace(log_probabilities=score)
        return replace(plan, predictor=replace(predictor, scorer=watched))

    monkeypatch.setattr(run_module, "get_method", lambda name: replace(method, plan=watch))
    run_trial(prepare_jobs(study, None)[0][0], WorkerState())
    (task, draw), *scored = met
    assert task.train == () and task.test_sets == () and draw.test_sets == ()
    assert all(row.label is None for row in draw.pool)
    assert scored and all(row.label is None and row.facets == {} for rows in scored for row in rows)


def test_everything_that_cannot_run_is_told_before_anything_runs(study_file: Path, tmp_path: Path) -> None:
    study = load_study(
        study_file, ["models=[nowhere/at-all, ./no-folder, smollm2-153m]", "shots=[4, 4000]", "max_tokens=4096"]
    )
    with pytest.raises(StudyError) as caught:
        prepare_jobs(study, tmp_path)
    told = str(caught.value)
    assert "4000 shots" in told
    assert "'nowhere/at-all' could not be downloaded" in told and "HF_HUB_OFFLINE" in told and "smollm2-135m" in told
    assert "unknown model './no-folder'" in told
    assert "Did you mean 'smollm2-135m'?" in told


def test_more_tokens_than_the_model_reads_is_told(study_file: Path) -> None:
    with pytest.raises(StudyError, match="max_tokens is 4096, the model reads 128"):
        prepare_jobs(load_study(study_file, ["max_tokens=4096"]), None)


def test_methods_run_under_every_pattern_that_the_study_names(study_file: Path) -> None:
    given = 'tasks.0.own_files.patterns=[{name: a, template: "{text} A:", label_words: [" bad", " good"]}, '
    given += '{name: b, template: "{text} B:", label_words: [" bad", " good"]}]'
    jobs, _ = prepare_jobs(load_study(study_file, [given, "patterns=all", "data_seeds=[0]"]), None)
    under = [(job.trial.method.variant, job.trial.pattern) for job in jobs]
    assert under == [
        ("majority", None),
        *((name, pattern) for name in ("in_context", "pattern", "lora") for pattern in ("a", "b")),
    ]
    assert len({job.trial_id for job in jobs}) == 7
    record, _ = run_trial(jobs[1], WorkerState())
    assert record.trial.pattern == "a" and record.notes.prompt.template == "{text} A:"
    some, _ = prepare_jobs(load_study(study_file, [given, "patterns={feelings: [b]}", "data_seeds=[0]"]), None)
    assert {job.trial_id for job in some} < {job.trial_id for job in jobs}
    with pytest.raises(StudyError, match="unknown pattern 'c'"):
        prepare_jobs(load_study(study_file, [given, "patterns={feelings: [c]}"]), None)
    with pytest.raises(StudyError, match=r"unknown task of this study 'feeling'\. Did you mean 'feelings'"):
        prepare_jobs(load_study(study_file, [given, "patterns={feeling: [a]}"]), None)


def test_scoring_test_rows_in_the_middle_of_a_fit_changes_nothing_and_is_not_counted(study: Study) -> None:
    state = WorkerState()
    evaluation = study.evaluation.model_copy(update={"checkpoint_every": 1})
    for job in prepare_jobs(study, None)[0][:4]:
        plain, expected = run_trial(job, state)
        looked = replace(job, trial=replace(job.trial, evaluation=evaluation))
        record, predictions = run_trial(looked, state)
        assert expected is not None and predictions is not None and predictions.equals(expected)
        assert record.cost is not None and plain.cost is not None
        assert record.cost.fit_tokens == plain.cost.fit_tokens
        assert record.cost.predict_tokens == plain.cost.predict_tokens
        assert record.cost.fit_seconds is not None and record.cost.predict_seconds is not None
        inside = sum(spent for name, spent in record.phase_seconds.items() if name not in ("load", "other"))
        spent = record.cost.fit_seconds + record.cost.predict_seconds - (record.cost.shared_seconds or 0.0)
        assert inside >= spent - 1e-5
        trains = record.trial.method in ("pattern", "lora")
        assert [c.epoch for c in record.checkpoints] == ([1, 2] if trains else [])
        if trains:
            assert record.checkpoints[-1].metrics == record.metrics


def test_a_teachers_model_is_read_once_and_is_ready_before_memory_is_watched(
    study: Study, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = loading.load_model

    def count(place: ModelSnapshot, precision: Any) -> Any:
        read.append(place.name)
        return load(place, precision)

    monkeypatch.setattr(loading, "load_model", count)
    alone = next(job for job in prepare_jobs(study, None)[0] if job.weights)
    alone = replace(alone, trial=replace(alone.trial, precision="bfloat16"))
    teacher = find_model(str(model_folders["gpt2"]))
    taught = replace(alone, weights={**alone.weights, teacher.name: teacher.weights_fingerprint})
    state = WorkerState()
    for job in (alone, taught, alone, taught):
        model, seconds = state.model(job)
        assert model is not None and seconds is not None
        assert [model.name, *model.others] == list(job.weights)
        assert all(model.find(name).networks.alive for name in job.weights)
    assert len(read) == 2
    assert model is not None
    before = weakref.ref(model.find(teacher.name).networks)
    del model
    for name, stays in (("opt", True), ("opt-350m-shaped", False)):
        other = find_model(str(model_folders[name]))
        state.model(replace(alone, weights={**alone.weights, other.name: other.weights_fingerprint}))
        gc.collect()
        assert (before() is not None) == stays, "two teachers stay, the latest"


def test_pages_wait_for_another_draw_of_the_trial_that_left_them(
    study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[str] = []
    trials: list[str] = []
    state = WorkerState()
    monkeypatch.setattr(pages, "give_back_kept_pages", lambda: given_back.append(trials[-1]))
    methods = "methods=[zero_shot, zero_shot: {as: other, calibration: none}]"
    jobs = prepare_jobs(load_study(study_file, [methods, "data_seeds=[0, 1]"]), None)[0]
    jobs.sort(key=lambda job: job.trial.method.variant)
    for job in [*jobs, jobs[0]]:
        trials.append(f"{job.trial.method.variant} {job.trial.data_seed}")
        meter = Meter()
        load_trial(job, state, meter)
        meter.close()
    assert given_back == ["other 0", "zero_shot 0", "other 0"]


def test_a_worker_never_collects_through_the_libraries_it_imported_without_a_word() -> None:
    code = (
        "import gc, sys; from fewtune.running.executors.process import import_engine; import_engine(); "
        "assert {'peft', 'torch', 'transformers', 'sklearn'} <= set(sys.modules); "
        "assert gc.get_freeze_count() > 100_000 and len(gc.get_objects()) < 10_000"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stderr == b""


def test_a_trial_notes_what_its_defaults_were_chosen_from_and_nothing_where_it_has_others(
    study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "METHOD", replace(embeddings.METHOD, defaults_tried={}))
    methods = [
        "in_context",
        "in_context: {as: fewer, demonstrations: 2}",
        "zero_shot",
        "embeddings",
        "pattern: {epochs: 1}",
    ]
    study = load_study(study_file, [f"methods=[{', '.join(methods)}]", "data_seeds=[0]"])
    state, noted = WorkerState(), {}
    for job in prepare_jobs(study, None)[0]:
        record, _ = run_trial(job, state)
        assert record.status == "done", record.failure
        noted[record.trial.variant] = record.notes.defaults_tried
    assert noted == {
        "in_context": {"sentiment": 39, "cola": 34, "qqp": 30, "snli": 30},
        "fewer": {},
        "zero_shot": {},
        "embeddings": {"feelings": 0},  # nobody tried any, under the name that the task has in this study
        "pattern": {"sentiment": 12, "cola": 12, "qqp": 2, "snli": 2},  # how long it trains goes with the shots
    }
