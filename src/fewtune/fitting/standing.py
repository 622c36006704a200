"""How candidates stand by what models fitted without each row made of it: scores, expected loss, the best bet.

Owns the comparison. The unit is the row: candidates answer the same rows, by the same folds, so that differences are
paired. What all candidates' scores may truly be is drawn from a normal distribution whose covariance is that of the
rows' effects, times INFLATION: folds share the rows that they are fitted on, so that answers vary together more than
rows alone say. A candidate that answered some of the rows is compared on these: there its answers take the place of
those of the candidate that answered most. Where that is worse, it is taken as often as there are rows to each of its
own; where it is better, once: many scores of a part are no scores of the whole, macro F1 above all.
Sources: Bates, Hastie and Tibshirani 2023, https://doi.org/10.1080/01621459.2023.2197686 (the variance of
cross-validation); Chick and Inoue 2001, https://doi.org/10.1287/opre.49.5.732.10615 (expected opportunity cost).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from fewtune.analysis.decision import MOST_RISK, SHARE_LOST
from fewtune.inference.scores import score_with_effects
from fewtune.metrics.counts import RANGES

INFLATION = 1.5
"""By how much the variance over rows understates that of a difference of cross-validated scores."""
TIMES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
MOST_TIMES = TIMES[-1]
"""As many rows as there are, so many times, are looked at for what would settle a choice."""
DRAWS = 4000
"""Of all candidates' scores, from which expected losses are means."""


@dataclass(frozen=True)
class Answered:
    """Some rows' places, and their log-probabilities (rows, labels) by models that had not seen them."""

    places: npt.NDArray[np.int64]
    log_probabilities: np.ndarray


@dataclass(frozen=True)
class Standing:
    """One candidate beside the others: its score, what choosing it is expected to lose and the risk of losing more."""

    name: str
    score: float
    """Of one that answered some rows what it is thought to be on all: no better on the others than the one that
    answered most.
    """
    error: float
    """Standard error of the score, of the choice of rows and of folds."""
    rows: int
    expected_loss: float
    risk: float
    gain: float
    """What it is expected to be above the best bet, where it is above at all: 0 of the best bet itself."""


@dataclass(frozen=True)
class Standings:
    """All candidates, the best bet first: the one of the least expected loss."""

    standings: tuple[Standing, ...]
    optimism: float
    """By how much the best of so many scores is too high, for being the best."""
    enough_rows: int | None
    """Rows like these by which a best bet is thought to be settled, if candidates stand to each other as they do now;
    None: more than MOST_TIMES as many as there are.
    """

    @property
    def best(self) -> Standing:
        return self.standings[0]

    def find(self, name: str) -> Standing:
        """The standing of that name."""
        return next(each for each in self.standings if each.name == name)


def compare(
    answered: Mapping[str, Answered], gold: npt.NDArray[np.int64], labels: int, metric: str, within: float
) -> Standings:
    """Compare candidates by their answers to rows whose labels are gold (rows,); at least one must be there."""
    names = list(answered)
    scores, effects, errors = _measure(answered, gold, labels, metric)
    draws = _draw(scores, effects, [len(answered[name].places) for name in names])
    best_of = draws.max(axis=1)
    losses = (best_of[:, None] - draws).mean(axis=0)
    risks = (best_of[:, None] - draws > within).mean(axis=0)
    bet = int(losses.argmin())
    gains = np.maximum(draws - draws[:, [bet]], 0).mean(axis=0)
    chosen = draws.argmax(axis=1)
    optimism = float((draws[np.arange(DRAWS), chosen] - scores[chosen]).mean()) if len(names) > 1 else 0.0
    standings = [
        Standing(
            name=name,
            score=float(scores[place]),
            error=errors[place],
            rows=len(answered[name].places),
            expected_loss=float(losses[place]),
            risk=float(risks[place]),
            gain=float(gains[place]),
        )
        for place, name in enumerate(names)
    ]
    standings.sort(key=lambda each: (each.name != names[bet], each.expected_loss))
    rows = max(len(each.places) for each in answered.values())
    return Standings(tuple(standings), max(0.0, optimism), _find_enough_rows(scores, draws - scores, rows, within))


