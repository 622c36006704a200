"""Spread of scores: the interquartile mean, and the components of their variance.

Owns the interquartile mean (https://arxiv.org/abs/2108.13264) and variance components by analysis of variance (Searle,
Casella and McCulloch 1992, ISBN 978-0-471-62162-6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from fewtune.metrics.counts import FloatArray


@dataclass(frozen=True)
class Spread:
    """Standard deviations that each source alone gives a score; None where it has one level only.

    Where every cell has one fit seed, what fit seeds add stands in `draws`; what test rows add always does, where each
    draw has its own.
    """

    draws: float | None
    fit_seeds: float | None
    patterns: float | None


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Average the middle half of the values (runs,); below four values nothing is cut and it is the mean."""
    return float(stats.trim_mean(np.asarray(values, dtype=np.float64).ravel(), 0.25))


def split_spread(scores: Mapping[tuple[int, str], Sequence[float]]) -> Spread:
    """Split a score's variance into draws, fit seeds and patterns: scores[draw, pattern] = one value a fit seed.

    Fit seeds lie within draw and pattern, patterns cross draws; draws that lack a pattern are left out. Components are
    those of an analysis of variance, cut at 0.
    """
    patterns = sorted({pattern for _, pattern in scores})
    draws = [d for d in sorted({draw for draw, _ in scores}) if all((d, p) in scores for p in patterns)]
    cells = [[np.asarray(scores[d, p], dtype=np.float64) for p in patterns] for d in draws]
    flat = [cell for row in cells for cell in row]
    freedom = sum(len(cell) - 1 for cell in flat)
    within = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in flat) / freedom if freedom else None
    if not flat:
        return Spread(None, None, None)
    seeds = len(flat) / sum(1 / len(cell) for cell in flat)
    means = np.array([[cell.mean() for cell in row] for row in cells])
    unexplained = (within or 0.0) / seeds
    if min(means.shape) > 1:
        residual = means - means.mean(0) - means.mean(1)[:, None] + means.mean()
        unexplained = float((residual**2).sum()) / ((means.shape[0] - 1) * (means.shape[1] - 1))
    return Spread(
        draws=_component(means.mean(1), unexplained / len(patterns)),
        fit_seeds=None if within is None else float(np.sqrt(within)),
        patterns=_component(means.mean(0), unexplained / len(draws)),
    )


def _component(means: FloatArray, unexplained: float) -> float | None:
    """The standard deviation behind level means (levels,), whose variance holds `unexplained` besides."""
    return None if len(means) < 2 else float(np.sqrt(max(0.0, float(np.var(means, ddof=1)) - unexplained)))
