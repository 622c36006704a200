"""Evaluates a model's answers to labelled rows: metrics with intervals, by label, and the commonest confusions.

Owns the measuring, of one model and of two on the same rows. Gold labels that a model has never seen stand behind its
own: their rows count as wrong, and what is made of probabilities leaves them out.

Intervals are those of the choice of rows: an accuracy's is Wilson's (1927,
https://doi.org/10.1080/01621459.1927.10502953), of others normal, by what each row adds, and never shorter than so
many rows can tell where all are answered alike. One that would hold every score there is says nothing and is left out.
So is a Matthews correlation's where all rows have one answer, or one label: it is 0 then whatever they are, the only
score that nothing varies.
Of two models the difference on each row counts; right answers are held to McNemar's exact test besides (1947,
https://doi.org/10.1007/BF02295996), for a normal interval is too short where few rows tell the two apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from fewtune.analysis.stability import Bounds, bound_within
from fewtune.inference.answers import DrawAnswers
from fewtune.inference.better import LEVEL
from fewtune.inference.differences import measure_score, subtract
from fewtune.inference.scores import DrawScore, score_answers
from fewtune.metrics.counts import RANGES, SCORES, IntArray, count_answers, score_all
from fewtune.metrics.probabilities import describe, measure_calibration
from fewtune.predictors.answers import answer_rows
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.rows import TextRow
from fewtune.tasks.label_column import find_respelt


@dataclass(frozen=True)
class ModelEvaluation:
    """Metrics by name, of which some have no interval; `confusion` (labels, labels) counts rows by gold and answer."""

    metrics: Mapping[str, Bounds]
    majority_label: int
    """The commonest gold label of those that the model knows."""
    majority_scores: Mapping[str, float]
    """What always answering it scores, by metric."""
    confusion: IntArray
    known_rows: int
    """Rows whose label the model knows: figures of its probabilities are of these, and there are none without any."""

    @property
    def majority(self) -> float:
        """The share of the majority class."""
        return self.majority_scores["accuracy"]


@dataclass(frozen=True)
class LabelScore:
    """How well one label is told: of `rows` that have it and `answers` that give it.

    Precision is None where it is never the answer, recall where no row has it, F1 where both hold.
    """

    label: str
    rows: int
    answers: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Confusion:
    """One label taken for another in `count` of the `rows` that have it; `example` is the place of the first."""

    label: str
    taken_for: str
    count: int
    rows: int
    example: int


@dataclass(frozen=True)
class PairedScore:
    """A metric of two models on the same rows: the first's less the second's, with its 95 % interval."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    better: Literal["first", "second"] | None
    """None: it cannot be told."""


@dataclass(frozen=True)
class PairedModels:
    """Two models on the same rows: metrics by name, and how many rows each answers right."""

    metrics: Mapping[str, PairedScore]
    both_right: int
    first_alone: int
    second_alone: int
    neither_right: int
    exact_p: float
    """McNemar's exact test that each is alone in the right equally often."""


@dataclass(frozen=True)
class NamedLabels:
    """The labels of rows as places (rows,) among names: the `known` ones that a model has, then those it has not."""

    names: tuple[str, ...]
    known: int
    places: IntArray

    @cached_property
    def unknown(self) -> Mapping[str, int]:
        """How many rows there are of each label that the model has never seen, the commonest first."""
        counts = Counter(self.names[place] for place in self.places.tolist() if place >= self.known)
        return dict(counts.most_common())

    @cached_property
    def respelt(self) -> Mapping[str, str]:
        """Those of the unknown labels that differ from a known one in spelling alone, with that one."""
        return find_respelt(self.unknown, self.names[: self.known])