def is_settled(expected_loss: float, risk: float, within: float) -> bool:
    """Whether a choice is expected to lose a sixth of the tolerance at most, at a risk of 5 % at most."""
    return expected_loss <= SHARE_LOST * within and risk <= MOST_RISK


def _find_enough_rows(scores: np.ndarray, off: np.ndarray, rows: int, within: float) -> int | None:
    """Rows by which a best bet of these scores (candidates,) is settled; draws are now `off` (DRAWS, candidates)."""
    for times in TIMES:
        draws = scores + off / math.sqrt(times)
        losses = draws.max(axis=1)[:, None] - draws
        bet = int(losses.mean(axis=0).argmin())
        if is_settled(float(losses[:, bet].mean()), float((losses[:, bet] > within).mean()), within):
            return math.ceil(times * rows)
    return None


def _measure(
    answered: Mapping[str, Answered], gold: npt.NDArray[np.int64], labels: int, metric: str
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Scores (candidates,), effects on them less those of the candidate all are compared with (candidates, rows), and
    standard errors of the scores themselves.
    """

    predicted = {name: np.zeros(len(gold), dtype=np.int64) for name in answered}
    for name, each in answered.items():
        predicted[name][each.places] = each.log_probabilities.argmax(axis=1)

    def score(places: npt.NDArray[np.int64], given: npt.NDArray[np.int64]) -> tuple[float, np.ndarray]:
        value, effects = score_with_effects(gold[places], given[places][None], labels, metric)
        spread = np.zeros(len(gold))
        spread[places] = effects
        return value, spread

    whole = {name: score(each.places, predicted[name]) for name, each in answered.items()}
    reference = max(answered, key=lambda name: (len(answered[name].places), whole[name][0]))
    places, (base, base_spread), (lowest, _) = answered[reference].places, whole[reference], RANGES[metric]
    scores, effects, errors = [], [], []
    for name, each in answered.items():
        value, spread = whole[name]
        difference = spread - base_spread
        if len(each.places) < len(places):
            mixed = predicted[reference].copy()
            mixed[each.places] = predicted[name][each.places]
            there, there_spread = score(places, mixed)
            times = len(places) / len(each.places)
            value = there if there > base else max(lowest, base + times * (there - base))
            own = (there_spread - base_spread)[each.places]
            difference = np.zeros(len(gold))
            difference[each.places] = times * (own - own.mean())
            spread = base_spread + difference
        scores.append(value)
        effects.append(difference)
        errors.append(math.sqrt(INFLATION * float((spread**2).sum()) + (1 / len(each.places)) ** 2 / 2))
    return np.array(scores), np.array(effects), errors


def _draw(scores: np.ndarray, effects: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """What scores (candidates,) may truly be, (DRAWS, candidates); the same draws every time.

    Two candidates differ by the weight of one row at the least: fewer rows than one show nothing less.
    """
    rng = np.random.default_rng(0)
    # The covariance's square root, so that a draw takes a number a candidate and not one a row.
    values, vectors = np.linalg.eigh(INFLATION * effects @ effects.T)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    by_row = rng.standard_normal((DRAWS, len(scores))) @ root
    alone = rng.standard_normal((DRAWS, len(scores))) / (math.sqrt(2) * np.array(rows))
    drawn: np.ndarray = scores + by_row + alone
    return drawn


def bound_score(score: float, error: float, rows: int, metric: str, level: float = 0.95) -> tuple[float, float]:
    """The ends of a score's interval: of an accuracy Wilson's, for as many rows as its error is worth, else normal."""
    reach = float(norm.ppf((1 + level) / 2))
    lowest, highest = RANGES[metric]
    if metric != "accuracy":
        return max(lowest, score - reach * error), min(highest, score + reach * error)
    effective = rows / INFLATION
    centre = (score + reach**2 / (2 * effective)) / (1 + reach**2 / effective)
    half = reach / (1 + reach**2 / effective)
    half *= math.sqrt(max(score * (1 - score), 0.0) / effective + reach**2 / (4 * effective**2))
    return max(0.0, centre - half), min(1.0, centre + half)
