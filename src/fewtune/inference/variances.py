"""Variances over draws: moderated across methods, with the covariance of draws that share rows.

Owns the moderation (Smyth 2004, https://doi.org/10.2202/1544-6115.1027) and what shared labelled rows add to the
variance of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

FEWEST_VARIANCES = 5
"""From so many variances on, they moderate each other."""
MOST_BORROWED = 2
"""A variance borrows at most so many times the degrees of freedom that it has itself."""
LEAST_VARIANCE = 1e-12
"""Smaller variances are taken as this one where logarithms are."""
MOST_SHARED = 0.9
"""Supports that share more than this are taken to share so much: of supports that are all one, nothing can be said, as
the audit then tells."""


@dataclass(frozen=True)
class Moderation:
    """The prior of a variance, estimated from others like it: its mean, and its weight in degrees of freedom."""

    variance: float = 0.0
    freedom: float = 0.0

    def moderate(self, variance: float, freedom: float) -> tuple[float, float]:
        """A variance drawn towards the prior, and the degrees of freedom that it then has."""
        lent = min(self.freedom, MOST_BORROWED * freedom)
        if freedom + lent == 0:
            return variance, 0.0
        return (freedom * variance + lent * self.variance) / (freedom + lent), freedom + lent


NO_MODERATION = Moderation()


def estimate_moderation(variances: Sequence[float], freedoms: Sequence[float]) -> Moderation:
    """What several variances, each of so many degrees of freedom, say of each of them; nothing where they are few.

    They are taken to be spread about one variance by a scaled inverse chi-squared law. How alike they are says how much
    that one is worth: a few draws tell little of a variance, several methods on them far more.
    """
    known = [(variance, freedom) for variance, freedom in zip(variances, freedoms, strict=True) if freedom > 0]
    if len(known) < FEWEST_VARIANCES:
        return NO_MODERATION
    half = np.array([freedom for _, freedom in known]) / 2
    logs = np.log([max(LEAST_VARIANCE, variance) for variance, _ in known])
    centred = logs - special.digamma(half) + np.log(half)
    most = float(MOST_BORROWED * 2 * half.max())
    beyond = float(np.var(centred, ddof=1) - special.polygamma(1, half).mean())
    freedom = most
    if beyond > special.polygamma(1, most / 2):
        freedom = 2 * optimize.brentq(lambda x: float(special.polygamma(1, x)) - beyond, 1e-3, most / 2)
    centre = float(centred.mean() + special.digamma(freedom / 2) - np.log(freedom / 2))
    return Moderation(math.exp(centre), freedom)


def vary_by_shared_support(variance: float, row_variance: float, share: float) -> float:
    """What labelled rows that draws share add to the variance of their mean, however many draws there are.

    `variance` is that between draws, `row_variance` what of it the choice of test rows alone brings about. Of supports
    of k rows out of N any two share k/N on average. What a support does to a score is, to first order, a sum over its
    rows: k/N of its variance is common to all draws and does not show among them, what shows is the rest. So it is what
    draws differ by beyond their test rows, times k/N over 1 - k/N. Nadeau and Bengio (2003,
    https://doi.org/10.1023/A:1024068626366) correct for shared labelled and test rows at once; here the latter are seen
    to apart.
    """
    share = min(share, MOST_SHARED)
    return share / (1 - share) * max(0.0, variance - row_variance)
