"""Races by expected loss: draws go where they tell most, studies end once the decision stands, whatever interrupts."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from fewtune.cli.run_display import format_race_look
from fewtune.errors import RecordError, StudyError
from fewtune.records import MOST_SPENT, Record, load_looks, load_planned, load_records
from fewtune.report.results import StudyResult
from fewtune.running.job import Job
from fewtune.running.run_study import Looked
from fewtune.running.time_budget import TimeBudget
from fewtune.study import load_study, read_study
from scripted_races import Clock, FailingOnce, Priced, Scripted, Timed, race, write_study

CLOSE = {"majority": 0.6, "a": 0.8, "b": 0.79}


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    """A study of three methods, to be told apart by less than a point."""
    return {**write_study(tmp_path), "within": 0.006}


@dataclass(frozen=True)
class Raced:
    """A race that nothing interrupted: its study, its folder, what ran, what it came to and each look at it."""

    values: dict[str, object]
    out: Path
    executor: Scripted
    result: StudyResult
    looks: list[Looked]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Raced:
    folder, executor = tmp_path_factory.mktemp("undisturbed"), Scripted(CLOSE, 0.04)
    values: dict[str, object] = {**write_study(folder), "within": 0.006}
    result, looks = race(values, folder / "out", executor)
    return Raced(values, folder / "out", executor, result, looks)


def list_draws(executor: Scripted) -> dict[str, int]:
    return {name: executor.draws(name) for name in ("majority", "a", "b")}


def test_a_clear_race_ends_at_its_first_round(values: dict[str, object], tmp_path: Path) -> None:
    executor = Scripted({"majority": 0.5, "a": 0.9, "b": 0.7})
    result, looks = race(values, tmp_path / "out", executor)
    assert [look.number for look in looks] == [1] and list_draws(executor) == {"majority": 3, "a": 3, "b": 3}
    assert format_race_look(looks[0])[0].startswith("round 1 · feelings · ")
    decision = result.decision
    assert decision.settled and decision.choice is not None and decision.choice.name == "a"
    assert decision.question.level == pytest.approx(0.00917, abs=1e-5), "bounds: the first round's share of 5 %"
    assert not result.analysis.waiting


def test_draws_go_to_the_best_bet_and_its_threat_and_the_others_are_paused(undisturbed: Raced) -> None:
    result, looks = undisturbed.result, undisturbed.looks
    draws = list_draws(undisturbed.executor)
    assert draws["majority"] < min(draws["a"], draws["b"])
    assert all("majority" not in look.standings[0].running for look in looks[:4])
    assert len(load_records(undisturbed.out)) == sum(draws.values()) == len(load_planned(undisturbed.out) or ())
    assert not result.analysis.missing, "a paused method's draws are not missing"
    assert {record.status for record in result.records} == {"done"}
    assert result.decision.settled
    held = {each.name: each for each in result.decision.contenders}
    assert held["majority"].excluded is None and held["majority"].loss is not None
    assert held["majority"].loss.expected > 0.1 and held["majority"].draws == draws["majority"]


def test_a_paused_method_goes_on_where_it_becomes_the_largest_threat(values: dict[str, object], tmp_path: Path) -> None:
    """After three draws `a` and `b` lead by luck; with more draws `b` falls below the third."""

    class Lucky(Scripted):
        def _answer(self, job: Job, variant: str, seed: int) -> tuple[Record, pl.DataFrame]:
            self._means = {"majority": 0.79, "a": 0.82, "b": 0.82 if seed < 3 else 0.6}
            return super()._answer(job, variant, seed)

    executor = Lucky({}, 0.02)
    result, looks = race(values, tmp_path / "out", executor)
    given = [set(look.standings[0].running) for look in looks]
    assert "majority" not in given[0] and any("majority" in names for names in given[1:])
    assert result.decision.choice is not None and result.decision.choice.name == "a"


def test_a_cheaper_method_that_loses_little_is_used(values: dict[str, object], tmp_path: Path) -> None:
    executor = Priced({"majority": 0.5, "a": 0.95, "b": 0.93}, {"majority": 1.0, "a": 100.0, "b": 2.0})
    result, _ = race({**values, "within": 0.3}, tmp_path / "out", executor)
    assert result.decision.settled and result.decision.choice is not None and result.decision.choice.name == "b"


def test_a_method_that_failed_is_not_chosen_and_the_race_goes_on_among_the_others(
    values: dict[str, object], tmp_path: Path
) -> None:
    executor = FailingOnce({"majority": 0.5, "a": 0.88, "b": 0.875}, spread=0.008)
    result, _ = race({**values, "within": 0.08}, tmp_path / "out", executor)
    assert result.decision.choice is not None and result.decision.choice.name == "b"
    assert str({each.name: each.excluded for each in result.decision.contenders}["a"]).startswith("failed in 1 of")


def test_a_race_ends_as_a_best_bet_at_the_most_draws(values: dict[str, object], tmp_path: Path) -> None:
    executor = Scripted({"majority": 0.8, "a": 0.8, "b": 0.8}, spread=0.1)
    result, looks = race({**values, "within": 0.002, "until": {"most_draws": 5}}, tmp_path / "out", executor)
    assert not result.decision.settled and result.decision.choice is not None
    assert looks[-1].standings[0].running == () and max(list_draws(executor).values()) == 5
    history = load_looks(tmp_path / "out")
    assert history is not None and sum(look.level for look in history.looks) <= 0.04 + 1e-12


def test_each_round_may_spend_its_share_of_the_error_and_no_more(undisturbed: Raced) -> None:
    levels = [look.standings[0].decision.question.level for look in undisturbed.looks]
    assert len(levels) > 3 and sum(levels) < 0.04
    history = load_looks(undisturbed.out)
    assert history is not None
    assert [look.level for look in history.looks] == pytest.approx([levels[0], levels[-1]]), "those that anyone sees"


@pytest.mark.parametrize("stop_after", [1, 8, 9, 10, 12])
def test_an_interrupted_race_decides_as_an_undisturbed_one(undisturbed: Raced, tmp_path: Path, stop_after: int) -> None:
    whole = undisturbed.result
    assert len(whole.records) > 12
    with pytest.raises(KeyboardInterrupt):
        race(undisturbed.values, tmp_path / "out", Scripted(CLOSE, 0.04, stop_after))
    second = Scripted(CLOSE, 0.04)
    result, _ = race(undisturbed.values, tmp_path / "out", second)
    assert len(second.ran) == len(whole.records) - stop_after, "nothing runs twice"
    assert {r.trial_id for r in result.records} == {r.trial_id for r in whole.records}
    assert load_looks(tmp_path / "out") == load_looks(undisturbed.out)
    assert result.decision == whole.decision


def test_a_race_that_has_ended_runs_nothing_again(undisturbed: Raced, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.out, tmp_path / "out")
    before = (tmp_path / "out" / "looks.json").read_bytes()
    again = Scripted(CLOSE, 0.04)
    race(undisturbed.values, tmp_path / "out", again)
    assert again.ran == [] and (tmp_path / "out" / "looks.json").read_bytes() == before


def test_a_race_that_went_by_bounds_goes_on_by_expected_loss(values: dict[str, object], tmp_path: Path) -> None:
    """Its records are used as they are; what bounds stopped may be chosen; no more of the error is spent than is."""
    with pytest.raises(KeyboardInterrupt):
        race({**values, "guarantee": "bound"}, tmp_path / "out", Scripted(CLOSE, 0.04, 17))
    before = {record.trial_id for record in load_records(tmp_path / "out") if record.status == "done"}
    executor = Scripted(CLOSE, 0.04)
    result, _ = race(values, tmp_path / "out", executor)
    assert result.decision.settled and result.decision.question.guarantee == "expected_loss"
    assert before <= {record.trial_id for record in result.records}
    history = load_looks(tmp_path / "out")
    assert history is not None and sum(look.level for look in history.looks) <= 0.05


def test_a_budget_ends_a_race_where_it_stands(
    values: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("fewtune.running.run_study.TimeBudget", partial(TimeBudget, clock=clock))
    executor = Timed({"majority": 0.79, "a": 0.8, "b": 0.8}, {"majority": 50, "a": 50, "b": 50}, clock)
    study = {**values, "within": 0.002, "until": {"most_draws": 8}, "budget": {"minutes": 11}}
    result, looks = race(study, tmp_path / "out", executor)
    assert clock.now <= 660 and len(executor.ran) > 9
    assert looks[-1].standings[0].running == () and not result.decision.settled
    assert result.decision.choice is not None
    again = Timed({"majority": 0.79, "a": 0.8, "b": 0.8}, {"majority": 50, "a": 50, "b": 50}, clock)
    race({**study, "budget": None}, tmp_path / "out", again)
    assert again.ran, "without a budget it goes on"


def test_several_numbers_of_shots_race_each_for_itself(values: dict[str, object], tmp_path: Path) -> None:
    class Slower(Scripted):
        def _answer(self, job: Job, variant: str, seed: int) -> tuple[Record, pl.DataFrame]:
            self._spread = 0.001 if job.trial.shots == 4 else 0.15
            return super()._answer(job, variant, seed)

    executor = Slower({"majority": 0.5, "a": 0.85, "b": 0.7})
    _, looks = race({**values, "within": 0.012, "shots": [4, 8]}, tmp_path / "out", executor)
    assert executor.draws("a", 4) == 3 < executor.draws("a", 8)
    assert [standing.decision.question.shots for standing in looks[1].standings] == [8]
    assert isinstance(looks[0], Looked)


def test_a_damaged_count_of_looks_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    race(values, tmp_path / "out", Scripted({"majority": 0.5, "a": 0.9, "b": 0.7}))
    (tmp_path / "out" / "looks.json").write_text(json.dumps({"plan": []}))
    with pytest.raises(RecordError, match=r"looks\.json: damaged"):
        race(values, tmp_path / "out", Scripted({}))


def test_what_a_decision_has_to_meet_may_change_in_a_folder(values: dict[str, object], tmp_path: Path) -> None:
    means = {"majority": 0.5, "a": 0.9, "b": 0.7}
    race(values, tmp_path / "out", Scripted(means))
    result, _ = race({**values, "guarantee": "bound"}, tmp_path / "out", Scripted(means))
    assert result.decision.question.guarantee == "bound"
    assert load_study(tmp_path / "out" / "study.yaml").guarantee == "bound"


def test_a_longer_race_spreads_its_levels_over_all_its_draws(values: dict[str, object], tmp_path: Path) -> None:
    means = {"majority": 0.5, "a": 0.8, "b": 0.8}
    for most in (4, 12):
        executor = Scripted(means, spread=0.1)
        race({**values, "within": 0.001, "until": {"most_draws": most}}, tmp_path / "out", executor)
    history = load_looks(tmp_path / "out")
    assert history is not None and history.plan == (3, 4, 12)
    assert sum(look.level for look in history.looks) < MOST_SPENT
    assert [look.draws for look in history.looks][-1] == 12 and history.looks[-1].level > 1e-4


def test_a_race_has_the_draws_of_its_study_first() -> None:
    study = {"name": "x", "tasks": ["sentiment"], "methods": ["majority"], "shots": [4]}
    plan = read_study({**study, "data_seeds": [7, 1], "until": {"most_draws": 5}})
    assert plan.data_seeds == (7, 1, 0, 2, 3)
    assert len(read_study({**study, "until": "decided"}).data_seeds) == 20
    longer = read_study({**study, "data_seeds": {"count": 30}, "until": "decided"})
    assert len(longer.data_seeds) == 30 and longer.until is not None and longer.until.most_draws == 30
    with pytest.raises(StudyError, match=r"lists 6 draws and `until\.most_draws` is 5: name at most so many"):
        read_study({**study, "data_seeds": {"count": 6}, "until": {"most_draws": 5}})


@pytest.mark.parametrize(
    ("overrides", "within", "most_draws"),
    [
        (["within=0.05"], 0.05, 4),
        (["until={within: 0.05}"], 0.05, 20),
        (["until.within=0.05"], 0.05, 4),
        (["until=decided", "within=0.05"], 0.05, 20),
    ],
)
def test_a_tolerance_given_over_the_study_is_in_its_place(overrides: list[str], within: float, most_draws: int) -> None:
    study = {"name": "x", "tasks": ["sentiment"], "methods": ["majority"], "shots": [4]}
    plan = read_study({**study, "until": {"within": 0.01, "most_draws": 4}}, overrides)
    assert plan.within == within and plan.until is not None and plan.until.most_draws == most_draws


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("soon", "until"),
        ({"most_draws": 1}, "most_draws"),
        ({"draws": 4}, "unknown key of until 'draws'"),
        ({"within": 0.1}, "`within` is 0.02 and in `until` 0.1: give it once"),
    ],
)
def test_a_race_that_cannot_be_is_refused(until: object, message: str) -> None:
    study = {"name": "x", "tasks": ["sentiment"], "methods": ["majority"], "shots": [4], "within": 0.02}
    with pytest.raises(StudyError) as caught:
        read_study({**study, "until": until})
    assert message in str(caught.value)
