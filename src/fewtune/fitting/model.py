"""Makes the final model: chosen among candidates by folds of all rows, fitted on them, calibrated and measured.

Owns the whole way from a task to a predictor, for the command line, the estimator and a finished study alike. Which
candidate is fitted when is `contest`'s, and how candidates compare is `standing`'s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewtune.errors import DataError, FewtuneError
from fewtune.fitting.absent_labels import AbsentLabels, find_absent_labels
from fewtune.fitting.candidates import Candidate, CandidateLeftOut, Portfolio
from fewtune.fitting.clock import Clock
from fewtune.fitting.contest import CandidateState, Contest, Fit
from fewtune.fitting.evaluation import list_confusions, measure, score_labels
from fewtune.fitting.events import Begun, FittingEvent, LastFitBegun
from fewtune.fitting.fold_answers import WorkFolder
from fewtune.fitting.folds import make_folds
from fewtune.fitting.kept_models import KeptModels
from fewtune.fitting.none_label import add_offset, check_none_label, choose_offset
from fewtune.fitting.prior import Prior, pool_priors
from fewtune.fitting.stacking import Stack, propose_stack
from fewtune.fitting.standing import Answered, Standing, Standings, bound_score, compare, is_settled
from fewtune.fitting.terms import Terms
from fewtune.inference.majority import is_above_majority
from fewtune.metrics.counts import SCORES
from fewtune.metrics.reliability import describe_calibration
from fewtune.models import find_model, resolve_precision
from fewtune.plurals import pluralise
from fewtune.predictors.abstention import choose_abstention
from fewtune.predictors.stack import stack_predictors
from fewtune.predictors.temperature import fit_temperature, normalise
from fewtune.running.fit_rows import FitRequest, OnStep, fit_task, hear_nothing, make_task
from fewtune.tasks.base import Task, TestSet

if TYPE_CHECKING:
    from fewtune.engine.resuming import Resumption
    from fewtune.predictors.predictor import Predictor

FOLDS = 4
"""Folds where none are said: three quarters of the rows fit each model."""
CONFUSIONS_KEPT = 20
"""That a model keeps, the commonest ones."""
AS_GOOD = 1 / 30
"""Of the tolerance: what a candidate may be expected to lose more than the best bet, and be as good. Of those that are
as good the one is taken that answers rows the fastest."""


@dataclass(frozen=True)
class Choice:
    """What was chosen among which candidates, and by what."""

    standings: Standings
    """The best bet first, which is the one that was taken unless another is as good and faster."""
    chosen: Standing
    settled: bool
    """Whether the chosen one is expected to lose a sixth of the tolerance at most, at a risk of 5 % at most."""
    within: float
    metric: str
    folds: int
    rows: int
    """That the folds answer together."""
    row_seconds: Mapping[str, float]
    """To answer a row, by candidate."""
    fit_seconds: Mapping[str, float]
    """Of a fold's fit, by candidate."""
    left_out: tuple[CandidateLeftOut, ...]
    seconds: float
    """That choosing took, last fit left out."""
    members: Mapping[str, float]
    """The candidates that are fitted for it, with their weights: itself alone, unless a stack was chosen."""
    answered: Mapping[str, Answered]
    """What each candidate answered."""
    priors: Mapping[str, Prior]
    """What other files say of each."""


@dataclass(frozen=True)
class FittedFile:
    """A file's rows, the predictor fitted on all of them, and what models that had not seen each row made of it."""

    predictor: Predictor
    rows: Sequence[Mapping[str, str]]
    numbers: Sequence[str]
    """Where each stands in the file, from 1, or what its task calls it; repeats and contradictions are left out."""
    gold: npt.NDArray[np.int64]
    """The place of each row's label among the predictor's, (rows,)."""
    judged: npt.NDArray[np.int64]
    """Places of the rows that the folds' models answered: all but single rows of a label, or those time allowed."""
    probabilities: np.ndarray | None
    """Of these, calibrated, (rows judged, labels); None without folds."""
    choice: Choice | None
    """None without folds."""
    refused: str | None = None
    """Why it always answers although a risk was asked for."""

    @property
    def unclear(self) -> str | None:
        """What says that the model is not clearly better than always answering one label; None where it is, or no fold
        shows it.
        """
        if self.probabilities is None:
            return None
        gold = self.gold[self.judged]
        right, counts = self.probabilities.argmax(axis=1) == gold, np.bincount(gold)
        share = float(counts.max() / len(gold))
        if is_above_majority(right, share):
            return None
        return (
            f"This model is not clearly better than always answering {self.predictor.labels[int(counts.argmax())]!r}: "
            f"{right.mean():.3f} of {pluralise(len(gold), 'row')} are right, against {share:.3f}. Give more rows, or "
            "look at their labels."
        )


