"""Forecasts: what a part of a trial says of the whole, which trials are measured, and what a budget of memory skips."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from fewtune.api import run_study
from fewtune.engine.fitting import FitExample, Fitting
from fewtune.engine.schedule import Optimisation
from fewtune.errors import RecordError, StudyError
from fewtune.records import Cost, Record, TrialAxes, load_records
from fewtune.running import excerpt
from fewtune.running.excerpt import _Pace, _part_cost, _project_fit, _project_tuning, _score_some
from fewtune.running.executors.in_process import InProcess
from fewtune.running.forecast import forecast_trials
from fewtune.running.job import Event, Excerpt, Finished, Job, Lost, Started, WorkerOptions
from fewtune.running.prepare import prepare_jobs
from fewtune.running.row_choice import choose_rows
from fewtune.running.run_study import Forecasted, Measuring, Noticed, StudyEvent
from fewtune.running.trial import run_trial
from fewtune.running.trial_metadata import describe_axes
from fewtune.running.worker import WorkerState
from fewtune.study import Tuning, load_study, read_study
from fewtune.system.processor import name_processor
from fewtune.tasks.base import Draw, Example, Task
from study_maker import make_answers, make_record

LABELS = ("bad", "good")
GIBIBYTE = 2**30


class Measured:
    """An executor whose trials take and hold what a test tells; excerpts are told apart."""

    options, runs_here = WorkerOptions(), True

    def __init__(self, memory: Mapping[str, float], dies: Sequence[str] = ()) -> None:
        self._memory, self._dies = memory, dies
        self.excerpts: list[tuple[str, int]] = []
        self.ran: list[str] = []

    def close(self) -> None:
        return

    def settle(self, jobs: Sequence[Job], known: Iterable[Record]) -> None:
        return

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        for job in jobs:
            yield Started(job)
            variant = job.trial.method.variant
            if job.excerpt is not None:
                self.excerpts.append((variant, job.trial.shots))
            if variant in self._dies and job.excerpt is not None:
                yield Lost(job, "the process that ran this trial ended by SIGKILL")
            elif job.skip_reason is not None:
                yield from InProcess().run([job])
            else:
                self.ran += [] if job.excerpt is not None else [variant]
                yield Finished(job, *self._answer(job, variant))

    def _answer(self, job: Job, variant: str) -> tuple[Record, pl.DataFrame]:
        table = make_answers("in_domain", 0.8, job.trial.data_seed, LABELS, 40, np.random.default_rng(0))
        record = make_record(describe_axes(job.trial), {"in_domain": table}, LABELS, "accuracy", ())
        cost = Cost(
            fit_seconds=11.0,
            predict_seconds=5.0,
            predict_rows=400,
            load_seconds=2.0,
            peak_memory_bytes=None,
            resident_memory_bytes=round(self._memory[variant] * GIBIBYTE),
            trainable_parameters=0,
            total_parameters=0,
            fit_tokens=0,
            predict_tokens=0,
        )
        seconds = {"load": 2.0, "prepare": 1.0, "fit": 10.0, "score": 5.0}
        return (
            record.model_copy(
                update={
                    "trial_id": job.trial_id,
                    "cost": cost,
                    "phase_seconds": seconds,
                    "environment": {"processor": name_processor()},
                }
            ),
            table,
        )


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """Two methods at two numbers of shots, three draws: twelve trials."""
    rows = "".join(f"{word} {i},{word}\n" for i in range(20) for word in LABELS)
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    return {
        "name": "foreseen",
        "tasks": [{"own_files": {"train": str(tmp_path / "rows.csv"), "as": "feelings"}}],
        "methods": [{"tfidf": {"as": name, "inverse_penalty": at}} for name, at in (("a", 1.0), ("b", 2.0))],
        "shots": [4, 8],
        "data_seeds": {"count": 3},
        "baselines": False,
    }


def test_each_method_is_measured_once_at_its_most_shots(values: dict[str, Any]) -> None:
    jobs, _ = prepare_jobs(read_study(values), None)
    executor = Measured({"a": 1.0, "b": 1.5})
    found = forecast_trials(jobs, [], executor)
    assert executor.excerpts == [("a", 8), ("b", 8)] and executor.ran == []
    # The fit of half as many shots takes half as long: 1 + 5 + 5 and 1 + 10 + 5, the model's loading once apart.
    seconds = {(each.cell.variant, each.cell.shots): each.seconds for each in found.cells}
    assert seconds == {("a", 4): 11.0, ("b", 4): 11.0, ("a", 8): 16.0, ("b", 8): 16.0}
    assert found.seconds == pytest.approx(3 * 54 + 2)
    assert found.memory_bytes == round(1.5 * GIBIBYTE)
    assert found.disk_bytes is not None and found.disk_bytes > 0


def test_records_at_hand_are_gone_by_where_this_processor_made_them(values: dict[str, Any], tmp_path: Path) -> None:
    study = read_study({**values, "data_seeds": [0]})
    run_study(study, tmp_path / "out", executor=Measured({"a": 1.0, "b": 1.0}))
    known = load_records(tmp_path / "out")
    elsewhere = [r.model_copy(update={"environment": {"processor": "another"}}) for r in known]
    jobs, _ = prepare_jobs(read_study(values), None)
    jobs = [job for job in jobs if job.trial.data_seed]
    # By records a trial of four shots takes what such trials took, 16 s; by an excerpt of eight shots 11 s.
    for records, excerpts, draw_seconds in ((known, [], 64), (elsewhere, [("a", 8), ("b", 8)], 54)):
        executor = Measured({"a": 9.0, "b": 9.0})
        found = forecast_trials(jobs, records, executor)
        assert executor.excerpts == excerpts
        assert {each.from_records for each in found.cells} == {not excerpts}
        assert found.seconds == pytest.approx(2 * draw_seconds + 2)


def test_records_of_fewer_shots_alone_do_not_say_what_more_would_hold(values: dict[str, Any], tmp_path: Path) -> None:
    run_study({**values, "shots": [4]}, tmp_path / "out", executor=Measured({"a": 1.0, "b": 1.0}))
    few = load_records(tmp_path / "out")
    jobs, _ = prepare_jobs(read_study({**values, "data_seeds": [7]}), None)
    executor = Measured({"a": 2.0, "b": 2.0})
    assert forecast_trials(jobs, few, executor).memory_bytes == 2 * GIBIBYTE
    assert executor.excerpts == [("a", 8), ("b", 8)]
    # With records of both, each number of shots is thought to hold what it held.
    run_study({**values, "shots": [8]}, tmp_path / "more", executor=Measured({"a": 3.0, "b": 3.0}))
    found = forecast_trials(jobs, [*few, *load_records(tmp_path / "more")], Measured({}))
    assert {(each.cell.shots, each.memory_bytes) for each in found.cells} == {(4, GIBIBYTE), (8, 3 * GIBIBYTE)}


def test_rows_left_open_are_chosen_once_by_what_a_fit_and_a_row_take(values: dict[str, Any], tmp_path: Path) -> None:
    study = {**values, "evaluation": {"in_domain_rows": "auto"}}
    notices: list[str] = []
    executor = Measured({"a": 1.0, "b": 1.0})

    def hear(event: StudyEvent) -> None:
        if isinstance(event, Noticed):
            notices.append(event.text)

    run_study(study, tmp_path / "out", executor=executor, on_event=hear)
    assert executor.excerpts == [("a", 8), ("b", 8)] and len(executor.ran) == 12
    # 11 s before scoring and 5 s for 400 rows: the root of 200 · 11 / 0.0125 is 419.5.
    assert notices == ["evaluation.in_domain_rows: auto: 420 rows, by what the methods take here."]
    assert load_study(tmp_path / "out" / "study.yaml").evaluation.in_domain_rows == 420
    again = Measured({"a": 1.0, "b": 1.0})
    run_study(study, tmp_path / "out", executor=again)
    assert not again.excerpts and not again.ran, "the folder keeps the number"
    with pytest.raises(RecordError, match="it differs in evaluation"):
        run_study(values, tmp_path / "out", executor=again)


def test_rows_are_not_fewer_than_a_hundred_and_as_assumed_where_nothing_was_measured() -> None:
    assert choose_rows([]) == 500
    axes = TrialAxes(model=None, task="t", method="tfidf", variant="a", shots=4, data_seed=0, fit_seed=0, settings={})
    whole = make_record(axes, {}, LABELS, "accuracy", ())
    cost = Cost.model_validate(dict.fromkeys(Cost.model_fields, None) | {"fit_seconds": 0.0, "predict_rows": 700})
    seconds = {"prepare": 0.0, "fit": 0.0, "score": 7.0}
    # 200 rows out of domain are a draw's whatever its rows in domain: 2 s beside 0.01 s a row, the root of 40,000.
    assert choose_rows([whole.model_copy(update={"cost": cost, "phase_seconds": seconds})]) == 200
    tuned = {**seconds, "tune": 6.0}  # four times as long a draw beside its rows: twice as many
    assert choose_rows([whole.model_copy(update={"cost": cost, "phase_seconds": tuned})]) == 400
    few = cost.model_copy(update={"predict_rows": 500})
    assert choose_rows([whole.model_copy(update={"cost": few, "phase_seconds": seconds})]) == 100


def test_a_budget_of_memory_skips_what_would_hold_more_with_its_reason(values: dict[str, Any], tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    executor = Measured({"a": 1.0, "b": 3.0})
    study = {**values, "budget": {"memory": "2GiB"}}
    result = run_study(study, tmp_path / "out", executor=executor, on_event=events.append)
    assert set(executor.ran) == {"a"} and len(executor.ran) == 6
    skipped = [record for record in result.records if record.status == "skipped"]
    assert {record.trial.variant for record in skipped} == {"b"} and len(skipped) == 6
    assert {record.failure and record.failure.message for record in skipped} == {
        "forecast to hold 3.00 GiB of memory, beyond the budget of 2.00 GiB"
    }
    assert [event.job.trial.method.variant for event in events if isinstance(event, Measuring)] == ["a", "b"]
    assert [len(event.skipped) for event in events if isinstance(event, Forecasted)] == [6]
    # Without the budget they run; those that were done are gone by.
    again = Measured({"a": 1.0, "b": 3.0})
    run_study(values, tmp_path / "out", executor=again)
    assert set(again.ran) == {"b"} and again.excerpts == []


def test_a_method_whose_measuring_was_killed_is_not_let_into_a_budget_of_memory(
    values: dict[str, Any], tmp_path: Path
) -> None:
    executor = Measured({"a": 1.0}, dies=["b"])
    result = run_study({**values, "budget": {"memory": "2GiB"}}, tmp_path / "out", executor=executor)
    messages = {record.failure.message for record in result.records if record.failure is not None}
    assert messages == {
        "how much memory it holds could not be measured: the process that ran this trial ended by SIGKILL"
    }


def test_measuring_ends_with_the_budget_of_time(values: dict[str, Any]) -> None:
    executor = Measured({"a": 1.0, "b": 1.0})
    jobs, _ = prepare_jobs(read_study(values), None)
    found = forecast_trials(jobs, (), executor, is_spent=lambda: bool(executor.excerpts))
    assert [variant for variant, _ in executor.excerpts] == ["a"]
    faults = {each.cell.variant: each.fault for each in found.cells}
    assert faults["b"] == "the budget of time was spent before it was measured"
    assert found.seconds is None


@pytest.mark.parametrize(("memory", "told"), [("much", "it is 'much'"), (0, "it is '0'")])
def test_a_budget_of_memory_that_is_none_is_refused(values: dict[str, Any], memory: object, told: str) -> None:
    with pytest.raises(StudyError) as caught:
        read_study({**values, "budget": {"memory": memory}})
    assert f"`budget.memory`: {told}; give a number of bytes above 0" in str(caught.value)


def test_a_part_of_each_trial_runs_and_says_what_the_whole_takes(study_file: Path) -> None:
    study = load_study(study_file)
    jobs, _ = prepare_jobs(study, None)
    state = WorkerState()
    for job in {job.trial.method.variant: job for job in jobs}.values():
        told: list[str] = []
        short = Job(job.trial, job.trial_id, job.data, job.weights, excerpt=Excerpt(steps=1, rows=4))
        record, table = run_trial(short, state, lambda progress, told=told: told.append(progress.phase))  # type: ignore[misc]
        assert record.status == "done" and record.metrics == {}, record.failure
        assert table is not None and len(table) == 4
        assert record.cost is not None and record.phase_seconds["score"] > 0
        assert "measuring its answers" in told
        whole, _ = run_trial(job, state)
        assert whole.cost is not None
        assert record.cost.predict_rows == whole.cost.predict_rows
        assert record.cost.trainable_parameters == whole.cost.trainable_parameters
        assert (record.phase_seconds["fit"] > 0) == bool(whole.notes.fit.losses)


@pytest.mark.parametrize(
    ("rows", "passes", "seconds", "whole"),
    [
        # 80 rows once, 16 a step: three new steps ran, and two more like the third, not like the second, in which the
        # optimiser asks for memory; what ran again does not count.
        (80, {"epochs": 1}, [5.0, 9.0, 3.0, 1.0, 1.0], 5 + 9 + 3 + 2 * 3),
        # Three times: 32 new rows of 3 s a step, then ten steps of 1 s.
        (80, {"epochs": 3}, [5.0, 4.0, 3.0, 1.0, 1.0], 5 + 4 + 3 + 2 * 3 + 10),
        # As many steps as that said in steps.
        (80, {"epochs": 1, "steps": 15}, [5.0, 4.0, 3.0, 1.0, 1.0], 5 + 4 + 3 + 2 * 3 + 10),
        # Fewer rows than a step has.
        (8, {"epochs": 6}, [4.0, 2.0, 1.0, 1.0], 4 + 2 + 4),
        (8, {"epochs": 1}, [4.0], 4),
    ],
)
def test_a_whole_fit_is_new_rows_at_their_pace_and_all_others_at_theirs(
    rows: int, passes: dict[str, int], seconds: list[float], whole: float
) -> None:
    examples = tuple(FitExample([1] * (1 + row), 0) for row in range(rows))
    optimisation = Optimisation(batch_size=16, **passes)  # type: ignore[arg-type]
    fitting = Fitting((), examples, lambda batch: torch.zeros(len(batch)), optimisation, ())
    assert _project_fit(fitting, seconds) == pytest.approx(whole)


def test_an_excerpt_of_a_tuned_trial_counts_its_tuning(study_file: Path) -> None:
    tuned = ["methods=[lora: {epochs: 1, grid: {rank: [2, 4]}}]", "tuning={trials: 2, folds: 2}", "data_seeds=[0]"]
    [job] = prepare_jobs(load_study(study_file, tuned), None)[0]
    record, _ = run_trial(replace(job, excerpt=Excerpt(steps=1, rows=4)), WorkerState())
    assert record.cost is not None and record.cost.fit_seconds is not None
    seconds = record.phase_seconds
    assert seconds["tune"] > 4 * seconds["prepare"] > 0, "two settings in two folds"
    assert record.cost.fit_seconds == pytest.approx(seconds["prepare"] + seconds["fit"] + seconds["tune"])


def test_tuning_prepares_fits_and_asks_every_candidate_fold_by_fold() -> None:
    pace = _Pace(a_call=0.5, a_row=0.25)
    trial = SimpleNamespace(tuning=Tuning(trials=3, folds=4), candidates=({}, {}, {}))
    whole = _project_tuning(trial, 16, prepare=2.0, fit=8.0, pace=pace)  # type: ignore[arg-type]
    assert whole == pytest.approx(3 * 4 * (2 + 6 + 0.5 + 4 * 0.25))
    assert _project_tuning(SimpleNamespace(tuning=None), 16, 2.0, 8.0, pace) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "paces", "scored", "whole"),
    [
        # Calls of 2, 2, 8 and 8 rows: the last two take 2 and 1.2 s, 1.4 s more than the short one, for six rows more.
        (40, [0.5, 0.1, 0.25, 0.15], 20, 40 * 1.4 / 6),
        # Soon done: all rows there are, at one pace.
        (28, [0.01] * 5, 28, 0.28),
    ],
)
def test_rows_are_scored_until_it_took_three_seconds_or_none_are_left(
    rows: int,
    paces: list[float],
    scored: int,
    whole: float,
    task: Task,
    draw: Draw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    clock, calls = [0.0], iter(paces)
    monkeypatch.setattr(excerpt, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def score(part: Sequence[Example]) -> np.ndarray:
        asked.extend(row.row_id for row in part)
        clock[0] += next(calls) * len(part)
        return np.zeros((len(part), len(task.labels)))

    one = draw.test_sets[0].rows[0]
    test = replace(draw.test_sets[0], rows=tuple(replace(one, row_id=str(number)) for number in range(rows)))
    loaded = SimpleNamespace(task=task, draw=SimpleNamespace(test_sets=(test,)))
    plan = SimpleNamespace(score=score, reference_scorers={})
    seconds, pace, table = _score_some(plan, loaded, 8)  # type: ignore[arg-type]
    assert seconds == pytest.approx(whole) == pace.a_call + pace.a_row * rows and len(table) == 8
    assert asked == [str(number) for number in range(scored)]


def test_what_a_call_takes_whatever_its_rows_is_told_from_what_each_row_takes() -> None:
    # 0.4 s a call and 0.02 s a row.
    fixed, pace = _part_cost(few=24, short=0.88, many=96, long=2.32)
    assert (fixed, pace) == (pytest.approx(0.4), pytest.approx(0.02))
    # A short call that was held up says nothing: a row takes half of what the long one gives, at the least.
    assert _part_cost(few=24, short=5.0, many=96, long=2.4) == (pytest.approx(1.2), pytest.approx(0.0125))
