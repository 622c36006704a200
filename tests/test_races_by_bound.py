"""Races by bounds: methods stop and studies end as the bounds have it, whatever interrupts them; looks are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.recommend import CostBudget, recommend
from fewtune.analysis.study import read_folder
from fewtune.api import run_study
from fewtune.cli.run_display import format_race_look
from fewtune.errors import RecordError
from fewtune.records import (
    Record,
    StudyPredictions,
    is_packed,
    load_looks,
    load_planned,
    load_records,
    pack_study,
)
from fewtune.running.job import Job
from fewtune.running.run_study import Looked, StudyEvent
from fewtune.study import load_study
from scripted_races import FailingOnce, Priced, Scripted, draws_at, race, write_study


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    """A study of three methods that races by bounds."""
    return {**write_study(tmp_path), "guarantee": "bound"}


def test_a_clear_race_ends_at_its_first_look(values: dict[str, object], tmp_path: Path) -> None:
    executor = Scripted({"majority": 0.5, "a": 0.9, "b": 0.7})
    result, looks = race(values, tmp_path / "out", executor)
    assert [(look.number, draws_at(look)) for look in looks] == [(1, 3)]
    assert format_race_look(looks[0])[0].startswith("look 1 of 5, after 3 draws · ")
    assert len(executor.ran) == 9
    assert result.decision.choice is not None and result.decision.choice.name == "a"
    assert result.decision.question.level == pytest.approx(0.00917, abs=1e-5), "the first look's share of 5 %"
    assert not result.analysis.waiting


def test_methods_that_cannot_be_the_best_stop_and_the_others_go_on(values: dict[str, object], tmp_path: Path) -> None:
    executor = Scripted({"majority": 0.5, "a": 0.85, "b": 0.85}, spread=0.05)
    result, looks = race({**values, "within": 0.02}, tmp_path / "out", executor)
    assert executor.draws("majority") < executor.draws("a") == executor.draws("b")
    stopped = looks[-1].standings[0].stopped
    assert stopped.keys() == {"majority"} and stopped["majority"].startswith("stopped at look 1: not the best")
    excluded = {each.name: each.excluded for each in result.decision.contenders}
    assert excluded["majority"] == stopped["majority"]
    bounds = {each.name: each.regret.bound for each in result.decision.contenders if each.regret is not None}
    assert bounds["majority"] is not None and bounds["majority"] > 0.3, "its last bound stands"
    left = [record for record in result.records if record.status == "stopped"]
    assert {record.trial.variant for record in left} == {"majority"}
    assert {record.failure and record.failure.message for record in left} == {stopped["majority"]}
    draws = [sum(record.trial.variant == name for record in result.records) for name in ("majority", "a", "b")]
    assert draws == [executor.draws("a")] * 3, "every draw that was taken is accounted for"
    [row] = [row for row in result.analysis.groups[0].board.rows if row.variant == "majority"]
    assert (row.done, row.stopped) == (3, len(left)) and not result.analysis.missing


def test_what_a_race_chose_is_what_the_study_says_though_another_is_above_it(
    values: dict[str, object], tmp_path: Path
) -> None:
    executor = Priced({"majority": 0.5, "a": 0.95, "b": 0.8}, {"majority": 1.0, "a": 100.0, "b": 2.0})
    result, looks = race({**values, "within": 0.3}, tmp_path / "out", executor)
    [standing] = looks[-1].standings
    chosen = standing.decision.choice
    assert chosen is not None and chosen.name == "b" and chosen.regret is not None and chosen.regret.above == "a"
    assert standing.stopped.keys() == {"majority"}
    assert result.decision.choice == chosen


def test_a_method_that_was_stopped_may_be_used_where_those_above_it_are_beyond_a_budget(
    values: dict[str, object], tmp_path: Path
) -> None:
    executor = Priced({"majority": 0.8, "a": 0.86, "b": 0.2}, {"majority": 100.0, "a": 100.0, "b": 2.0}, 0.05)
    result, looks = race({**values, "until": {"within": 0.001, "most_draws": 5}}, tmp_path / "out", executor)
    assert executor.draws("b") == 3 < executor.draws("a") and looks[0].standings[0].stopped.keys() == {"b"}
    contents = read_folder(tmp_path / "out")
    boards = [group.board for group in result.analysis.groups]
    reader = AnswerReader(StudyPredictions(tmp_path / "out"))
    limited = replace(contents.terms, budget=CostBudget(max_fit_seconds=50))
    [found] = recommend(boards, contents.records, reader, limited)
    assert found.choice is not None and found.choice.name == "b"
    assert {each.name for each in found.contenders if each.excluded} == {"majority", "a"}


def test_a_race_in_which_nothing_that_goes_on_may_be_chosen_is_over(values: dict[str, object], tmp_path: Path) -> None:
    executor = FailingOnce({"majority": 0.5, "a": 0.95, "b": 0.7})
    result, looks = race(values, tmp_path / "out", executor)
    assert [look.number for look in looks] == [1] and looks[-1].standings[0].running == ()
    assert result.decision.choice is None and result.decision.best == "a"


def test_a_method_near_a_better_one_that_failed_goes_on_until_it_may_be_chosen(
    values: dict[str, object], tmp_path: Path
) -> None:
    executor = FailingOnce({"majority": 0.5, "a": 0.88, "b": 0.85}, spread=0.008)
    result, looks = race({**values, "until": {"within": 0.05, "most_draws": 20}}, tmp_path / "out", executor)
    doubted = [look.standings[0] for look in looks[:-1]]
    assert any(
        c.regret and c.regret.above == "a" for each in doubted for c in each.decision.contenders if c.name == "b"
    )
    assert all("b" in each.running for each in doubted) and executor.draws("majority") < executor.draws("b")
    assert result.decision.choice is not None and result.decision.choice.name == "b"


def test_a_race_run_again_with_a_larger_tolerance_is_told_as_it_was_decided(
    values: dict[str, object], tmp_path: Path
) -> None:
    executor = Scripted({"majority": 0.5, "a": 0.85, "b": 0.848}, spread=0.02)
    race({**values, "until": {"within": 0.003, "most_draws": 8}}, tmp_path / "out", executor)
    assert executor.draws("b") == 8
    result, looks = race({**values, "until": {"within": 0.08, "most_draws": 8}}, tmp_path / "out", executor)
    decided = looks[-1].standings[0].decision
    assert draws_at(looks[-1]) < 8 and decided.settled
    assert result.decision.question.level == decided.question.level
    assert result.decision.choice == decided.choice and result.decision.lead == decided.lead


def test_a_packed_study_told_at_another_tolerance_keeps_it(values: dict[str, object], tmp_path: Path) -> None:
    fixed = {**values, "until": None, "data_seeds": [0, 1, 2]}
    race({**fixed, "within": 0.05}, tmp_path / "out", Scripted({"majority": 0.5, "a": 0.9, "b": 0.7}))
    pack_study(tmp_path / "out")
    result, _ = race({**fixed, "within": 0.25}, tmp_path / "out", Scripted({}))
    assert is_packed(tmp_path / "out") and result.decision.question.within == 0.25
    assert load_study(tmp_path / "out" / "study.yaml").within == 0.25


def test_a_race_ends_undecided_at_the_most_draws(values: dict[str, object], tmp_path: Path) -> None:
    executor = Scripted({"majority": 0.8, "a": 0.8, "b": 0.8}, spread=0.1)
    result, looks = race({**values, "until": {"within": 0.001, "most_draws": 6}}, tmp_path / "out", executor)
    assert [draws_at(look) for look in looks] == [3, 5, 6]
    assert not result.decision.settled and result.decision.question.within == 0.001
    assert max(executor.draws(name) for name in ("majority", "a", "b")) == 6


def test_each_number_of_shots_is_a_race_of_its_own(values: dict[str, object], tmp_path: Path) -> None:
    class Slower(Scripted):
        def _answer(self, job: Job, variant: str, seed: int) -> tuple[Record, pl.DataFrame]:
            self._spread = 0.005 if job.trial.shots == 4 else 0.15
            return super()._answer(job, variant, seed)

    executor = Slower({"majority": 0.5, "a": 0.85, "b": 0.7})
    _, looks = race({**values, "shots": [4, 8]}, tmp_path / "out", executor)
    assert executor.draws("a", 4) == 3 < executor.draws("a", 8)
    assert [standing.decision.question.shots for standing in looks[1].standings] == [8]


@pytest.mark.parametrize("stop_after", [1, 8, 9, 12, 17])
def test_an_interrupted_race_decides_as_an_undisturbed_one(
    values: dict[str, object], tmp_path: Path, stop_after: int
) -> None:
    means = {"majority": 0.6, "a": 0.8, "b": 0.79}
    whole, _ = race(values, tmp_path / "whole", Scripted(means, 0.04))
    done = [record for record in whole.records if record.status == "done"]
    assert len(done) > 17
    with pytest.raises(KeyboardInterrupt):
        race(values, tmp_path / "out", Scripted(means, 0.04, stop_after))
    second = Scripted(means, 0.04)
    result, _ = race(values, tmp_path / "out", second)
    assert len(second.ran) == len(done) - stop_after, "nothing runs twice"
    assert {r.trial_id for r in result.records} == {r.trial_id for r in whole.records}
    assert load_looks(tmp_path / "out") == load_looks(tmp_path / "whole")
    assert result.decision == whole.decision


def test_a_race_that_has_ended_runs_nothing_again(values: dict[str, object], tmp_path: Path) -> None:
    means = {"majority": 0.5, "a": 0.9, "b": 0.7}
    race(values, tmp_path / "out", Scripted(means))
    before = (tmp_path / "out" / "looks.json").read_bytes()
    again = Scripted(means)
    race(values, tmp_path / "out", again)
    assert again.ran == []
    assert (tmp_path / "out" / "looks.json").read_bytes() == before


def test_whoever_adds_draws_by_hand_looks_again_for_half_of_what_is_left(
    values: dict[str, object], tmp_path: Path
) -> None:
    means = {"majority": 0.5, "a": 0.8, "b": 0.8}
    levels = []
    for draws in (4, 6, 8):
        fixed = {**values, "until": None, "data_seeds": {"count": draws}}
        for _ in range(2):  # the same study again is no further look
            result, _ = race(fixed, tmp_path / "out", Scripted(means, 0.05))
        levels.append(result.decision.question.level)
        assert result.decision.question.look == len(levels)
    assert levels == pytest.approx([0.04, 0.0025, 0.00125])


def test_a_race_goes_on_from_draws_that_were_fixed(values: dict[str, object], tmp_path: Path) -> None:
    means = {"majority": 0.8, "a": 0.8, "b": 0.79}
    race({**values, "until": None, "data_seeds": {"count": 4}}, tmp_path / "out", Scripted(means, 0.04))
    executor = Scripted(means, 0.04)
    _, looks = race({**values, "data_seeds": {"count": 4}}, tmp_path / "out", executor)
    assert [draws_at(look) for look in looks][:2] == [4, 5]
    assert all(seed >= 4 for _, _, seed in executor.ran)
    history = load_looks(tmp_path / "out")
    assert history is not None and sum(look.level for look in history.looks) <= 0.05


def test_a_trial_that_failed_and_then_was_done_is_another_look(values: dict[str, object], tmp_path: Path) -> None:
    means, fixed = {"majority": 0.5, "a": 0.9, "b": 0.7}, {**values, "until": None, "data_seeds": {"count": 3}}
    levels = []
    for executor in (FailingOnce(means), FailingOnce(means), Scripted(means)):  # the second fails as the first did
        run_study(fixed, tmp_path / "out", executor=executor)
        history = load_looks(tmp_path / "out")
        assert history is not None
        levels.append([look.level for look in history.looks])
    assert levels == [[pytest.approx(0.04)], [pytest.approx(0.04)], pytest.approx([0.04, 0.0025])]


def test_a_race_knows_the_look_at_fixed_draws_of_which_a_trial_failed(
    values: dict[str, object], tmp_path: Path
) -> None:
    means = {"majority": 0.8, "a": 0.8, "b": 0.79}
    race({**values, "until": None, "data_seeds": {"count": 4}}, tmp_path / "out", FailingOnce(means, 0.04))
    before = load_looks(tmp_path / "out")
    race({**values, "data_seeds": {"count": 4}}, tmp_path / "out", FailingOnce(means, 0.04))
    after = load_looks(tmp_path / "out")
    assert before is not None and after is not None
    assert [(look.draws, look.level) for look in after.looks[:1]] == [(4, before.looks[0].level)]
    assert [look.draws for look in after.looks].count(4) == 1


def test_looks_that_are_taken_again_keep_what_came_after_them_planned(
    values: dict[str, object], tmp_path: Path
) -> None:
    means, out = {"majority": 0.6, "a": 0.8, "b": 0.79}, tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        race(values, out, Scripted(means, 0.04, 17))
    history, seen = load_looks(out), list[int]()
    assert history is not None and history.looks[-1].draws > 3
    done = len(load_records(out))

    def hear(event: StudyEvent) -> None:
        if isinstance(event, Looked):
            seen.append(len(load_planned(out) or ()))

    result = run_study(values, out, executor=Scripted(means, 0.04), on_event=hear)
    looked_at = 3 * history.looks[-1].draws
    assert looked_at <= done and seen[0] >= looked_at, "not the nine trials of the first look alone"
    assert len(load_planned(out) or ()) == len(result.records)


def test_a_damaged_count_of_looks_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    race(values, tmp_path / "out", Scripted({"majority": 0.5, "a": 0.9, "b": 0.7}))
    path = tmp_path / "out" / "looks.json"
    path.write_text(json.dumps({"plan": []}))
    with pytest.raises(RecordError, match=r"looks\.json: damaged"):
        race(values, tmp_path / "out", Scripted({}))