def make_model(
    task: Task,
    portfolio: Portfolio,
    terms: Terms,
    began: float | None = None,
    work: WorkFolder | None = None,
    hear: Callable[[FittingEvent], None] = lambda event: None,
    on_step: OnStep = hear_nothing,
    found: Mapping[str, Any] | None = None,
) -> FittedFile:
    """Choose among candidates by folds of a task's training rows, fit the choice on all of them and calibrate it.

    `began` is when the command did, by `time.perf_counter`; None: now. In the `work` folder folds are kept until the
    model is saved. `found` joins what the model says of where it came from; `hear` is told what goes on, `on_step` the
    steps of each fit. Raises FewtuneError where something cannot be used.
    """
    if terms.none_label is not None:
        check_none_label(task, terms.none_label, terms.folds)
    work = WorkFolder() if work is None else work
    clock = Clock(terms.seconds, time.perf_counter() if began is None else began)
    models = KeptModels()
    rows = [row.fields for row in task.train]
    labels = [task.labels[row.label] for row in task.train if row.label is not None]

    def fit(candidate: Candidate, places: Sequence[int], watch: OnStep, resumption: Resumption | None) -> Predictor:
        def both(step: int, steps: int, loss: float) -> None:
            clock.keep()
            watch(step, steps, loss)
            on_step(step, steps, loss)

        request = FitRequest(candidate.method, candidate.model, candidate.settings, terms.seed, terms.max_tokens)
        some = make_task([rows[i] for i in places], [labels[i] for i in places], task)
        return fit_task(some, (), request, both, models, resumption, lambda seconds: clock.left() > seconds)

    def describe(candidate: Candidate, fold: int | None) -> dict[str, Any]:
        return _describe(task, candidate, () if fold is None else folds[fold].tolist(), terms)

    folds = _deal_folds(labels, terms, portfolio)
    contest = Contest(task, portfolio.candidates, folds, terms, clock, work, hear)
    choice, taken = None, contest.take_kept(describe)
    if folds:
        hear(Begun(portfolio, len(labels), len(folds), terms.seconds, taken, task.primary_metric, clock.earlier))
    while True:
        members = [contest.entries[0]]
        if folds:
            contest.hold(fit)
            stack = propose_stack(contest, clock.left(), terms.limits)
            choice = _choose(contest, stack, portfolio, terms, task, clock)
            members = [contest.find(name) for name in choice.members]
        fitted = _fit_members(contest, members, fit, clock, hear)
        if fitted is not None:
            break
    predictor = fitted[0] if len(fitted) == 1 or choice is None else _pool(fitted, list(choice.members.values()))
    origin = {**predictor.origin, "label_counts": dict(Counter(labels)), **(found or {})}
    predictor = replace(predictor, origin=origin)
    judged, probabilities, refused = np.arange(0), None, None
    if choice is not None:
        judged = choice.answered[choice.chosen.name].places
        predictor, probabilities = _learn_from_folds(predictor, choice, contest.gold, terms.none_label)
    if terms.risk is not None:
        predictor, refused = _abstain(predictor, probabilities, contest.gold[judged], terms.risk)
    tests = {test.name: _measure_test(predictor, test) for test in task.test_sets if test.rows}
    if tests:
        predictor = replace(predictor, origin={**predictor.origin, "tests": tests})
    numbers = [row.row_id.removeprefix("train/") for row in task.train]
    return FittedFile(predictor, rows, numbers, contest.gold, judged, probabilities, choice, refused)


def _fit_members(
    contest: Contest, members: Sequence[CandidateState], fit: Fit, clock: Clock, hear: Callable[[FittingEvent], None]
) -> list[Predictor] | None:
    """What was chosen, fitted on all rows, for as long as there is time where it is better for that.

    None where one of it cannot be fitted: it is left out, so that others may be.
    """
    fitted, rows = [], range(len(contest.gold))
    for place, entry in enumerate(members):
        others = sum(contest.foresee_last_fit(other) for other in members[place + 1 :])
        times = contest.choose_length(entry, clock.left() - others)
        candidate, seconds = entry.candidate.lengthen(times), None
        if entry.answers:
            seconds = times * contest.foresee_last_fit(entry)
        hear(LastFitBegun(candidate.name, len(rows), seconds, times))
        try:
            fitted.append(fit(candidate, rows, hear_nothing, contest.resume(candidate, None)))
        except Exception as error:
            if not entry.answers:  # without folds there is no other
                raise
            contest.drop(entry, error)
            return None
    return fitted