@dataclass(frozen=True)
class ModelAnswers:
    """A model's answers to labelled rows, and what they are worth."""

    gold: NamedLabels
    probabilities: np.ndarray
    """(rows, the model's labels)."""
    abstained: npt.NDArray[np.bool_]
    """(rows,): where it says nothing. Scores are of its likeliest label all the same."""
    evaluation: ModelEvaluation

    @cached_property
    def predicted(self) -> IntArray:
        """The place of each row's likeliest label (rows,)."""
        likeliest: IntArray = self.probabilities.argmax(axis=1).astype(np.int64)
        return likeliest

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Rows (rows,) whose likeliest label is not theirs."""
        wrong: npt.NDArray[np.bool_] = self.predicted != self.gold.places
        return wrong

    def score_labels(self) -> list[LabelScore]:
        """The scores of each label, those that the model has never seen at the end."""
        return score_labels(self.gold.places, self.predicted, self.gold.names)

    def list_confusions(self) -> list[Confusion]:
        """What it takes for what, the commonest first."""
        return list_confusions(self.gold.places, self.predicted, self.gold.names)


def name_labels(given: Iterable[str], labels: Sequence[str]) -> NamedLabels:
    """Rows' labels as places among a model's, followed by those that it has never seen as they first come."""
    places = {label: place for place, label in enumerate(labels)}
    found = [places.setdefault(label, len(places)) for label in given]
    return NamedLabels(tuple(places), len(labels), np.array(found, dtype=np.int64))


def evaluate_rows(
    predictor: Predictor,
    texts: Sequence[Mapping[str, str]],
    labels: Sequence[str],
    on_rows: Callable[[int], None] = lambda done: None,
) -> ModelAnswers:
    """Answer rows of texts by column and measure the answers against their labels; `on_rows` hears how many are done.

    A label that the model has never seen counts as answered wrong.
    """
    gold = name_labels(labels, predictor.labels)
    rows = (TextRow(number, {name: text[name] for name in predictor.fields}) for number, text in enumerate(texts, 1))
    windows, done = [], 0
    for answers in answer_rows(predictor, rows):
        windows.append(np.array([answer.probabilities for answer in answers]))
        done += len(answers)
        on_rows(done)
    probabilities = np.concatenate(windows)
    abstained = np.array([label is None for label in predictor.answer(probabilities)])
    return ModelAnswers(gold, probabilities, abstained, measure(probabilities, gold.places))


def measure(probabilities: np.ndarray, gold: IntArray) -> ModelEvaluation:
    """Measure probabilities (rows, labels) against gold labels (rows,); a gold label beyond these is never answered."""
    predicted, known = probabilities.argmax(axis=1).astype(np.int64), gold < probabilities.shape[1]
    labels = max(probabilities.shape[1], int(gold.max()) + 1)
    found = {}
    for name in SCORES:
        measured = measure_score([_score(gold, predicted, labels, probabilities.shape[1], name)])
        mean, reach = measured.mean, measured.reach(LEVEL / 2)
        varies = measured.error > 0
        found[name] = (
            bound_within(mean, mean - reach, mean + reach, RANGES[name]) if varies else Bounds(mean, None, None)
        )
    right = binomtest(int((predicted == gold).sum()), len(gold)).proportion_ci(0.95, method="wilson")
    found["accuracy"] = replace(found["accuracy"], low=float(right.low), high=float(right.high))
    if known.any():
        for name, value in describe(probabilities[known], gold[known]).items():
            found.setdefault(name, Bounds(value, None, None))
        error = measure_calibration(gold[known], predicted[known], probabilities[known])
        found["ece"] = Bounds(error, None, None)
    commonest = int(np.bincount(gold[known], minlength=probabilities.shape[1]).argmax())
    constant = score_all(count_answers(gold, np.full_like(gold, commonest), labels), SCORES)
    return ModelEvaluation(found, commonest, constant, count_answers(gold, predicted, labels), int(known.sum()))


def score_labels(gold: IntArray, predicted: IntArray, labels: Sequence[str]) -> list[LabelScore]:
    """The scores of each label, from gold and predicted places among them (rows,)."""
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, rows = precision_recall_fscore_support(
        gold, predicted, labels=np.arange(len(labels)), zero_division=np.nan
    )
    answers = np.bincount(predicted, minlength=len(labels))
    figures = [[None if np.isnan(value) else float(value) for value in each] for each in (precision, recall, f1)]
    return [
        LabelScore(label, int(count), int(given), *scores)
        for label, count, given, *scores in zip(labels, rows, answers, *figures, strict=True)
    ]


def list_confusions(gold: IntArray, predicted: IntArray, labels: Sequence[str]) -> list[Confusion]:
    """What is taken for what, the commonest first, from gold and predicted places among the labels (rows,)."""
    wrong = np.flatnonzero(gold != predicted)
    pairs = np.stack([gold[wrong], predicted[wrong]], axis=1)
    kinds, firsts, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    rows = np.bincount(gold, minlength=len(labels))
    found = [
        Confusion(labels[one], labels[other], int(count), int(rows[one]), int(wrong[first]))
        for (one, other), first, count in zip(kinds, firsts, counts, strict=True)
    ]
    return sorted(found, key=lambda each: (-each.count, each.rows, each.example))


def compare_models(first: ModelAnswers, second: ModelAnswers) -> PairedModels:
    """Two models' answers to the same rows; each may have labels of its own, told by their names."""
    sides = (first.gold, second.gold)
    known = list(dict.fromkeys(name for each in sides for name in each.names[: each.known]))
    names = [*known, *(name for name in first.gold.unknown if name not in known)]
    place = {name: number for number, name in enumerate(names)}
    gold, one, other = (
        np.array([place[each.gold.names[given]] for given in places], dtype=np.int64)
        for each, places in ((first, first.gold.places), (first, first.predicted), (second, second.predicted))
    )
    return compare_answers(gold, one, other, len(names), len(known))


def compare_answers(
    gold: IntArray, first: IntArray, second: IntArray, labels: int, known: int | None = None
) -> PairedModels:
    """Two models' answers to the same rows, as places among the labels (rows,) like the gold ones.

    Of the labels the first `known` can be answered by a model; all of them where None.
    A metric is better where its interval leaves 0 out, and an accuracy where McNemar's exact test is below 5 % too.
    """
    right, right_too = first == gold, second == gold
    alone, alone_too = int((right & ~right_too).sum()), int((right_too & ~right).sum())
    p = float(binomtest(alone, alone + alone_too).pvalue) if alone + alone_too else 1.0
    metrics = {}
    for name, (least, most) in RANGES.items():
        one, other = (_score(gold, side, labels, labels if known is None else known, name) for side in (first, second))
        difference = subtract({(0, ""): one}, {(0, ""): other})
        mean, reach, span = difference.mean, difference.reach(LEVEL / 2), most - least
        told = abs(mean) > reach and (name != "accuracy" or p <= LEVEL)
        better: Literal["first", "second"] | None = ("first" if mean > 0 else "second") if told else None
        ends = max(-span, mean - reach), min(span, mean + reach)
        metrics[name] = PairedScore(one.score, other.score, mean, *ends, better)
    both = int((right & right_too).sum())
    return PairedModels(metrics, both, alone, alone_too, len(gold) - both - alone - alone_too, p)


def _score(gold: IntArray, predicted: IntArray, labels: int, known: int, metric: str) -> DrawScore:
    """A metric of predicted places (rows,) against gold ones, among so many labels of which the first are known.

    No row of a label that is not known is ever answered right, so that none says how far the score may be off.
    """
    score = score_answers(DrawAnswers(gold, predicted[None], labels, np.arange(len(gold))), metric)
    answerable = np.arange(labels) < known
    return replace(score, tested=tuple(replace(each, weights=each.weights * answerable) for each in score.tested))
