"""The classifier that chooses among candidates: what it takes, tells, and hands on to clones and pickles."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.base import clone

from fewtune import FewtuneClassifier
from fewtune.fitting.candidates import Candidate, Portfolio
from fewtune.fitting.events import Begun, FoldEnded, LastFitBegun
from praise_and_complaints import LABELS, TEXTS


def test_auto_fits_the_best_candidate_on_all_rows_and_tells_why(model_folders: dict[str, Path]) -> None:
    frame = pd.DataFrame({"message": [f"{text} {n}" for n in range(2) for text in TEXTS], "label": ["x"] * 24})
    classes = [label == "praise" for label in LABELS * 2]
    encoder = str(model_folders["sentence-encoder"])
    classifier = FewtuneClassifier(model=encoder, budget="60s", within=0.25).fit(frame, classes)
    decision = classifier.decision_
    assert decision.kept["within"] == 0.25 and classifier.method_ == classifier.predictor_.origin["method"]
    assert decision.chosen.startswith(classifier.method_) and f"{decision}".startswith(
        f"Use {decision.chosen}: expected"
    )
    assert classifier.predictor_.origin["rows"] == 24 and classifier.predictor_.origin["out_of_fold"]["rows"] == 24
    assert classifier.predict(frame).tolist() == classes and classifier.classes_.tolist() == [False, True]
    board = classifier.leaderboard()
    assert board.width == 8 and {"tfidf", f"embeddings ({encoder})"} <= set(board["candidate"])
    assert board["expected_loss"][0] == board["expected_loss"].min()
    again = pickle.loads(pickle.dumps(classifier))
    assert again.leaderboard().equals(board) and again.decision_ == decision
    assert again.plot().to_dict() == classifier.plot().to_dict()
    with pytest.raises(AttributeError, match="was fitted alone, so that there is no decision"):
        _ = FewtuneClassifier("embeddings", encoder).fit(TEXTS, LABELS).decision_
    with pytest.warns(UserWarning, match="not clearly better than always answering 'false'"):
        classifier.set_params(fast=True).fit(frame, [number % 7 == 0 for number in range(24)])


def test_a_choice_takes_what_the_command_takes_and_tells_what_goes_on(
    model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = str(model_folders["sentence-encoder"])
    texts = [f"{text} {number}" for number in range(2) for text in TEXTS] + [f"what of {n}" for n in range(6)]
    classes = [1, 2] * 12 + [0] * 6
    heard: list[Any] = []
    given = {"fast": True, "metric": "mcc", "none_label": 0, "verbose": True}
    classifier = FewtuneClassifier(model=encoder, callback=heard.append, **given).fit(texts, classes)
    assert classifier.decision_.kept["metric"] == "mcc"
    assert set(classifier.leaderboard()["candidate"]) >= {"tfidf", f"embeddings ({encoder})"}
    assert classifier.predictor_.origin["none_label"]["label"] == "0"
    assert isinstance(heard[0], Begun) and isinstance(heard[-1], LastFitBegun)
    assert sum(isinstance(event, FoldEnded) for event in heard) == 8, "no network trains"
    assert "tfidf: mcc" in capsys.readouterr().out
    for wrong, told in (
        ({"none_label": 3}, r"none_label is 3, and the classes are 0, 1, 2\."),
        ({"max_latency": "soon"}, "max_latency is 'soon'; give a time such as 50ms or 1s"),
        ({"max_memory": 3}, "max_memory is 3; give text such as"),
        ({"max_fit_seconds": "1m"}, "max_fit_seconds is '1m'; give a number of seconds"),
        ({"metric": "beauty"}, "beauty"),
        ({"metric": 3}, "metric is 3; give a name such as"),
        ({"callback": 3}, "callback is 3; give a function of one event"),
        ({"method": "tfidf", "verbose": True}, "verbose: of a choice among candidates"),
        ({"model": encoder, "max_memory": "1kB"}, "its weights take .* above 1000 B"),
        (
            {"method": "tfidf", "fast": True},
            r"fast: of a choice among candidates, and method='tfidf' is fitted alone\.",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            FewtuneClassifier(**wrong).fit(texts, classes)


def test_a_callback_is_shared_by_clones_and_left_behind_by_pickles() -> None:
    class Recorder:
        """Holds what cannot be copied."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def hear(self, event: object) -> None:
            raise AssertionError("nothing is fitted")

    recorder = Recorder()
    given = FewtuneClassifier(metric="mcc", callback=recorder.hear)
    twin = clone(given)
    assert twin is not given and twin.metric == "mcc" and twin.callback is given.callback
    assert pickle.loads(pickle.dumps(given)).callback is None


def test_a_choice_that_is_not_settled_is_told_by_the_decision_and_by_no_warning(model_folders: dict[str, Path]) -> None:
    """Every warning is an error here. The best bet is an answer, and a search would warn in each fold."""
    texts = [f"{text} {number}" for number in range(2) for text in TEXTS]
    encoder = str(model_folders["sentence-encoder"])
    classifier = FewtuneClassifier(model=encoder, budget="5s", within=0.0).fit(texts, LABELS * 2)
    assert not classifier.decision_.settled and classifier.method_ != "majority"


def test_a_named_method_is_fitted_on_one_model_and_no_other_is_ignored() -> None:
    with pytest.raises(ValueError, match=r"fitted on one model and 2 are given \(a, b\): name one, or method='auto'"):
        FewtuneClassifier("lora", ["a", "b"]).fit(TEXTS, LABELS)


def test_rows_that_are_left_out_are_told_in_one_warning_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fewtune.fitting.candidates.list_candidates", lambda task, models, **asked: Portfolio((Candidate("tfidf"),))
    )
    texts, labels = [*TEXTS, TEXTS[0], TEXTS[1].upper(), TEXTS[2]], [*LABELS, LABELS[0], LABELS[1], LABELS[3]]
    with pytest.warns(UserWarning) as told:
        FewtuneClassifier().fit(texts, labels)
    assert [str(each.message) for each in told if "left out" in str(each.message)] == [
        "Rows left out: 2 repeated, 2 contradictory (a text, several labels)."
    ]
