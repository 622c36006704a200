"""Ranks candidates by their answers to held-out rows: scores, expected loss, the best bet.

Owns the comparison. The unit is the row: candidates answer the same rows, by the same folds, so that differences are
paired. What all candidates' scores may truly be is drawn from a normal distribution whose covariance is that of the
rows' effects, times INFLATION: folds share the rows that they are fitted on, so that answers vary together more than
rows alone say. A candidate that answered some of the rows is compared on these: there its answers take the place of
those of the candidate that answered most. Where that is worse, it is taken as often as there are rows to each of its
own; where it is better, once: many scores of a part are no scores of the whole, macro F1 above all.
The prior of candidates, from other files, is of differences alone: rows say all of the level.
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
from fewtune.fitting.prior import BASE, FLAT, Prior
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
    prior: Prior
    """What other files say of it, its gain scaled to the errors that are made here."""


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
    answered: Mapping[str, Answered],
    gold: npt.NDArray[np.int64],
    labels: int,
    metric: str,
    within: float,
    priors: Mapping[str, Prior] | None = None,
) -> Standings:
    """Compare candidates by their answers to rows whose labels are gold (rows,); at least one must be there.

    `priors` are of candidates by their names; others have a flat one.
    """
    names = list(answered)
    scores, effects, errors = _measure(answered, gold, labels, metric)
    lowest, highest = RANGES[metric]
    rows = max(len(each.places) for each in answered.values())
    base = float(scores[names.index(BASE)] if BASE in names else scores.max())
    error = _estimate_error((highest - base) / (highest - lowest), rows)
    expected = [(priors or {}).get(name, FLAT).scale_gain(error) for name in names]
    posterior = _weigh(
        _find_covariance(effects, [len(answered[name].places) for name in names]),
        (highest - lowest) * np.array([each.mean for each in expected]),
        (highest - lowest) * np.array([each.spread for each in expected]),
    )
    means = posterior.find_means(scores)
    draws = means + _draw(posterior.find_covariance(1.0))
    expected_losses, risks = _find_losses(draws, within)
    bet = int(expected_losses.argmin())
    gains = np.maximum(draws - draws[:, [bet]], 0).mean(axis=0)
    standings = [
        Standing(
            name=name,
            score=float(scores[place]),
            error=errors[place],
            rows=len(answered[name].places),
            expected_loss=float(expected_losses[place]),
            risk=float(risks[place]),
            gain=float(gains[place]),
            prior=expected[place],
        )
        for place, name in enumerate(names)
    ]
    standings.sort(key=lambda each: (each.name != names[bet], each.expected_loss))
    optimism = _find_optimism(posterior, means) if len(names) > 1 else 0.0
    return Standings(tuple(standings), optimism, _find_enough_rows(posterior, means, rows, within))


def _estimate_error(wrong: float, rows: int) -> float:
    """The share of all rows that are answered wrong, by the share of so many: never 0, though none of these is.

    Laplace's rule of succession: two rows are added, one of them wrong.
    """
    return (rows * wrong + 1) / (rows + 2)


def _find_losses(draws: np.ndarray, within: float) -> tuple[np.ndarray, np.ndarray]:
    """Expected losses and risks (candidates,) by what scores may truly be, (DRAWS, candidates)."""
    losses = draws.max(axis=1)[:, None] - draws
    return losses.mean(axis=0), (losses > within).mean(axis=0)


@dataclass(frozen=True)
class _Posterior:
    """How scores (candidates,) and what is expected of candidates join: inverse covariances of both, and the latter."""

    by_rows: np.ndarray
    """Of scores about what they truly are, (candidates, candidates)."""
    by_records: np.ndarray
    """Of what they truly are about `expected`, (candidates, candidates): of differences alone."""
    expected: np.ndarray

    def find_covariance(self, times: float) -> np.ndarray:
        """Of what scores may truly be, by so many times the rows."""
        covariance: np.ndarray = np.linalg.inv(times * self.by_rows + self.by_records)
        return covariance

    def find_means(self, scores: np.ndarray) -> np.ndarray:
        """What scores (…, candidates) are expected to be truly."""
        joined = scores @ self.by_rows + self.expected @ self.by_records
        means: np.ndarray = joined @ self.find_covariance(1.0)
        return means


def _weigh(covariance: np.ndarray, expected: np.ndarray, spreads: np.ndarray) -> _Posterior:
    weights = spreads**-2.0
    by_records = np.diag(weights)
    if weights.any():
        by_records = by_records - np.outer(weights, weights) / weights.sum()
    return _Posterior(np.linalg.inv(covariance), by_records, expected)


def _find_optimism(posterior: _Posterior, means: np.ndarray) -> float:
    """By how much the score of the one that is chosen is too high on average, where scores are truly `means`."""
    noise = _draw(np.linalg.inv(posterior.by_rows))
    chosen = posterior.find_means(means + noise).argmax(axis=1)
    return max(0.0, float(noise[np.arange(DRAWS), chosen].mean()))


def is_settled(expected_loss: float, risk: float, within: float) -> bool:
    """Whether a choice is expected to lose a sixth of the tolerance at most, at a risk of 5 % at most."""
    return expected_loss <= SHARE_LOST * within and risk <= MOST_RISK


def _find_enough_rows(posterior: _Posterior, means: np.ndarray, rows: int, within: float) -> int | None:
    """Rows by which a best bet is settled, if scores are then what they are expected to be now, `means`."""
    for times in TIMES:
        losses, risks = _find_losses(means + _draw(posterior.find_covariance(times)), within)
        bet = int(losses.argmin())
        if is_settled(float(losses[bet]), float(risks[bet]), within):
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


def _find_covariance(effects: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """Of scores about what they truly are, (candidates, candidates), by the effects of rows (candidates, rows).

    Two candidates differ by the weight of one row at the least: fewer rows than one show nothing less.
    """
    covariance: np.ndarray = INFLATION * effects @ effects.T + np.diag(0.5 * np.array(rows) ** -2.0)
    return covariance


def _draw(covariance: np.ndarray) -> np.ndarray:
    """Of a normal variable whose mean is 0, (DRAWS, candidates); by the same numbers every time."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    drawn: np.ndarray = np.random.default_rng(0).standard_normal((DRAWS, len(covariance))) @ root
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
