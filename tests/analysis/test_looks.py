"""A race's looks and their shares of the error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fewtune.analysis.followed import FollowedFolder
from fewtune.analysis.looks import (
    LEAST_LEVEL,
    LOOKS,
    choose_level,
    find_earlier,
    find_levels,
    find_look,
    fingerprint_trials,
    keep_looked_at,
    level_round,
    name_outcome,
    plan_further_looks,
    plan_looks,
    spend_beyond,
    spend_by,
)
from fewtune.analysis.recommend import recommend
from fewtune.analysis.study import analyse_folder
from fewtune.inference.better import LEVEL
from fewtune.records import Look, LookHistory, Record, load_looks, load_records, write_looks
from fewtune.running.look_count import begin_looks, take_look
from study_maker import make_study


@pytest.mark.parametrize(
    ("most", "looks"),
    [
        (2, (2,)),
        (3, (3,)),
        (4, (3, 4)),
        (20, LOOKS),
        (21, (*LOOKS, 21)),
        (60, (*LOOKS, 32, 52, 60)),
    ],
)
def test_a_race_looks_at_ever_more_draws_and_at_all_it_may_have(most: int, looks: tuple[int, ...]) -> None:
    assert plan_looks(most) == looks


@pytest.mark.parametrize(
    ("plan", "taken", "most", "looks"),
    [
        ((20,), (), 20, LOOKS),  # fixed draws, and nobody looked
        ((20,), (20,), 32, (20, 32)),
        ((20,), (6,), 20, (8, 12, 20)),  # a budget ended it
        (LOOKS, (3, 5), 20, LOOKS),
        (LOOKS, (20,), 10, (3, 5, 8, 10)),  # a race may have fewer draws than there are
    ],
)
def test_a_race_in_a_folder_that_was_looked_at_goes_on_from_the_last_look(
    plan: tuple[int, ...], taken: tuple[int, ...], most: int, looks: tuple[int, ...]
) -> None:
    before = tuple(Look(task="sentiment", shots=16, draws=draws, methods=2, level=0.01) for draws in taken)
    assert plan_further_looks(LookHistory(plan=plan, looks=before), most) == looks


def test_a_stopped_trial_that_ran_after_all_is_another_to_a_look(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.82], "lora": [0.9, 0.92]})
    records = load_records(tmp_path)
    before = [*records[:-1], records[-1].model_copy(update={"status": "stopped"})]
    look = Look(task="sentiment", shots=16, draws=2, methods=2, level=0.04)
    look = look.model_copy(update={"trials": fingerprint_trials(name_outcome(r.trial_id, r.status) for r in before)})
    history = LookHistory(plan=(2,), looks=(look,))
    assert find_look(history, before, (0, 1)) == look and find_look(history, records, (0, 1)) is None


def test_a_plan_that_no_look_was_taken_by_binds_nobody_and_one_draw_is_no_look(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8], "lora": [0.9]})
    records = load_records(tmp_path)
    assert begin_looks(tmp_path, (20,), ()) == LookHistory(plan=(20,))
    assert begin_looks(tmp_path, LOOKS, records) == LookHistory(plan=LOOKS) == load_looks(tmp_path)
    (tmp_path / "looks.json").unlink()
    assert begin_looks(tmp_path, LOOKS, records) == LookHistory(plan=LOOKS), "trials of one draw were no look"
    cells = {record.trial_id: record.trial.cell for record in records}
    assert take_look(LookHistory(plan=(1,)), cells, 1).looks == ()


def test_a_last_look_at_what_was_looked_at_spends_what_the_plan_has_left() -> None:
    looks = [
        Look(task="sentiment", shots=16, draws=draws, methods=2, trials=str(draws), level=level)
        for draws, level in ((3, 0.01), (5, 0.005))
    ]
    history = LookHistory(plan=LOOKS, looks=tuple(looks))
    assert choose_level(history, looks[1], is_last=True) == pytest.approx(0.03), "of .04, the first look has a quarter"
    assert choose_level(history, looks[1]) == 0.005
    assert choose_level(history, looks[0], is_last=True) == 0.01, "a later look was taken"


def test_rounds_share_what_earlier_looks_left_and_the_last_has_a_part_of_its_own() -> None:
    def look(draws: int, level: float | None = None) -> Look:
        return Look(task="sentiment", shots=16, draws=draws, methods=2, trials=f"{draws}{level}", level=level or LEVEL)

    raced = LookHistory(plan=(3, 5), looks=(look(3, 0.02), look(5, 0.02)))
    longer = raced.model_copy(update={"plan": (3, 5, 20)})
    before = [0.0, 3.0, 6.0, 10.0, 15.0]
    ends = zip(before, [*before[1:], 20.0], strict=True)
    levels = [level_round(longer, look(int(now)), was, now, is_last=False) for was, now in ends]
    assert levels[0] == LEAST_LEVEL, "at so few draws of 20 less may be spent than was"
    assert math.fsum(levels) <= LEVEL - 0.04 and max(levels) < 0.002
    # Where all of the plan is spent, one that ends has half of what is kept for looks beyond it.
    assert level_round(raced, look(5), 4.0, 5.0, is_last=True) == pytest.approx((0.9 * LEVEL - 0.04) / 2)
    assert level_round(longer, look(20), 15.0, 20.0, is_last=True) == pytest.approx((0.9 * LEVEL - 0.04) / 2)


def test_planned_looks_share_four_fifths_of_the_error() -> None:
    spent = [spend_by(draws, 20, 0.05) for draws in LOOKS]
    levels = [now - before for now, before in zip(spent, [0.0, *spent], strict=False)]
    assert spent[-1] == pytest.approx(0.04)
    # 0.04 x (ln(1 + (e - 1) t), less what was spent before), t = 3/20, 5/20, 8/20, 12/20, 1.
    assert levels == pytest.approx((0.00917, 0.00512, 0.00663, 0.00742, 0.01166), abs=1e-5)


def test_one_look_spends_all_that_is_planned() -> None:
    assert spend_by(5, 5, 0.05) == pytest.approx(0.04)


def test_looks_beyond_the_plan_never_spend_more_than_there_is() -> None:
    spent = [0.04]
    for _ in range(40):
        spent.append(spend_beyond(spent, 0.05))
    assert spent[1] == pytest.approx(0.0025)
    assert sum(spent) == pytest.approx(0.045), "a tenth is left for looks that nobody counts"


def test_whoever_looks_at_a_study_under_way_after_every_draw_spends_a_tenth(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.82, 0.84], "lora": [0.9, 0.92, 0.91]})
    records = load_records(tmp_path)
    place, seeds = ("sentiment", 16), (0, 1, 2)
    history = LookHistory(plan=(3,))
    look = Look(task="sentiment", shots=16, draws=3, methods=2, level=0.04)

    def find(*looks: Look, of: Sequence[Record] = records) -> float:
        return find_levels(history.model_copy(update={"looks": looks}), of, seeds)[place]

    assert 3 * find() == pytest.approx(0.005)
    assert find_levels(history, records, tuple(range(20)))[place] == pytest.approx(0.005 / 20), "of a study that grew"
    assert find(look) == 0.04 and find_levels(None, records, seeds)[place] == pytest.approx(0.05)
    assert find(look.model_copy(update={"methods": 3})) == pytest.approx(0.005 / 3)
    whole = look.model_copy(update={"trials": fingerprint_trials(record.trial_id for record in records)})
    assert find(whole) == 0.04
    others = [record.model_copy(update={"trial_id": f"{record.trial_id}-other"}) for record in records]
    assert find(whole, of=[*records, *others]) == pytest.approx(0.005 / 3), "as many methods, other trials besides"
    failed = others[0].model_copy(update={"status": "failed"})
    assert find(whole, of=[*records, failed]) == 0.04, "as folders from before looks were counted are taken over"


def test_what_earlier_looks_saw_holds_for_the_same_trials_alone(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.82, 0.84], "lora": [0.9, 0.92, 0.91]})
    records = load_records(tmp_path)
    first = fingerprint_trials(record.trial_id for record in records if record.trial.data_seed < 2)
    looks = [Look(task="sentiment", shots=16, draws=draws, methods=2, level=0.01) for draws in (2, 3)]
    seeds = (0, 1, 2)

    def find(*trials: str) -> list[int]:
        taken = [look.model_copy(update={"trials": each}) for look, each in zip(looks, trials, strict=True)]
        return [each.draws for each in find_earlier(LookHistory(plan=(2, 3), looks=tuple(taken)), records, seeds)]

    assert find(first, "") == [2]
    assert find("others", "") == []
    assert find("", "") == [2], "of a file of before: by its methods"
    assert find_earlier(LookHistory(plan=(3,), looks=(looks[1], looks[0])), records, seeds) == [], "at more draws"
    assert find_earlier(None, records, seeds) == [] and find_earlier(LookHistory(plan=(3,)), [], seeds) == []


def test_the_same_draws_of_other_trials_are_looked_at_anew() -> None:
    first = Look(task="sentiment", shots=16, draws=3, methods=2, trials="a", level=0.01)
    history = LookHistory(plan=(3, 5), looks=(first,))
    assert choose_level(history, first.model_copy(update={"level": 0.5})) == 0.01
    assert choose_level(history, first.model_copy(update={"trials": ""})) == 0.01, "of a file of before"
    other = choose_level(history, first.model_copy(update={"trials": "b"}))
    assert other == pytest.approx((0.045 - 0.01) / 2)


def test_draws_that_no_look_was_at_have_no_bound_and_count_for_what_is_expected(tmp_path: Path) -> None:
    """Of the third draw half has run: `pattern` alone has it."""
    make_study(tmp_path, {"pattern": [0.8, 0.82, 0.84], "lora": [0.9, 0.92]})
    (tmp_path / "study.yaml").write_text("name: made-up\ndata_seeds: [0, 1, 2, 3, 4]\n")
    look = Look(task="sentiment", shots=16, draws=2, methods=2, level=0.02)
    write_looks(tmp_path, LookHistory(plan=(3, 5), looks=(look,)))
    for study in (analyse_folder(tmp_path), (followed := FollowedFolder(tmp_path)).analyse(followed.read())):
        assert study.groups[0].board.rows[1].draws == 3
        assert study.groups[0].verdict.leader == "lora"
        (decision,) = study.decisions
        assert {each.name: each.draws for each in decision.contenders} == {"lora": 2, "pattern": 3}
        assert [each.excluded for each in decision.contenders] == [None, None]
        (bound,) = recommend(
            [group.board for group in study.groups],
            study.records,
            study.reader,
            replace(study.terms, guarantee="bound"),
        )
        assert (bound.draws, bound.best) == (2, "lora")
        bounds = [{c.name: c.regret for c in each.contenders} for each in (decision, bound)]
        assert bounds[0] == bounds[1], "bounds are of the draws that were looked at"


def test_a_study_that_grew_by_draws_before_its_own_shows_what_all_methods_have(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.9] * 3, "lora": [0.8] * 3})
    look = Look(task="sentiment", shots=16, draws=3, methods=2, trials=fingerprint_trials(["others"]), level=0.02)
    history = LookHistory(plan=(3,), looks=(look,))
    more = make_study(tmp_path / "more", {"pattern": [0.9]})[0]
    new = more.model_copy(update={"trial_id": "new", "trial": more.trial.model_copy(update={"data_seed": 7})})
    for there in (records, [*records, new]):
        kept = keep_looked_at(there, history, seeds=[7, 8, 9, 0, 1, 2])
        assert {record.trial_id for record in kept} == {record.trial_id for record in records}


def test_with_several_models_a_verdict_is_of_the_draws_that_were_looked_at(tmp_path: Path) -> None:
    """Of five draws of one model three were looked at, as of the other, which has no more."""
    first = make_study(tmp_path, {"pattern": [0.9] * 5, "lora": [0.8] * 5}, model="one")
    second = make_study(tmp_path, {"pattern": [0.7] * 3, "lora": [0.6] * 3}, model="two")
    seen = [record.trial_id for record in (*first, *second) if record.trial.data_seed < 3]
    look = Look(task="sentiment", shots=16, draws=3, methods=4, trials=fingerprint_trials(seen), level=0.02)
    (tmp_path / "study.yaml").write_text("name: made-up\ndata_seeds: [0, 1, 2, 3, 4]\n")
    write_looks(tmp_path, LookHistory(plan=(3, 5), looks=(look,)))
    for study in (analyse_folder(tmp_path), (followed := FollowedFolder(tmp_path)).analyse(followed.read())):
        for group in study.groups:
            assert group.verdict.comparisons["lora"].draws == 3


def test_a_method_that_was_added_takes_no_draws_from_those_that_were_looked_at(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.9] * 5, "lora": [0.8] * 5})
    trials = fingerprint_trials(record.trial_id for record in records)
    look = Look(task="sentiment", shots=16, draws=5, methods=2, trials=trials, level=0.02)
    more = make_study(tmp_path, {"vanilla": [0.7]})
    kept = keep_looked_at([*records, *more], LookHistory(plan=(5,), looks=(look,)), seeds=[0, 1, 2, 3, 4])
    assert {record.trial.data_seed for record in kept} == {0, 1, 2, 3, 4}


def test_before_any_look_a_draw_that_some_methods_lack_decides_nothing(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.82, 0.84], "lora": [0.9, 0.92]}, failures={"probe": "no memory"})
    write_looks(tmp_path, LookHistory(plan=(5,)))
    study = analyse_folder(tmp_path)
    assert study.groups[0].verdict.leader == "lora"
    boards = [group.board for group in study.groups]
    (decision,) = recommend(boards, study.records, study.reader, replace(study.terms, guarantee="bound"))
    assert (decision.draws, decision.best) == (2, "lora")
    assert [each.excluded for each in decision.contenders if each.score is not None] == [None, None]
