"""The guess of the time left, on made-up trials of known seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.analysis.time_left import TimedTrials, guess_seconds_left
from fewtune.records import Cell, Record, load_planned, write_planned
from study_maker import make_study

SECONDS = {"pattern": {"fit": 8.0, "score": 2.0}, "lora": {"fit": 3.0, "score": 1.0}}


@pytest.fixture
def finished(tmp_path: Path) -> list[Record]:
    records = make_study(tmp_path, {"pattern": [0.8], "lora": [0.6]}, shots=16)
    return [record.model_copy(update={"phase_seconds": SECONDS[record.trial.variant]}) for record in records]


def cell(variant: str, shots: int = 16, task: str = "sentiment") -> Cell:
    return Cell(model="tiny-model", task=task, variant=variant, shots=shots)


@pytest.mark.parametrize(
    ("waiting", "workers", "seconds"),
    [
        ([cell("pattern"), cell("pattern")], 1, 20.0),
        ([cell("pattern"), cell("pattern")], 2, 10.0),
        ([cell("pattern", 64)], 1, 34.0),  # four times the rows: the fit takes 32 s for 8, and scoring the same 2
        ([cell("pattern", 64, "cola")], 1, 34.0),
        ([cell("vanilla")], 1, 7.0),  # never ran: the mean of 10 and 4
        ([cell("vanilla"), cell("tfidf").model_copy(update={"model": None})], 1, 7.0),
        ([], 1, 0.0),
    ],
)
def test_waiting_trials_take_what_those_like_them_took(
    finished: list[Record], waiting: list[Cell], workers: int, seconds: float
) -> None:
    assert guess_seconds_left(finished, waiting, workers) == pytest.approx(seconds)


def test_a_forecast_counts_until_a_trial_of_its_own_task_and_model_was_timed(finished: list[Record]) -> None:
    large = [
        record.model_copy(
            update={
                "trial": record.trial.model_copy(update={"model": "large"}),
                "phase_seconds": {"fit": 500.0, "score": 100.0},
            }
        )
        for record in finished
    ]
    waiting = {cell("lora").model_copy(update={"model": "large"}): 1, cell("lora"): 1}
    assert TimedTrials(finished).guess(waiting, 1, TimedTrials(large)) == pytest.approx(600 + 4)
    assert TimedTrials([*finished, *large]).guess(waiting, 1, TimedTrials(large)) == pytest.approx(600 + 4)


def test_tuning_grows_with_the_shots_as_its_fits_do(finished: list[Record]) -> None:
    tuned = [
        record.model_copy(update={"phase_seconds": {"tune": 96.0, "fit": 8.0, "score": 2.0}})
        for record in finished
        if record.trial.variant == "pattern"
    ]
    assert guess_seconds_left(tuned, [cell("pattern", 64)], 1) == pytest.approx(4 * (96 + 8) + 2)


def test_trials_of_the_same_cell_come_before_all_others(finished: list[Record], tmp_path: Path) -> None:
    more = make_study(tmp_path / "cola", {"pattern": [0.8]}, shots=64, task="cola")
    more = [record.model_copy(update={"phase_seconds": {"fit": 90.0, "score": 10.0}}) for record in more]
    told = [guess_seconds_left([*finished, *more], [cell("pattern", 64, task)], 1) for task in ("cola", "sentiment")]
    assert told == [pytest.approx(100.0), pytest.approx(34.0)]


def test_what_was_skipped_is_waited_for_no_more(finished: list[Record]) -> None:
    waiting = [cell("pattern"), cell("lora"), cell("lora")]
    skipped = finished[0].model_copy(
        update={
            "status": "skipped",
            "phase_seconds": {"other": 0.05},
            "trial": finished[0].trial.model_copy(update={"variant": "lora"}),
        }
    )
    timed = [record for record in finished if record.trial.variant == "pattern"]
    assert guess_seconds_left([*timed, skipped], waiting, 1) == pytest.approx(10.0)
    assert guess_seconds_left([*timed, skipped], [cell("lora", 64)], 1) == pytest.approx(34.0), "not of other shots"


def test_nothing_is_guessed_before_a_trial_was_timed(tmp_path: Path) -> None:
    assert guess_seconds_left(make_study(tmp_path, {"pattern": [0.8]}), [cell("pattern")], 1) is None


def test_what_was_planned_is_read_back_by_its_cells(finished: list[Record], tmp_path: Path) -> None:
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in finished})
    assert load_planned(tmp_path) == {r.trial_id: cell(r.trial.variant) for r in finished}


def test_a_guess_does_not_take_longer_with_more_trials_behind_it(finished: list[Record]) -> None:
    few, many = TimedTrials(finished), TimedTrials(finished * 1000)
    waiting = {cell("pattern"): 2, cell("lora", 64): 1, cell("vanilla"): 0}
    assert many.guess(waiting, 1, TimedTrials()) == pytest.approx(few.guess(waiting, 1, TimedTrials()))
    assert len(many._spent) == len(few._spent) == 2, "a sum a cell"


def test_a_copy_is_added_to_apart(finished: list[Record]) -> None:
    timed = TimedTrials(finished)
    taken = timed.copy()
    taken.add(finished[0].model_copy(update={"phase_seconds": {"fit": 5000.0}}))
    waiting = {cell(finished[0].trial.variant): 1}
    assert timed.guess(waiting, 1, TimedTrials()) == TimedTrials(finished).guess(waiting, 1, TimedTrials())
    assert (taken.guess(waiting, 1, TimedTrials()) or 0) > 1000
