"""The sentences, table and picture of a choice among candidates, as a model keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from fewtune.report.model_choice import KeptChoice, format_kept_choice, format_mistakes, format_stated


def keep(settled: bool = True, *names: str, **more: Any) -> dict[str, Any]:
    """A choice of the first of some candidates, on 58 rows."""
    candidates = [
        {
            "name": name,
            "score": 0.95 - 0.1 * place,
            "error": 0.04,
            "rows": 58,
            "expected_loss": 0.002 + 0.1 * place,
            "risk": 0.02,
            "fit_seconds": 12.0,
            "row_seconds": 0.043,
        }
        for place, name in enumerate(names or ("tfidf", "lora (mine)"))
    ]
    choice: dict[str, Any] = {
        "chosen": candidates[0]["name"],
        "settled": settled,
        "within": 0.03,
        "metric": "accuracy",
        "folds": 4,
        "rows": 58,
        "candidates": candidates,
        "stated": {"accuracy": [0.94, 0.85, 0.98], "macro_f1": [0.93, 0.86, 1.0]},
        "majority": 0.552,
    }
    return choice | more


def test_a_settled_choice_is_to_be_used_and_another_is_the_best_bet() -> None:
    assert format_kept_choice(keep()) == (
        "Use tfidf: expected to lose 0.2 points to the best of these 2 candidates (98 % to lose 3 at most), by 58 rows "
        "in 4 folds; 12 s to fit a fold, 0.04 s a row."
    )
    told = format_kept_choice(keep(False))
    assert told.startswith("Best bet: tfidf, expected to lose 0.2 points to the best of these 2 candidates")
    choice = KeptChoice(keep(False))
    assert (choice.chosen, choice.settled, choice.expected_loss, str(choice)) == ("tfidf", False, 0.002, told)


def test_a_choice_against_the_scores_of_its_rows_says_by_what_it_was_made() -> None:
    choice = keep(False, "embeddings (m)", "contrastive (m)", "mine")
    first, second, mine = choice["candidates"]
    first["prior"], second["prior"], mine["prior"] = 0.0, 0.075, None
    told = format_kept_choice(choice)
    assert ", by 58 rows in 4 folds and records of other files; " in told and "By these rows alone" not in told
    choice["chosen"] = second["name"]
    assert (
        "By these rows alone embeddings (m) is better, 0.950 against 0.850; on other files contrastive (m) was, by 7.5 "
        "points on average, and so few rows do not outweigh that."
    ) in format_kept_choice(choice)
    choice["chosen"] = mine["name"]
    assert "on other files mine was" not in format_kept_choice(choice), "it has no records"


def test_a_best_bet_says_what_would_settle_it() -> None:
    choice = keep(False, enough_rows=174)
    assert format_kept_choice(choice).endswith(
        " About 174 labelled rows like these would tell which is best, if they differ as much as now."
    )
    choice["candidates"][1]["rows"] = 15
    assert format_kept_choice(choice).endswith(
        " 1 candidate did not answer all folds: a longer budget may judge more of them."
    )
    assert "174" not in format_kept_choice(keep(True, enough_rows=174)), "a settled choice needs none"


def test_the_commonest_mistakes_and_a_rare_label_are_told() -> None:
    labels = [
        {"label": "billing", "rows": 40, "recall": 0.95},
        {"label": "refund", "rows": 5, "recall": 0.4},
    ]
    wrong = [
        {"label": "refund", "taken_for": "billing", "count": 3, "rows": 5},
        {"label": "billing", "taken_for": "refund", "count": 2, "rows": 40},
    ]
    assert format_mistakes({"labels": labels, "confusions": wrong}) == [
        "Most often it takes 'refund' for 'billing' (3 of 5 rows), 'billing' for 'refund' (2 of 40 rows).",
        "Of the 5 rows of 'refund', a rare label, it finds 2.",
    ]
    assert format_mistakes({"labels": labels[:1], "confusions": []}) == []


def test_the_only_candidate_is_not_said_to_be_the_best_of_any() -> None:
    told = format_kept_choice(keep(True, "tfidf"))
    assert told == "tfidf: the only candidate that was tried, by 58 rows in 4 folds; 12 s to fit a fold, 0.04 s a row."


def test_a_candidate_that_answered_some_rows_is_not_said_to_be_judged_by_all() -> None:
    choice = keep(False)
    choice["candidates"][0]["rows"] = 15
    assert ", by 15 of 58 rows in 4 folds; " in format_kept_choice(choice)


def test_what_is_stated_stands_beside_the_commonest_label() -> None:
    assert format_stated(keep()) == (
        "Expected accuracy on rows like these: 0.940 [0.850, 0.980]; macro_f1 0.930 [0.860, 1.000]. Always answering "
        "the majority class: 0.552."
    )


def test_labels_of_one_row_say_that_others_are_absent_and_what_that_costs() -> None:
    told = format_stated({**keep(), "single_labels": 7, "absent_share": 7 / 300})
    assert told.endswith(
        " 7 labels have one row: if the rows are a random sample, about 2.3 % of new rows have a label that the file "
        "lacks, and accuracy and macro F1 count these as wrong."
    )


def test_the_table_has_a_row_a_candidate_and_the_picture_ends_where_scores_end() -> None:
    table = KeptChoice(keep()).table()
    assert table["candidate"].to_list() == ["tfidf", "lora (mine)"] and table["accuracy"].to_list() == [0.95, 0.85]
    pytest.importorskip("altair")
    drawn = KeptChoice(keep()).plot().to_dict()
    [values] = drawn["datasets"].values() if "datasets" in drawn else [drawn["data"]["values"]]
    assert [each["chosen"] for each in values] == [True, False]
    assert values[0]["high"] == 1.0 and values[1]["high"] == pytest.approx(0.85 + 1.96 * 0.04)
