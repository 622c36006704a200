"""A task's rows become a model: chosen by folds, fitted on all rows, saved with its card; killed, it goes on alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewtune
from fewtune.cli.fit_display import save_with_card
from fewtune.errors import FewtuneError
from fewtune.fitting import fold_answers
from fewtune.fitting import model as module
from fewtune.fitting.candidates import Candidate, Portfolio
from fewtune.fitting.contest import Contest
from fewtune.fitting.events import Begun, Dropped, FittingEvent, FoldBegun, FoldEnded, LastFitBegun
from fewtune.fitting.fold_answers import WorkFolder
from fewtune.fitting.model import FittedFile, make_model
from fewtune.fitting.stacking import Stack, propose_stack
from fewtune.fitting.terms import ModelLimits, Terms
from fewtune.predictors.predictor import Predictor
from fewtune.report.model_choice import format_kept_choice
from fewtune.running.fit_rows import make_task
from fewtune.tasks.base import Task
from tiny_models import BAD, GOOD, SUBJECTS

NEW = [f"{subject} {words}" for subject in ("a dog", "her boat") for words in (*GOOD, *BAD)]
TFIDF, MAJORITY = Candidate("tfidf"), Candidate("majority")
LORA = {"epochs": 1, "rank": 2, "readout": "head"}


def make_rows(more: Sequence[tuple[str, str]] = ()) -> Task:
    """Twenty-eight rows of two labels, and more."""
    rows = [(f"{subject} {words}", "good") for subject in SUBJECTS for words in GOOD[:2]]
    rows += [(f"{subject} {words}", "bad") for subject in SUBJECTS for words in BAD[:2]]
    rows += more
    return make_task([text for text, _ in rows], [label for _, label in rows])


def fit(
    task: Task, *candidates: Candidate, work: WorkFolder | None = None, hear: Any = lambda event: None, **terms: Any
) -> FittedFile:
    return make_model(task, Portfolio(candidates), Terms(**terms), work=work, hear=hear)


def load_again(fitted: FittedFile, folder: Path) -> str:
    """Save a model, claim that it loads in the same answers, and return its card."""
    save_with_card(fitted, folder)
    answers = fitted.predictor.predict_probabilities(NEW)
    np.testing.assert_allclose(fewtune.load(folder).predict_probabilities(NEW), answers, atol=1e-5)
    return " ".join((folder / "README.md").read_text(encoding="utf-8").split())


def test_a_stack_that_is_chosen_is_fitted_saved_and_told(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def praise(contest: Contest, left: float, limits: ModelLimits) -> Stack:
        """The stack that there is, as if it had answered all rows right and at once."""
        stack = propose_stack(contest, left, limits)
        assert stack is not None and len(stack.weights) == 2
        right = np.log(np.where(np.eye(2, dtype=bool)[contest.gold[stack.answered.places]], 0.9, 0.1))
        return replace(stack, answered=replace(stack.answered, log_probabilities=right), row_seconds=0.0)

    monkeypatch.setattr(module, "propose_stack", praise)
    begun: list[str] = []

    def hear(event: FittingEvent) -> None:
        if isinstance(event, LastFitBegun):
            begun.append(event.name)

    encoder = Candidate("embeddings", str(model_folders["sentence-encoder"]))
    fitted = fit(make_rows(), TFIDF, encoder, hear=hear)
    assert fitted.choice is not None and set(begun) == set(fitted.choice.members) == {"tfidf", encoder.name}
    assert fitted.predictor.origin["method"] == "stack" and fitted.predictor.origin["rows"] == 28
    assert "settings" not in fitted.predictor.origin, "which are each member's own"
    card = load_again(fitted, tmp_path / "model")
    assert "It pools the answers of 2 models, by weights: " in card and "stack of " in card
    monkeypatch.undo()
    fitted = fit(make_rows(), TFIDF, encoder, limits=ModelLimits(model_bytes=1))
    assert fitted.choice is not None and len(fitted.choice.members) == 1, "together they take more than they may"


def test_a_budget_too_small_for_anything_gives_the_first_candidates_model_and_says_by_what_it_was_judged(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    llama = Candidate("lora", str(model_folders["llama"]), LORA)
    fitted = fit(make_rows(), TFIDF, llama, seconds=1e-3)
    choice = fitted.predictor.origin["choice"]
    assert [each["name"] for each in choice["candidates"]] == ["tfidf"] and len(fitted.judged) == 7
    assert "by 7 of 28 rows in 4 folds" in format_kept_choice(choice)
    assert "Each of the 7 rows was answered by a model fitted without it." in load_again(fitted, tmp_path / "model")


@pytest.mark.parametrize("at_last_fit", [False, True])
def test_killed_the_same_call_goes_on_to_the_same_model(
    model_folders: dict[str, Path], tmp_path: Path, at_last_fit: bool
) -> None:
    candidates = (TFIDF, Candidate("lora", str(model_folders["llama"]), LORA))
    work = WorkFolder(tmp_path / "model-unfinished")

    def kill(event: FittingEvent) -> None:
        fold = isinstance(event, FoldBegun) and event.name == candidates[1].name
        if isinstance(event, LastFitBegun) if at_last_fit else fold:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_rows(), *candidates, work=work, hear=kill)
    heard: list[FittingEvent] = []
    resumed = fit(make_rows(), *candidates, work=work, hear=heard.append)
    [begun] = [event for event in heard if isinstance(event, Begun)]
    assert begun.kept["tfidf"] == 4 and (candidates[1].name in begun.kept) == at_last_fit
    if at_last_fit:
        assert not [event for event in heard if isinstance(event, FoldEnded)], "all folds stand"
    straight = fit(make_rows(), *candidates)
    assert resumed.choice is not None and straight.choice is not None
    assert resumed.choice.standings == straight.choice.standings
    assert resumed.predictor.temperature == straight.predictor.temperature
    np.testing.assert_allclose(
        resumed.predictor.predict_probabilities(NEW), straight.predictor.predict_probabilities(NEW), atol=1e-5
    )


@pytest.mark.parametrize("kill_at", [2, 10])
def test_a_fit_that_is_killed_on_its_way_goes_on_from_where_it_stood(
    kill_at: int, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second step of a fold's fit, and of the fit on all rows."""
    monkeypatch.setattr(fold_answers, "FIT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(fold_answers, "FIT_SHARE", 1.0)
    lora, work = Candidate("lora", str(model_folders["llama"]), LORA), WorkFolder(tmp_path / "model-unfinished")
    steps: list[int] = []

    def count(step: int, of: int, loss: float) -> None:
        steps.append(step)
        if len(steps) == kill_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_model(make_rows(), Portfolio((lora,)), Terms(), work=work, on_step=count)
    done = steps[-1]
    assert done > 1
    resumed = make_model(make_rows(), Portfolio((lora,)), Terms(), work=work, on_step=count)
    assert steps[kill_at] == done, "the step that was not kept is the first one"
    straight = fit(make_rows(), lora)
    assert resumed.choice is not None and straight.choice is not None
    assert resumed.choice.standings == straight.choice.standings
    np.testing.assert_allclose(
        resumed.predictor.predict_probabilities(NEW), straight.predictor.predict_probabilities(NEW), atol=1e-5
    )
    work.remove()
    assert work.path is not None and not work.path.exists()


def test_folds_of_other_rows_labels_or_seeds_are_not_taken_over(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "model-unfinished")
    fit(make_rows(), TFIDF, work=work)

    def count_kept(task: Task, **terms: Any) -> int:
        kept: list[int] = []

        def hear(event: FittingEvent) -> None:
            if isinstance(event, Begun):
                kept.append(sum(event.kept.values()))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(task, TFIDF, work=work, hear=hear, **terms)
        return kept[0]

    assert count_kept(make_rows()) == 4
    assert count_kept(make_rows([("one more row", "good")])) == 0
    assert count_kept(make_rows(), seed=1) == 0 and count_kept(make_rows(), folds=5) == 0


def test_the_only_row_of_a_label_is_fitted_on_and_in_no_sentence_judged(tmp_path: Path) -> None:
    fitted = fit(make_rows([("what is this", "odd")]), TFIDF)
    assert fitted.predictor.labels == ("bad", "good", "odd") and fitted.predictor.origin["rows"] == 29
    assert len(fitted.judged) == 28 and 28 not in fitted.judged
    assert "by 28 rows in 4 folds" in format_kept_choice(fitted.predictor.origin["choice"])
    load_again(fitted, tmp_path / "model")


def test_labels_that_are_all_rare_are_each_judged() -> None:
    task = make_task([f"{label} {n}" for label in "abcd" for n in range(2)], [label for label in "abcd" for _ in "12"])
    fitted = fit(task, TFIDF)
    assert fitted.judged.tolist() == list(range(8)) and fitted.predictor.labels == ("a", "b", "c", "d")


def test_without_folds_one_candidate_is_fitted_as_it_is_and_several_are_refused() -> None:
    fitted = fit(make_rows(), TFIDF, folds=0)
    assert fitted.choice is None and fitted.probabilities is None and fitted.predictor.temperature == 1.0
    assert fitted.unclear is None and "choice" not in fitted.predictor.origin
    with pytest.raises(FewtuneError, match="0 folds: several candidates are told apart by folds"):
        fit(make_rows(), TFIDF, MAJORITY, folds=0)


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "macro_f1"])
def test_what_a_model_keeps_of_its_choice_is_plain_json_within_the_metrics_range(metric: str) -> None:
    fitted = fit(replace(make_rows(), primary_metric=metric), TFIDF, MAJORITY)
    kept = fitted.predictor.origin["choice"]
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept and kept["metric"] == metric
    assert kept["chosen"] == "tfidf" and set(kept["stated"]) == {metric, "accuracy", "macro_f1"}
    for name, (mean, low, high) in kept["stated"].items():
        assert low <= mean <= high <= 1 and low >= (-1 if name == "mcc" else 0)


