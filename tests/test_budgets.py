"""Budgets of time: what fits runs, every method once before any twice, and a race decides where they end it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fewtune.analysis.looks import spend_by
from fewtune.analysis.time_left import TimedTrials
from fewtune.api import run_study
from fewtune.errors import RecordError
from fewtune.records import (
    LookHistory,
    Status,
    load_looks,
    load_records,
    write_record,
)
from fewtune.running.job import Event, Job, Progress, Progressed, Started
from fewtune.running.look_count import look_at_end
from fewtune.running.order import put_methods_in_turn
from fewtune.running.prepare import prepare_jobs
from fewtune.running.run_study import StudyEvent, TrialsLeftOut
from fewtune.running.time_budget import TimeBudget
from fewtune.running.trial_metadata import describe_axes
from fewtune.study import read_study
from fewtune.system.processor import name_processor
from scripted_races import Clock, Scripted, Timed, draws_at, race, write_study


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    """A study of three methods."""
    return write_study(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("fewtune.running.run_study.TimeBudget", partial(TimeBudget, clock=made))
    return made


def by_bound(within: float) -> dict[str, object]:
    return {"until": {"within": within, "most_draws": 8}, "guarantee": "bound"}


@pytest.mark.parametrize(("processor", "draws"), [("another", 3), (name_processor(), 0)])
def test_a_budget_counts_by_what_this_machine_takes(
    processor: str, draws: int, values: dict[str, object], tmp_path: Path, clock: Clock
) -> None:
    means, seconds = {"majority": 0.5, "a": 0.8, "b": 0.8}, {"majority": 1, "a": 400, "b": 400}
    fixed = {**values, "until": None, "data_seeds": {"count": 1}}
    run_study(fixed, tmp_path / "out", executor=Timed(means, seconds, clock))
    for record in load_records(tmp_path / "out"):
        environment = record.environment | {"processor": processor}
        write_record(tmp_path / "out", record.model_copy(update={"environment": environment}))
    here = Timed(means, dict.fromkeys(seconds, 1), clock)
    more = {**fixed, "data_seeds": {"count": 4}, "budget": {"minutes": 3}}
    run_study(more, tmp_path / "out", executor=here)
    assert (here.draws("a"), here.draws("b")) == (draws, draws), "400 s each do not fit, where they are this machine's"


def test_a_trial_that_is_skipped_takes_nothing_of_a_budget(values: dict[str, object], clock: Clock) -> None:
    jobs, _ = prepare_jobs(read_study({**values, "until": None, "data_seeds": {"count": 1}}), None)
    asked = [replace(jobs[1], skip_reason="no"), jobs[1]]
    slow = TimedTrials()
    record, _ = Scripted({"majority": 0.5, "a": 0.5})._answer(jobs[1], jobs[1].trial.method.variant, 0)
    slow.add(record.model_copy(update={"phase_seconds": {"fit": 1000.0}}))
    assert list(TimeBudget(100, clock).ration(asked, slow, TimedTrials())) == asked[:1]


def test_a_budget_lets_run_what_fits_every_method_once_before_any_twice(
    values: dict[str, object], tmp_path: Path, clock: Clock
) -> None:
    executor = Timed({"majority": 0.5, "a": 0.8, "b": 0.8}, {"majority": 1, "a": 50, "b": 100}, clock)
    fixed = {**values, "until": None, "data_seeds": {"count": 9}, "shots": [4], "budget": {"minutes": 10}}
    events: list[StudyEvent] = []
    result = run_study(fixed, tmp_path / "out", executor=executor, on_event=events.append)
    left = [event for event in events if isinstance(event, TrialsLeftOut)]
    # 151 s a draw; 585 s but for the report: three draws, then what fits of the fourth and of later ones.
    assert [name for name, _, _ in executor.ran[:9]] == ["majority", "a", "b"] * 3
    assert executor.draws("b") == 3
    assert clock.now <= 585
    assert len(left) == 1 and len(left[0].jobs) == 27 - len(executor.ran)
    assert len(result.analysis.waiting) == 27 - len(executor.ran)
    looks = (load_looks(tmp_path / "out") or pytest.fail("no looks")).looks
    assert [(look.draws, look.methods) for look in looks] == [(3, 3)], "a look at the draws that all methods have"
    assert looks[0].level == pytest.approx(0.04)
    assert result.decision.question.level == looks[0].level, "bounds are of the draws that were looked at"
    assert result.decision.draws > 3, "what is expected takes all draws"


def test_a_budgets_end_is_a_look_at_each_place_by_itself_where_bounds_can_be_had(values: dict[str, object]) -> None:
    study = read_study({**values, "until": None, "shots": [4, 8], "data_seeds": {"count": 4}})
    jobs, _ = prepare_jobs(study, None)
    cells = {job.trial_id: describe_axes(job.trial).cell for job in jobs}

    def look(history: LookHistory, draws: int, without: str = "") -> list[tuple[int, int, int]]:
        done = [job for job in jobs if job.trial.shots == 4 or job.trial.data_seed < draws]
        begun = [job for job in done if job.trial.shots == 4 or job.trial.method.variant != without]
        have: dict[str, Status] = {job.trial_id: "done" for job in begun}
        found = look_at_end(history, jobs, cells, study.data_seeds, have).looks
        return [(each.shots, each.draws, each.methods) for each in found]

    nothing = LookHistory(plan=(4,))
    assert look(nothing, 1) == [(4, 4, 3)], "one draw of eight shots bounds nothing"
    assert look(nothing, 2) == [(4, 4, 3), (8, 2, 3)]
    assert look(nothing, 3, without="b") == [(4, 4, 3), (8, 3, 2)], "b never began there"
    everything: dict[str, Status] = {job.trial_id: "done" for job in jobs}
    whole = look_at_end(nothing, jobs, cells, study.data_seeds, everything)
    assert look(whole, 2) == [(4, 4, 3), (8, 4, 3)], "no more than was looked at before"


def test_in_a_budget_every_method_runs_once_before_any_twice_whatever_its_patterns(values: dict[str, object]) -> None:
    jobs, _ = prepare_jobs(read_study({**values, "until": None, "shots": [4], "data_seeds": {"count": 2}}), None)
    two = [replace(job, trial=replace(job.trial, pattern=name)) for job in jobs for name in ("p", "q")]
    ordered = [(job.trial.data_seed, job.trial.pattern) for job in put_methods_in_turn(two, [0, 1], [0])]
    assert ordered == [(seed, name) for seed in (0, 1) for name in ("p", "q") for _ in range(3)]


def test_a_race_whose_budget_is_spent_decides_where_it_stands(
    values: dict[str, object], tmp_path: Path, clock: Clock
) -> None:
    executor = Timed({"majority": 0.8, "a": 0.8, "b": 0.8}, {"majority": 50, "a": 50, "b": 50}, clock)
    study = {**values, **by_bound(0.001), "budget": {"minutes": 11}}
    result, looks = race(study, tmp_path / "out", executor)
    history = load_looks(tmp_path / "out")
    assert history is not None
    assert [look.draws for look in history.looks] == [3, 4]
    # Nothing that is planned comes after it: all that the plan has is spent.
    assert sum(look.level for look in history.looks) == pytest.approx(spend_by(8, 8, 0.05))
    assert draws_at(looks[-1]) == 4 and looks[-1].standings[0].running == ()
    assert result.decision.question.look == 2
    race({**study, "budget": None}, tmp_path / "out", executor)
    history = load_looks(tmp_path / "out")
    assert history is not None and [look.draws for look in history.looks] == [3, 4, 5, 8], "each where it was taken"
    assert max(executor.draws(name) for name in ("majority", "a", "b")) == 8, "without a budget it goes on"
    history = load_looks(tmp_path / "out")
    assert history is not None and sum(look.level for look in history.looks) <= 0.05


@pytest.mark.parametrize(("minutes", "draws"), [(3, []), (6, [2]), (8, [3])])
def test_a_race_whose_budget_ends_before_a_further_draw_spends_what_is_left_on_the_last_look(
    minutes: int, draws: list[int], values: dict[str, object], tmp_path: Path, clock: Clock
) -> None:
    """A draw takes two minutes and a half: one can tell nothing, two are a look, and at three was the plan's first."""
    executor = Timed({"majority": 0.8, "a": 0.8, "b": 0.8}, {"majority": 50, "a": 50, "b": 50}, clock)
    study = {**values, **by_bound(0.001), "budget": {"minutes": minutes}}
    race(study, tmp_path / "out", executor)
    history = load_looks(tmp_path / "out")
    assert history is not None and [look.draws for look in history.looks] == draws
    assert sum(look.level for look in history.looks) == pytest.approx(spend_by(8, 8, 0.05) if draws else 0.0)


def test_a_trial_that_outlasts_the_budget_is_ended(values: dict[str, object], tmp_path: Path, clock: Clock) -> None:
    class Endless(Timed):
        def run(self, jobs: Iterable[Job]) -> Generator[Event]:
            for job in jobs:
                yield Started(job)
                while True:
                    self._clock.now += 10
                    yield Progressed(job, Progress("fitting"))

    events: list[StudyEvent] = []
    study = {**values, "budget": {"minutes": 1}, "until": None}
    with pytest.raises(RecordError, match="no trial of the study has finished yet"):
        run_study(study, tmp_path / "out", executor=Endless({}, {}, clock), on_event=events.append)
    assert clock.now == 60
    assert [len(event.jobs) for event in events if isinstance(event, TrialsLeftOut)] == [3]
