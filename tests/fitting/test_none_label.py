"""Rows that belong to none of the labels: how readily a model says so is chosen by rows that it had not seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import fewtune
from command_line import call
from fewtune.errors import FewtuneError
from fewtune.fitting.none_label import add_offset, check_none_label, choose_offset
from fewtune.predictors.stack import stack_predictors
from fewtune.running.fit_rows import fit_rows, make_task
from tiny_models import BAD, GOOD, SUBJECTS

LABELS = ["good", "bad", "none"]
TEXTS = [f"{subject} {words}" for subject in SUBJECTS for words in (GOOD[0], BAD[0])]
ROWS = [(text, LABELS[place % 2]) for place, text in enumerate(TEXTS)]
ROWS += [(f"what of {number} {subject}", "none") for number, subject in enumerate(SUBJECTS[:6])]


def make_scores(log_odds: Sequence[float]) -> np.ndarray:
    """Log-probabilities of the labels, the third's against the first as told."""
    scores = np.stack([np.zeros(len(log_odds)), np.full(len(log_odds), -20.0), np.array(log_odds)], axis=1)
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))


def test_the_offset_finds_rows_of_none_where_that_costs_less_than_it_brings() -> None:
    gold = np.array([2, 2, 2, 2, 0, 0, 0, 0, 0, 0], dtype=np.int64)
    log_odds = [1.0, -0.4, -0.6, -3.0, -0.55, -2.0, -2.5, -5.0, -6.0, -6.5]
    found, scores = choose_offset(make_scores(log_odds), gold, "none", 2)
    # Three of four found costs one of six; the fourth would cost three of six.
    assert (found.found_before, found.found, found.rows) == (1, 3, 4)
    assert (found.right_before, found.right, found.others) == (6, 5, 6)
    assert found.offset == 0.75, "the smallest that does"
    np.testing.assert_allclose(scores[:, 2] - scores[:, 0], np.array(log_odds) + 0.75)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0)
    told, same = choose_offset(make_scores([3.0, -4.0]), np.array([2, 0]), "none", 2)
    assert told.offset == 0.0 and told.found == 1 and same.argmax(axis=1).tolist() == [2, 0]


@pytest.mark.parametrize("pooled", [False, True])
def test_an_offset_is_part_of_what_is_saved(pooled: bool, tmp_path: Path) -> None:
    single = fit_rows([text for text, _ in ROWS], [label for _, label in ROWS], "tfidf")
    predictor = stack_predictors([single], [0.8]) if pooled else single
    place, asked = predictor.labels.index("none"), ["what of it", "a dog is kind", "zebra"]
    made = add_offset(predictor, place, 1.5)
    before, after = (np.log(each.predict_probabilities(asked)) for each in (predictor, made))
    others = [label for label in range(3) if label != place]
    shift = (after[:, [place]] - after[:, others]) - (before[:, [place]] - before[:, others])
    np.testing.assert_allclose(shift, 1.5)
    made.save(tmp_path / "model")
    np.testing.assert_allclose(np.log(fewtune.load(tmp_path / "model").predict_probabilities(asked)), after)
    assert add_offset(predictor, place, 0.0) is predictor


def test_what_cannot_be_a_label_of_none_is_told_before_anything_is_fitted() -> None:
    texts = [f"text {number}" for number in range(7)]
    three = make_task(texts, ["x", "y", "x", "y", "x", "y", "none"])
    for task, label, folds, told in (
        (three, "other", None, "no row has 'other', the label of rows of none. The labels are none, x, y."),
        (three, "nine", None, "the label of rows of none. Did you mean 'none'? The labels"),
        (three, "none", None, "'none', the label of rows of none, has 1 row: give 2 or more."),
        (three, "x", 0, "0 folds: how readily"),
        (
            make_task(texts[:4], ["x", "none"] * 2),
            "none",
            None,
            "there is one other label, and two or more are needed.",
        ),
    ):
        with pytest.raises(FewtuneError, match=re.escape(told)):
            check_none_label(task, label, folds)


def test_the_command_tells_what_it_found_and_what_that_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    given = ("fit", file, "--method", "tfidf", "--none-label", "none", "--save", tmp_path / "model")
    assert call(*given) == 0
    said = " ".join(capsys.readouterr().out.split())
    predictor = fewtune.load(tmp_path / "model")
    learnt = predictor.origin["none_label"]
    assert learnt["rows"] == 6 and learnt["others"] == len(ROWS) - 6 and learnt["found"] >= learnt["found_before"]
    head = "'none' is given more readily" if learnt["offset"] else "Giving 'none' more readily would not pay"
    assert head in said and head in " ".join((tmp_path / "model" / "README.md").read_text().split())
    assert call("fit", file, "--method", "tfidf", "--none-label", "x", "--save", tmp_path / "other") == 2
    assert "no row has 'x', the label of rows of none. The labels are bad, good, none." in " ".join(
        capsys.readouterr().err.split()
    )
