"""Abstention: the probability below which a model gives no answer, so that those it gives are rarely wrong.

Owns how that probability is chosen. Rows are taken from the surest down, and the threshold stands where the risk of
those taken is still bounded at the stated confidence. The tests are made in that fixed order and end at the first that
fails, so that no error is spent on looking at many thresholds. Sources: Geifman and El-Yaniv 2017,
https://arxiv.org/abs/1705.08500 (selective risk); Angelopoulos et al. 2021, https://arxiv.org/abs/2110.01052 (tests in
a fixed order); Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404 (exact binomial bounds).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fewtune.errors import DataError
from fewtune.plurals import choose_verb, pluralise
from fewtune.predictors.manifest import AbstentionPart

CONFIDENCE = 0.95
FIRST_SHARE = 1 / 3
"""Share of the rows, the surest, that is tested first: where there are many, one early error does not end it."""


def choose_abstention(
    probabilities: np.ndarray, gold: npt.NDArray[np.int64], risk: float, confidence: float = CONFIDENCE
) -> AbstentionPart:
    """The lowest threshold that holds a risk, from probabilities (rows, labels) of rows that were not fitted on.

    Raises DataError where no threshold holds it: too few rows, or the surest answers are wrong too often.
    """
    from scipy.stats import beta, binom

    sure, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != gold
    order = np.argsort(-sure, kind="stable")
    taken, errors = np.arange(1, len(gold) + 1), np.cumsum(wrong[order])
    # A threshold takes all rows of equal probability, so only the last of each stands for one.
    ends = np.append(sure[order][1:] < sure[order][:-1], True)
    needed = count_rows_needed(risk, confidence)
    first = max(needed, int(len(gold) * FIRST_SHARE))
    holds = np.asarray(binom.cdf(errors, taken, risk)) <= 1 - confidence
    last = -1
    for place in np.flatnonzero(ends & (taken >= first)):
        if not holds[place]:
            break
        last = int(place)
    if last < 0:
        tested = np.flatnonzero(ends & (taken >= first))
        surest = int(tested[0]) if len(tested) else len(gold) - 1
        raise DataError(_format_failure(len(gold), needed, surest + 1, int(errors[surest]), risk))
    count = last + 1
    low = float(beta.ppf((1 - confidence) / 2, count, len(gold) - count + 1))
    high = 1.0 if count == len(gold) else float(beta.ppf((1 + confidence) / 2, count + 1, len(gold) - count))
    return AbstentionPart(
        risk=risk,
        confidence=confidence,
        threshold=float(sure[order][last]),
        coverage=count / len(gold),
        coverage_low=low,
        coverage_high=high,
        rows=len(gold),
        errors=int(errors[last]),
    )


def count_rows_needed(risk: float, confidence: float = CONFIDENCE) -> int:
    """Answers, all of them right, that bound a risk at a confidence: fewer can show nothing."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-risk))


def _format_failure(rows: int, needed: int, first: int, errors: int, risk: float) -> str:
    if rows < needed:
        were = choose_verb(rows, "was", "were")
        reason = (
            f"{pluralise(rows, 'row')} {were} answered and {needed} at least are needed, all of them answered right"
        )
    else:
        reason = f"of the {first} answers that it was surest of, {errors} were wrong: too many"
    return f"no threshold is known to hold a risk of {risk:g}: {reason}. Give more labelled rows, or a higher risk."