def _deal_folds(labels: Sequence[str], terms: Terms, portfolio: Portfolio) -> list[npt.NDArray[np.int64]]:
    """The rows that each fold answers; none where none are asked for, or no two rows share a label."""
    several = len(portfolio.candidates) > 1
    if terms.folds == 0:
        if several:
            raise FewtuneError("0 folds: several candidates are told apart by folds. Give 2 or more, or one method.")
        return []
    if not several and terms.folds is None and max(Counter(labels).values()) < 2:
        return []
    return make_folds(labels, terms.folds or FOLDS, 1, np.random.default_rng(terms.seed))


def _describe(task: Task, candidate: Candidate, left: Sequence[int], terms: Terms) -> dict[str, Any]:
    """All that decides what a candidate's model answers that is fitted without the rows at some places."""
    return {
        "rows": task.fingerprint,
        "labels": list(task.labels),
        "patterns": [repr(pattern) for pattern in task.patterns],
        "method": candidate.method,
        "settings": dict(candidate.settings),
        "weights": None if candidate.model is None else find_model(candidate.model).weights_fingerprint,
        "precision": resolve_precision("auto"),
        "max_tokens": terms.max_tokens,
        "seed": terms.seed,
        "left": list(left),
        "fewtune": version("fewtune"),
    }


def _choose(
    contest: Contest, stack: Stack | None, portfolio: Portfolio, terms: Terms, task: Task, clock: Clock
) -> Choice:
    answered, priors = contest.list_answered(), dict(contest.priors)
    entries = {entry.candidate.name: entry for entry in contest.entries if entry.answers}
    row_seconds = {name: entry.count_row_seconds() for name, entry in entries.items()}
    fit_seconds = {name: entry.count_alone_seconds() for name, entry in entries.items()}
    if stack is not None:
        answered[stack.name] = stack.answered
        priors[stack.name] = pool_priors([priors[name] for name in stack.weights])
        row_seconds[stack.name], fit_seconds[stack.name] = stack.row_seconds, stack.fit_seconds
    standings = compare(answered, contest.gold, len(task.labels), task.primary_metric, terms.within, priors)
    least = standings.best.expected_loss
    as_good = [each for each in standings.standings if each.expected_loss <= least + AS_GOOD * terms.within]
    chosen = min(as_good, key=lambda each: row_seconds[each.name])
    pooled = stack is not None and chosen.name == stack.name
    return Choice(
        standings=standings,
        chosen=chosen,
        settled=is_settled(chosen.expected_loss, chosen.risk, terms.within),
        within=terms.within,
        metric=task.primary_metric,
        folds=contest.count_folds(),
        rows=contest.count_judged(),
        row_seconds=row_seconds,
        fit_seconds=fit_seconds,
        left_out=(*portfolio.left_out, *(e.left_out for e in contest.entries if e.left_out is not None)),
        seconds=clock.spent(),
        members=stack.weights if stack is not None and pooled else {chosen.name: 1.0},
        answered=answered,
        priors=priors,
    )


def _pool(fitted: Sequence[Predictor], weights: Sequence[float]) -> Predictor:
    """Members fitted on all rows as one model, which keeps what is alike of where they came from."""
    pooled = stack_predictors(fitted, weights)
    alike = {key: value for key, value in fitted[0].origin.items() if all(e.origin.get(key) == value for e in fitted)}
    return replace(pooled, origin={**alike, "method": "stack"})


def _learn_from_folds(
    predictor: Predictor, choice: Choice, gold: npt.NDArray[np.int64], none_label: str | None
) -> tuple[Predictor, np.ndarray]:
    """The predictor calibrated by what the folds' models answered, with what it is expected to score; and these
    answers' probabilities (rows judged, labels).
    """
    answered = choice.answered[choice.chosen.name]
    known = gold[answered.places]
    predictor, scores = calibrate(predictor, answered.log_probabilities, known, none_label)
    answers = {**choice.answered, choice.chosen.name: replace(answered, log_probabilities=scores)}
    choice = replace(choice, answered=answers)
    absent = find_absent_labels(gold)
    stated = _state(choice, gold, len(predictor.labels), absent)
    kept = {**_note(choice), "stated": stated, "majority": float(np.bincount(gold).max() / len(gold))}
    kept["single_labels"], kept["absent_share"] = absent.single, absent.share
    return replace(predictor, origin={**predictor.origin, "choice": kept}), np.exp(scores)