def test_what_cannot_be_fitted_on_all_rows_leaves_the_place_to_the_next_best(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(broken: set[str]) -> Callable[..., Predictor]:
        def fit_task(task: Task, pool: Any, request: Any, *more: Any) -> Predictor:
            if len(task.train) == 28 and request.method in broken:
                raise FewtuneError("its loss became nan.")
            return real(task, pool, request, *more)

        return fit_task

    real, heard = module.fit_task, list[FittingEvent]()
    monkeypatch.setattr(module, "fit_task", fail({"tfidf"}))
    fitted = fit(make_rows(), TFIDF, MAJORITY, hear=heard.append)
    assert fitted.predictor.origin["method"] == "majority"
    kept = fitted.predictor.origin["choice"]
    assert [each["name"] for each in kept["candidates"]] == ["majority"]
    assert kept["left_out"] == [{"name": "tfidf", "reason": "its loss became nan."}]
    assert [event.left_out.name for event in heard if isinstance(event, Dropped)] == ["tfidf"]
    monkeypatch.setattr(module, "fit_task", fail({"tfidf", "majority"}))
    with pytest.raises(FewtuneError, match=r"no candidate could be fitted. tfidf: its loss became nan\. majority: its"):
        fit(make_rows(), TFIDF, MAJORITY)
