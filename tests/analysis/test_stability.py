"""Summaries of one variant, and curves over shots."""

from __future__ import annotations

import math
from csv import DictReader
from io import StringIO
from pathlib import Path

import polars as pl
import pytest

from fewtune.analysis.study import GroupAnalysis, analyse_folder
from fewtune.records import write_planned, write_record
from fewtune.report.export import write_csv, write_latex, write_markdown
from study_maker import make_study


def test_a_mean_has_its_interval_and_no_further_than_the_metric_goes(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.8, 1.0]}, rows=100)
    steady = analyse_folder(tmp_path).groups[0].stability["pattern"]
    bounds = steady.bounds["in_domain"]
    # Deviation 0.1: 4.3027 x 0.1 / sqrt(3) is 0.2484.
    assert bounds.mean == pytest.approx(0.9)
    assert (bounds.low, bounds.high) == (pytest.approx(0.9 - 0.2484, abs=1e-4), 1.0)
    assert steady.worst == pytest.approx(0.8)
    assert steady.spread.draws == pytest.approx(0.1)
    assert steady.spread.fit_seeds is None and steady.spread.patterns is None


def test_one_draw_has_no_interval(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7]})
    bounds = analyse_folder(tmp_path).groups[0].stability["pattern"].bounds["in_domain"]
    assert (bounds.mean, bounds.low, bounds.high) == (pytest.approx(0.7), None, None)


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "macro_f1"])
def test_an_interval_of_every_score_there_is_is_none(tmp_path: Path, metric: str) -> None:
    """Of two draws Student's t has one degree of freedom: 12.7 deviations reach beyond any score."""
    make_study(tmp_path, {"in_context": [0.2, 0.8], "pattern": [0.8, 0.81]}, metric=metric, out_of_domain={"far": -0.1})
    analysis = analyse_folder(tmp_path)
    wide, narrow = (analysis.groups[0].stability[name] for name in ("in_context", "pattern"))
    assert (wide.bounds["in_domain"].low, wide.bounds["in_domain"].high) == (None, None)
    assert wide.bounds["in_domain"].mean == pytest.approx(analysis.groups[0].board.rows[-1].in_domain)
    assert narrow.bounds["in_domain"].low is not None and narrow.bounds["in_domain"].high is not None
    csv, markdown = write_csv(analysis), write_markdown(analysis)
    [row] = [
        each for each in DictReader(StringIO(csv)) if (each["variant"], each["test_set"]) == ("in_context", "in_domain")
    ]
    assert (row["low"], row["high"]) == ("", "")
    assert "[0.000, 1.000]" not in markdown and "[-1.000, 1.000]" not in markdown
    assert "No interval: one draw, or too few to rule out any score." in markdown + write_latex(analysis)


def score_shared_rows(out: Path, metric: str = "accuracy") -> GroupAnalysis:
    """Four draws of the same 100 rows, answered alike in each: 80 right, all of one gold label but 30."""
    gold = ["negative"] * 70 + ["positive"] * 30
    predicted = ["negative"] * 60 + ["positive"] * 30 + ["negative"] * 10
    for record in make_study(out, {"pattern": [0.8] * 4}, rows=100, metric=metric):
        ids = [f"row {place:03d}" for place in range(100)]
        columns = {"test_set": ["in_domain"] * 100, "row_id": ids, "gold": gold, "predicted": predicted}
        write_record(out, record, pl.DataFrame(columns))
    return analyse_folder(out).groups[0]


def test_rows_that_draws_share_count_once_in_a_scores_interval(tmp_path: Path) -> None:
    bounds = score_shared_rows(tmp_path).stability["pattern"].bounds["in_domain"]
    # No draw differs from another: what is left is the choice of 100 rows, once.
    reach = 1.96 * math.sqrt(0.8 * 0.2 / 100)
    assert (bounds.low, bounds.high) == (pytest.approx(0.8 - reach, abs=1e-3), pytest.approx(0.8 + reach, abs=1e-3))