def _state(choice: Choice, gold: npt.NDArray[np.int64], labels: int, absent: AbsentLabels) -> dict[str, Any]:
    """What the model is expected to score on rows like these, by metric: mean and ends of its interval.

    It is the score by folds, less what the best of several candidates has in excess for being the best, and, of an
    accuracy or a macro F1, less what rows of labels that the file lacks cost.
    """
    stated, answered = {}, choice.answered[choice.chosen.name]
    known, predicted = gold[answered.places], answered.log_probabilities.argmax(axis=1).astype(np.int64)
    for metric in dict.fromkeys((choice.metric, "accuracy", "macro_f1")):
        standings = compare(choice.answered, gold, labels, metric, choice.within, choice.priors)
        own = standings.find(choice.chosen.name)
        score, error = own.score - standings.optimism, own.error
        if metric == "accuracy":
            score = absent.lower_accuracy(score)
        elif metric == "macro_f1":
            score, error = absent.lower_macro_f1(score, error, known, predicted)
        stated[metric] = [score, *bound_score(score, error, own.rows, metric)]
    return stated


def _note(choice: Choice) -> dict[str, Any]:
    """What the model keeps of how it was chosen."""
    return {
        "chosen": choice.chosen.name,
        "settled": choice.settled,
        "within": choice.within,
        "metric": choice.metric,
        "folds": choice.folds,
        "rows": choice.rows,
        "seconds": choice.seconds,
        "enough_rows": None if choice.settled else choice.standings.enough_rows,
        "candidates": [
            {
                "name": each.name,
                "score": each.score,
                "error": each.error,
                "rows": each.rows,
                "expected_loss": each.expected_loss,
                "risk": each.risk,
                "prior": _note_prior(each.prior),
                "fit_seconds": choice.fit_seconds[each.name],
                "row_seconds": choice.row_seconds[each.name],
            }
            for each in choice.standings.standings
        ],
        "left_out": [{"name": each.name, "reason": each.reason} for each in choice.left_out],
    }


def _note_prior(prior: Prior) -> float | None:
    """What is expected of a candidate, above a level that is all candidates' alike; None where nothing is known."""
    return prior.mean if isfinite(prior.spread) else None


def _abstain(
    predictor: Predictor, probabilities: np.ndarray | None, gold: npt.NDArray[np.int64], risk: float
) -> tuple[Predictor, str | None]:
    """The predictor with a threshold that holds a risk; or as it was, and why it has none."""
    if probabilities is None:
        return predictor, "a threshold is chosen by folds of the rows, and there were none."
    try:
        return replace(predictor, abstention=choose_abstention(probabilities, gold, risk)), None
    except DataError as reason:  # minutes of fitting are kept: the model answers all, and says so
        return predictor, str(reason)


def _measure_test(predictor: Predictor, test: TestSet) -> dict[str, Any]:
    """A test set's metrics with their intervals, and how many rows it has."""
    gold = np.array([row.label for row in test.rows], dtype=np.int64)
    probabilities = predictor.predict_probabilities([row.fields for row in test.rows])
    return {"rows": len(gold), "metrics": _list_scores(probabilities, gold)}


def _list_scores(probabilities: np.ndarray, gold: npt.NDArray[np.int64]) -> dict[str, list[float | None]]:
    """Each score's mean and the ends of its interval."""
    found = measure(probabilities, gold).metrics.items()
    return {name: [bounds.mean, bounds.low, bounds.high] for name, bounds in found if name in SCORES}


def calibrate(
    predictor: Predictor, scores: np.ndarray, gold: npt.NDArray[np.int64], none_label: str | None = None
) -> tuple[Predictor, np.ndarray]:
    """The predictor with a temperature, and calibrated log-probabilities (rows, labels), from those of rows that were
    not fitted on; with what is added to the label of rows of none, where there is one.
    """
    temperature = fit_temperature(scores, gold)
    predictor, calibrated, none = replace(predictor, temperature=temperature), normalise(scores / temperature), {}
    if none_label is not None:
        place = predictor.labels.index(none_label)
        chosen, calibrated = choose_offset(calibrated, gold, none_label, place)
        predictor, none = add_offset(predictor, place, chosen.offset), {"none_label": asdict(chosen)}
    before, after = np.exp(scores), np.exp(calibrated)
    answers = after.argmax(axis=1).astype(np.int64)
    learnt = {
        "rows": len(gold),
        "temperature": temperature,
        "before": describe_calibration(before, gold),
        "after": describe_calibration(after, gold),
        "metrics": _list_scores(after, gold),
        "labels": [asdict(each) for each in score_labels(gold, answers, predictor.labels)],
        "confusions": [asdict(each) for each in list_confusions(gold, answers, predictor.labels)[:CONFUSIONS_KEPT]],
    }
    return replace(predictor, origin={**predictor.origin, "out_of_fold": learnt, **none}), calibrated
