"""Verdicts on studies whose right answer is known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import polars as pl
import pytest

from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.study import analyse_folder
from fewtune.analysis.verdict import GroupVerdict, find_lead, judge_leads
from fewtune.errors import RecordError
from fewtune.records import load_predictions, load_records, write_record
from fewtune.report.wording import format_leader, list_comparisons
from study_maker import make_study


def judge(out: Path) -> list[GroupVerdict]:
    return [group.verdict for group in analyse_folder(out).groups]


def say(verdict: GroupVerdict) -> str:
    return "; ".join([format_leader(verdict), *list_comparisons(verdict)])


def test_a_group_of_which_no_trial_was_looked_at_has_no_leader(tmp_path: Path) -> None:
    reader = AnswerReader(partial(load_predictions, tmp_path))
    lead = find_lead(("sentiment", "model", 16), [], reader)
    [verdict] = judge_leads([lead], {("sentiment", 16): 0.05})
    assert (
        verdict.leader is None and verdict.against_majority is None and verdict.comparisons == {} and verdict.done == 0
    )


def test_an_exact_test_is_not_told_where_draws_share_rows(tmp_path: Path) -> None:
    draws = {"pattern": [0.85, 0.86, 0.84, 0.85, 0.86, 0.85, 0.84], "tfidf": [0.6, 0.62, 0.58, 0.6, 0.6, 0.61, 0.6]}
    for record in make_study(tmp_path, draws):
        own = load_predictions(tmp_path, record.trial_id)
        write_record(tmp_path, record, own.with_columns(pl.col("row_id").str.replace(r"-\d+-", "-")))
    [verdict] = judge(tmp_path)
    assert verdict.comparisons["tfidf"].exact_p is None and ", p = " not in say(verdict)


def test_a_clear_leader_is_better_and_says_by_how_much(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.85, 0.86, 0.84], "tfidf": [0.6, 0.62, 0.58]})
    [verdict] = judge(tmp_path)
    assert verdict.leader == "pattern"
    assert verdict.leader_score == pytest.approx(0.85)
    comparison = verdict.comparisons["tfidf"]
    assert comparison.answer == "better"
    assert comparison.point == pytest.approx(0.25)
    assert comparison.low is not None and comparison.high is not None
    assert 0.15 < comparison.low < 0.25 < comparison.high < 0.35
    assert "pattern leads (0.850 accuracy)" in say(verdict)
    assert "better than tfidf by 25.0 points [" in say(verdict)
    assert verdict.against_majority is not None and verdict.against_majority.answer == "better"


def test_the_same_answers_tie(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [1.0, 1.0, 1.0], "lora": [1.0, 1.0, 1.0]})
    [verdict] = judge(tmp_path)
    [comparison] = verdict.comparisons.values()
    assert comparison.answer == "tie"
    assert "tie with" in say(verdict)


def test_one_draw_cannot_tell_however_far_apart(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9], "vanilla": [0.5]})
    [verdict] = judge(tmp_path)
    comparison = verdict.comparisons["vanilla"]
    assert comparison.answer == "cannot tell"
    assert comparison.draws == 1
    assert comparison.reason == "one draw" and comparison.p is None
    assert "cannot tell from vanilla with 1 draw" in say(verdict)


def test_draws_that_disagree_cannot_tell(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.6, 0.7], "vanilla": [0.6, 0.8, 0.7]})
    [verdict] = judge(tmp_path)
    assert verdict.comparisons["vanilla"].answer == "cannot tell"


def test_six_draws_are_tested_and_corrected(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9] * 6, "vanilla": [0.6] * 6, "tfidf": [0.5] * 6})
    [verdict] = judge(tmp_path)
    assert [c.exact_p for c in verdict.comparisons.values()] == pytest.approx([6 / 64, 6 / 64]), "of three pairs"
    assert verdict.against_majority is not None and verdict.against_majority.exact_p == pytest.approx(3 * 2 / 64)


@pytest.mark.parametrize(("draws", "shown"), [(6, False), (7, True)])
def test_a_p_is_shown_where_it_could_decide(tmp_path: Path, draws: int, shown: bool) -> None:
    make_study(tmp_path, {"pattern": [0.9] * draws, "vanilla": [0.6] * draws, "tfidf": [0.5] * draws})
    [verdict] = judge(tmp_path)
    assert (f", p = {6 / 2**draws:.3f}" in say(verdict)) == shown
    assert f"ahead in {draws} of {draws} draws" in say(verdict)


def test_no_p_is_said_to_be_nought(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9] * 14, "vanilla": [0.6] * 14})
    [verdict] = judge(tmp_path)
    assert ", p < 0.001" in say(verdict) and "0.000" not in say(verdict)


def test_fit_seeds_are_averaged_inside_a_draw(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "vanilla": [0.6, 0.6]}, fit_seeds=3)
    [verdict] = judge(tmp_path)
    assert verdict.comparisons["vanilla"].draws == 2
    assert verdict.comparisons["vanilla"].point == pytest.approx(0.25)
    assert verdict.done == 12


def test_methods_without_a_model_join_every_models_group(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8], "tfidf": [0.6, 0.6]}, model="small")
    make_study(tmp_path, {"pattern": [0.9, 0.9]}, model="large")
    verdicts = judge(tmp_path)
    assert [verdict.model for verdict in verdicts] == ["large", "small"]
    assert all("tfidf" in verdict.comparisons for verdict in verdicts)


def test_a_variant_with_fewer_draws_does_not_lead(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8, 0.8], "lora": [0.95, None, None]})
    [verdict] = judge(tmp_path)
    assert verdict.leader == "pattern"
    assert verdict.comparisons["lora"].draws == 1


def test_one_without_a_draw_in_common_is_told_as_not_compared(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8, 0.8, None], "lora": [None, None, None, 0.95], "tfidf": [0.5] * 3})
    [verdict] = judge(tmp_path)
    comparison = verdict.comparisons["lora"]
    assert verdict.leader == "pattern" and list(verdict.comparisons) == ["lora", "tfidf"]
    assert (comparison.answer, comparison.reason, comparison.point) == ("cannot tell", "no draw in common", None)
    assert "cannot tell from lora: no draw in common" in say(verdict)


def test_what_is_told_of_one_group_alone_is_not_beside_another_that_is_no_clearer(tmp_path: Path) -> None:
    """Leads of .02, .03 and .04 over three draws, on so many rows that these tell it: a p of 3.5 %."""
    draws = {"pattern": [0.82, 0.83, 0.84], "tfidf": [0.8, 0.8, 0.8]}
    make_study(tmp_path, draws, rows=20_000)
    assert [c.answer for c in judge(tmp_path)[0].comparisons.values()] == ["better"]
    make_study(tmp_path, draws, rows=20_000, shots=64)
    both = judge(tmp_path)
    assert [c.answer for verdict in both for c in verdict.comparisons.values()] == ["cannot tell"] * 2
    assert {c.reason for verdict in both for c in verdict.comparisons.values()} == {"corrected for several comparisons"}
    assert all(v.against_majority is not None and v.against_majority.answer == "better" for v in both)


def test_failed_and_skipped_trials_are_counted_never_scored(tmp_path: Path) -> None:
    skips = {"bitfit": "no biases"}
    make_study(tmp_path, {"pattern": [0.8, 0.8]}, failures={"lora": "no memory"}, skips=skips)
    [verdict] = judge(tmp_path)
    assert (verdict.done, verdict.failed, verdict.skipped) == (2, 1, 1)
    assert not verdict.comparisons
    assert "Not scored: 1 failed, 1 skipped." in say(verdict)


def test_a_study_of_failures_has_no_leader(tmp_path: Path) -> None:
    make_study(tmp_path, {}, failures={"lora": "no memory"})
    [verdict] = judge(tmp_path)
    assert verdict.leader is None
    assert say(verdict).startswith("No trial was scored")


def test_matthews_correlation_is_compared_as_itself(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9], "vanilla": [0.7, 0.7]}, metric="mcc")
    [verdict] = judge(tmp_path)
    assert verdict.leader_score == pytest.approx(0.8)
    assert verdict.comparisons["vanilla"].point == pytest.approx(0.4, abs=0.01)
    assert verdict.against_majority is not None
    assert verdict.against_majority.point == pytest.approx(0.8, abs=0.01)


def test_an_unknown_metric_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    [first, *_] = make_study(tmp_path, {"pattern": [0.9, 0.9]}, metric="mcc")
    records = [
        r.model_copy(update={"primary_metric": "mccc", "metrics": {"in_domain": {"mccc": 0.5}}})
        for r in load_records(tmp_path)
    ]
    with pytest.raises(RecordError, match=r"Did you mean 'mcc'\?"):
        find_lead(("sentiment", "tiny-model", 16), records, AnswerReader(partial(load_predictions, tmp_path)))
    assert first.primary_metric == "mcc"


def test_one_folder_always_gives_one_verdict(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "vanilla": [0.7, 0.85]})
    first, second = (analyse_folder(tmp_path).groups[0].verdict for _ in range(2))
    assert first == second