def test_a_score_and_its_difference_from_nothing_have_one_interval(tmp_path: Path) -> None:
    """Always answering the majority class has a Matthews correlation of 0."""
    group = score_shared_rows(tmp_path, "mcc")
    bounds, floor = group.stability["pattern"].bounds["in_domain"], group.verdict.against_majority
    assert floor is not None and floor.low is not None and bounds.low is not None
    assert bounds.low - bounds.mean == pytest.approx(floor.low - (floor.point or 0.0))


def test_scores_and_gaps_without_an_error_are_no_wider_known_than_their_rows_tell(tmp_path: Path) -> None:
    """Three draws of 20 rows of their own, all right, in domain and out of it: the rule of three, at 2.5 %."""
    make_study(tmp_path, {"pattern": [1.0] * 3}, out_of_domain={"yelp": 0.0}, rows=20)
    steady = analyse_folder(tmp_path).groups[0].stability["pattern"]
    assert (steady.bounds["in_domain"].low, steady.bounds["in_domain"].high) == (
        pytest.approx(1 + math.log(0.025) / 60),
        1,
    )
    assert steady.gaps["yelp"].low == pytest.approx(math.log(0.025) / 60) == -(steady.gaps["yelp"].high or 0)
    make_study(tmp_path / "mcc", {"pattern": [1.0] * 3}, rows=20, metric="mcc")
    bounds = analyse_folder(tmp_path / "mcc").groups[0].stability["pattern"].bounds["in_domain"]
    # One of 20 rows wrong: (9 x 10 - 0 x 1) / sqrt(10 x 10 x 9 x 11).
    weight = (1 - 90 / math.sqrt(10 * 10 * 9 * 11)) / 3
    assert (bounds.low, bounds.high) == (pytest.approx(1 + math.log(0.025) * weight), 1)


def test_gaps_are_paired_by_draw(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.7]}, out_of_domain={"yelp": -0.2}, rows=100)
    gap = analyse_folder(tmp_path).groups[0].stability["pattern"].gaps["yelp"]
    # The draws' own gaps are equal: what is left to chance is the choice of 100 rows on each side, in each draw.
    variance = sum(p * (1 - p) / 100 for p in (0.9, 0.7, 0.7, 0.5)) / 4
    assert gap.mean == pytest.approx(0.2) and gap.low is not None and gap.high is not None
    assert (gap.high - gap.low) / 2 == pytest.approx(1.96 * math.sqrt(variance), rel=0.1)


def test_calibration_errors_are_averaged_where_there_are_any(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.9, 0.7], "lora": [0.5, 0.5]})
    for record, error in zip([r for r in records if r.trial.variant == "pattern"], (0.1, 0.3), strict=True):
        scores = {"in_domain": {**record.metrics["in_domain"], "ece": error}}
        write_record(tmp_path, record.model_copy(update={"metrics": scores}))
    found = analyse_folder(tmp_path).groups[0].stability
    assert found["pattern"].calibration_error == pytest.approx(0.2)
    assert found["lora"].calibration_error is None


def test_curves_join_what_was_scored_at_several_shots(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.8], "lora": [0.6]}, shots=16)
    make_study(tmp_path, {"pattern": [0.9, 0.9]}, shots=32)
    [curve] = analyse_folder(tmp_path).curves
    assert (curve.variant, curve.test_set) == ("pattern", "in_domain")
    assert [(point.shots, point.draws, point.bounds.mean) for point in curve.points] == [
        (16, 2, pytest.approx(0.75)),
        (32, 2, pytest.approx(0.9)),
    ]


def test_an_unfinished_study_says_which_trials_are_missing(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.7, 0.8]})
    planned = {record.trial_id: record.trial.cell for record in records}
    write_planned(tmp_path, {**planned, "x": records[0].trial.cell.model_copy(update={"variant": "lora"})})
    study = analyse_folder(tmp_path)
    assert study.missing == {"lora": 1}
    assert [finding.rule for finding in study.findings] == ["missing trials"]
